"""``scripts/dev-transit``: an OpenBao server to try the transit provider with, and the configuration that uses it."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import click

from keyproviders.errors import KeyProviderError, ProviderMisconfiguredError
from keyproviders.interface import ProviderSettings
from keyproviders.registry import open_administration
from keyproviders.transit_policies import PolicyKind, policy
from vault.cli.dev_openbao import OpenBao
from vault.cli.failure import Failure
from vault.core.stop_signal import StopSignal

_MOUNT = "transit"
_DEFAULT_KEY = "records"
_DEFAULT_PORT = 8200
# Long enough that a token is renewed in front of somebody who watches, short enough to see it.
_LASTS = "10m"
_ROLES = {PolicyKind.RUNTIME: "strongroom", PolicyKind.ADMINISTRATION: "strongroom-admin"}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default="strongroom-transit")
@click.option("--port", type=click.IntRange(1024, 65_534), default=_DEFAULT_PORT, show_default=True)
@click.option("--key", default=_DEFAULT_KEY, show_default=True, help="The key to make.")
def command(folder: Path, port: int, key: str) -> None:
    """Run OpenBao on loopback with TLS, a transit engine, both policies and an AppRole for each; Ctrl-C ends it.

    For trying things out only: what unseals it lies in the folder. A second start goes on with the same keys.
    """
    server = OpenBao(folder, port=port, cluster_port=port + 1)
    stop = StopSignal()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: stop.set())
    try:
        server.start()
        _prepare(server)
        secrets = {kind: _role(server, kind, key) for kind in PolicyKind}
        _make_key(server, secrets, key)
        click.echo(_configuration(server, secrets, key))
        click.echo(f"# OpenBao runs at {server.url}, its log is {server.log}. Ctrl-C ends it.", err=True)
        while not stop.wait(0.5):
            if not server.is_running:
                raise Failure(f"OpenBao ended by itself; its log: {server.log}")
    finally:
        server.stop()


def _prepare(server: OpenBao) -> None:
    _, mounts = server.request("GET", "sys/mounts")
    if f"{_MOUNT}/" not in mounts:
        server.write(f"sys/mounts/{_MOUNT}", type="transit")
        # The third wall against a mistyped name, after the policy and the provider's own look-up.
        server.write(f"{_MOUNT}/config/keys", disable_upsert=True)
        server.write("sys/auth/approle", type="approle")


def _role(server: OpenBao, kind: PolicyKind, key: str) -> tuple[str, Path]:
    """Make a role with the shipped policy, and its secret id in a private file."""
    try:
        text = policy(kind, _MOUNT, key)
    except ValueError as error:
        raise Failure(str(error)) from error
    role_id, secret_id = server.make_role(_ROLES[kind], text, token_ttl=_LASTS)
    path = server.folder / f"{kind.value}-secret-id"
    path.touch(0o600)
    path.write_text(secret_id + "\n")
    return role_id, path


def _auth(role_id: str, secret: Path) -> str:
    return f'{{ method = "approle", role_id = "{role_id}", secret_id = {{ file = "{secret}" }} }}'


def _make_key(server: OpenBao, secrets: dict[PolicyKind, tuple[str, Path]], key: str) -> None:
    """Make the key the way ``strongroom worker --admin`` would; it may be there from the last time."""
    role_id, secret = secrets[PolicyKind.ADMINISTRATION]
    auth = {"method": "approle", "role_id": role_id, "secret_id": {"file": str(secret)}}
    options = {"url": server.url, "ca": str(server.ca), "mount": _MOUNT}
    try:
        administration = open_administration(
            "transit", ProviderSettings("bao", options, server.folder, {"auth": auth})
        )
        with suppress(ProviderMisconfiguredError):
            administration.create(key)
        administration.close()
    except KeyProviderError as error:
        raise Failure(str(error)) from error


def _configuration(server: OpenBao, secrets: dict[PolicyKind, tuple[str, Path]], key: str) -> str:
    return f"""\
[providers.bao]
type = "transit"
url = "{server.url}"
ca = "{server.ca}"
mount = "{_MOUNT}"
auth = {_auth(*secrets[PolicyKind.RUNTIME])}

# Read by administration only: strongroom init, strongroom worker --admin.
[providers.bao.admin]
auth = {_auth(*secrets[PolicyKind.ADMINISTRATION])}

[keyrings.default]
provider = "bao"
key = "{key}"
"""


if __name__ == "__main__":
    command(prog_name="dev-transit")
