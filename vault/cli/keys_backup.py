"""``strongroom keys backup``: a copy of a provider's keys, where the provider can make one."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vault.bootstrap.administering import backup_keys
from vault.cli.host import host_options, reports_misconfiguration
from vault.config import load_configuration


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--provider", metavar="NAME", help="Which [providers] table; not needed if only one can.")
@host_options
@reports_misconfiguration
def command(config: Path | None, data: Path | None, provider: str | None, file: Path) -> None:
    """Copy a provider's keys to the new FILE (mode 0600).

    Only type "file" can: the others keep their keys inside, and have backups of their own. Whoever has the copy and the
    database has the data; keep the two apart.
    """
    os.umask(0o077)
    name = backup_keys(load_configuration(config, data), file, provider)
    click.echo(f"Copied the keys of provider {name} to {file} (mode 0600)")
