"""``strongroom database``: schema upgrades."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from vault import bootstrap
from vault.cli.host import host_options, reports_misconfiguration
from vault.config import load_configuration


@click.group("database")
def command() -> None:
    """Look after the database."""


@command.command("upgrade")
@host_options
@click.option("--plan", "mode", flag_value="plan", help="Name the steps that are waiting.")
@click.option("--apply", "mode", flag_value="apply", help="Run them. Back up first.")
@reports_misconfiguration
def upgrade(config: Path | None, data: Path | None, mode: str | None) -> None:
    """Bring the database to this release's schema."""
    if mode is None:
        raise click.UsageError("Say --plan or --apply.")
    configuration = load_configuration(config, data)
    steps = bootstrap.upgrade_database(configuration, apply=mode == "apply")
    if not steps:
        click.echo("The database has this release's schema.")
        sys.exit(0)
    for step in steps:
        click.echo(f"{'applied' if mode == 'apply' else 'waiting'}: {step}")
