"""``strongroom init``: make a vault, or replace a lost administrator credential."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vault import bootstrap
from vault.cli.host import host_options, reports_misconfiguration, reserved_file, show_credential
from vault.config import Configuration, load_configuration
from vault.core.credentials import NewCredential


@click.command("init")
@host_options
@click.option(
    "--credential-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the credential to this new file (mode 0600) instead of showing it.",
)
@click.option(
    "--new-credential",
    is_flag=True,
    help="In an existing vault: revoke the administrator's credentials and make a new one (audited).",
)
@reports_misconfiguration
def command(
    config: Path | None, data: Path | None, credential_file: Path | None, new_credential: bool
) -> None:
    """Make a new vault and its first administrator credential."""
    os.umask(0o077)
    configuration = load_configuration(config, data)
    make = _replace_credential if new_credential else _create
    if credential_file is None:
        show_credential(make(configuration))
    else:
        with reserved_file(credential_file) as write:
            write(make(configuration).text + "\n")
        click.echo(f"Administrator credential: {credential_file} (mode 0600)")
    if not new_credential:
        click.echo(f"Next: {configuration.command('serve')}")


def _create(configuration: Configuration) -> NewCredential:
    bootstrap.refuse_keys_that_vanish(configuration)
    credential = bootstrap.create_vault(configuration)
    click.echo(f"Made a new vault: {configuration.database_place}")
    return credential


def _replace_credential(configuration: Configuration) -> NewCredential:
    vault = bootstrap.open_vault(configuration)
    try:
        credential = vault.administrators.replace()
    finally:
        vault.close()
    click.echo("Revoked the administrator's earlier credentials; the access log has it.")
    return credential
