"""Where the vault is and how it is reached: configuration file, address, TLS."""

from __future__ import annotations

import ipaddress
import shlex
import stat
from pathlib import Path

from vault.api.server import check_certificate
from vault.bootstrap.serving import listener_of
from vault.cli.doctor.findings import Code, Finding, Patient, fine
from vault.core.errors import MisconfiguredError

CHECK = "configuration"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def invalid(config: Path | None, error: MisconfiguredError) -> Finding:
    """Say that the configuration cannot be used."""
    mend = "correct the environment variable" if config is None else f"$EDITOR {shlex.quote(str(config))}"
    return Finding(CHECK, Code.CONFIGURATION_INVALID, error.detail, mend)


def check(patient: Patient) -> list[Finding]:
    """Look at the configuration itself."""
    configuration = patient.configuration
    found = _writable(configuration.source) if configuration.source else []
    server = configuration.settings.server
    if server.tls is None and not ipaddress.ip_address(server.host).is_loopback:
        found.append(
            Finding(
                CHECK,
                Code.INSECURE_HTTP,
                f"The server answers plain HTTP on {server.listen}: safe only if something in front of it ends TLS and "
                "nobody else reaches the port.",
                "set [server.tls], or listen on 127.0.0.1",
            )
        )
    try:
        check_certificate(listener_of(configuration))
    except MisconfiguredError as error:
        found.append(
            Finding(CHECK, Code.TLS_UNUSABLE, error.detail, "correct [server.tls] certificate and key")
        )
    if not configuration.has_database_server and not configuration.database_path.exists():
        found.append(
            Finding(
                CHECK,
                Code.VAULT_MISSING,
                f"There is no vault at {configuration.database_path}.",
                patient.command("init"),
            )
        )
    where = configuration.source or f"the embedded default in {configuration.folder}"
    return found or [fine(CHECK, f"{where} is valid")]


def _writable(source: Path) -> list[Finding]:
    if not source.stat().st_mode & _WRITABLE_BY_OTHERS:
        return []
    return [
        Finding(
            CHECK,
            Code.CONFIGURATION_WRITABLE,
            f"Others than its owner can write to {source}: they decide where keys and records lie.",
            f"chmod go-w {shlex.quote(str(source))}",
        )
    ]
