"""``strongroom keys init``: make a configured keyring, on the vault's host."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vault import bootstrap
from vault.cli.host import host_options, reports_misconfiguration
from vault.config import load_configuration


@click.command("init")
@click.argument("keyring")
@host_options
@reports_misconfiguration
def command(config: Path | None, data: Path | None, keyring: str) -> None:
    """Make the keyring of the table [keyrings.KEYRING].

    Its key is made at the provider if it is missing; its index and MAC keys are made and sealed under it. The server may
    run meanwhile; it knows of the keyring when it was started with a configuration that names the provider.
    """
    os.umask(0o077)
    configuration = load_configuration(config, data)
    if bootstrap.init_keyring(configuration, keyring):
        section = configuration.settings.keyrings[keyring]
        click.echo(f"Made keyring {keyring}: key '{section.key}' of provider {section.provider}")
    else:
        click.echo(f"Keyring {keyring} is there already.")
