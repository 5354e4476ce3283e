"""``strongroom serve``: open the vault and answer requests until stopped."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click

from vault import __version__, bootstrap
from vault.api.server import check_certificate, check_port_free, serve
from vault.bootstrap.supervising import child_worker
from vault.cli.child_server import strongroom_command
from vault.cli.host import host_options, reports_misconfiguration, show_credential
from vault.config import Configuration, load_configuration
from vault.core.errors import MisconfiguredError, UnavailableError
from vault.telemetry.logs import event_logger

_log = event_logger("strongroom.server")


@click.command("serve")
@host_options
@click.option("--listen", metavar="ADDRESS:PORT", help="Listen here instead of [server] listen.")
@reports_misconfiguration
def command(config: Path | None, data: Path | None, listen: str | None) -> None:
    """Run the vault server.

    Without --config: the embedded default, everything in one data folder, made on the first start.
    """
    os.umask(0o077)
    configuration = load_configuration(config, data, _overrides(listen))
    bootstrap.start_logs(configuration)
    listener = bootstrap.listener_of(configuration)
    check_certificate(listener)
    if not _exists_or_is_away(configuration):
        _make_vault(configuration)
    with bootstrap.only_server(configuration):
        check_port_free(listener)
        # Everything that can be wrong is found here, in one sentence, before any worker starts.
        _try_to_open(configuration)
        _announce(configuration, listener.workers)
        _log.info("server-started", pid=os.getpid(), workers=listener.workers, release=__version__)
        with bootstrap.shared_metrics(configuration), _background_worker(configuration):
            serve(bootstrap.application_loader(configuration), listener)
        # What was erased just before the end must not wait in the write-ahead log for the next start.
        bootstrap.scrub(configuration)
    _log.info("server-stopped", pid=os.getpid())


def _exists_or_is_away(configuration: Configuration) -> bool:
    try:
        return bootstrap.vault_exists(configuration)
    except UnavailableError:
        # Nobody makes a vault where one may be.
        return True


def _make_vault(configuration: Configuration) -> None:
    bootstrap.refuse_keys_that_vanish(configuration)
    try:
        credential = bootstrap.create_vault(configuration)
    except MisconfiguredError:
        if configuration.has_database_server and bootstrap.vault_exists(configuration):
            click.echo(
                "Another server, started with this one, made the vault; its administrator credential is shown there."
            )
            return
        raise
    click.echo(f"Made a new vault: {configuration.database_place}")
    show_credential(credential)


def _try_to_open(configuration: Configuration) -> None:
    try:
        bootstrap.open_vault(configuration).close()
    except UnavailableError as error:
        click.echo(
            f"{_what_is_away(error)} cannot be had just now ({_why(error)}). The server starts, answers 503, and goes on "
            "by itself when they can; /readyz says why it waits.",
            err=True,
        )


def _why(error: UnavailableError) -> object:
    return error if error.code == "store-unavailable" else error.__cause__ or error


def _what_is_away(error: UnavailableError) -> str:
    return "The database" if error.code == "store-unavailable" else "The keys"


def _background_worker(configuration: Configuration) -> AbstractContextManager[None]:
    if not configuration.settings.worker.with_server:
        return nullcontext()
    source = configuration.source
    home = ("--data", configuration.folder) if source is None else ("--config", source)
    admin = ("--admin",) if configuration.worker_administers else ()
    return child_worker(strongroom_command("worker", *home, *admin, "--server-pid", str(os.getpid())))


def _overrides(listen: str | None) -> dict[str, Any]:
    return {} if listen is None else {"server": {"listen": listen}}


def _announce(configuration: Configuration, workers: int) -> None:
    server = configuration.settings.server
    scheme = "https" if server.tls else "http"
    click.echo(
        f"strongroom serves {configuration.database_place} on {scheme}://{server.listen} ({workers} workers)"
    )
    click.echo(f"  API description: {scheme}://{server.listen}/docs     stop with Ctrl-C")
    if configuration.is_embedded:
        click.echo(
            "  note: key file and data lie side by side in this folder: whoever copies it has both. To part them, "
            "see docs/providers/file.md."
        )
    else:
        for name in bootstrap.keys_in_local_files(configuration):
            _log.warning("keys-in-local-file", provider=name)
            click.echo(
                f"  warning: provider {name} keeps its keys in a file of this machine: whoever becomes root here, or has "
                "a backup with it, has them. For keys that never leave their place: docs/providers/transit.md, pkcs11.md"
            )
