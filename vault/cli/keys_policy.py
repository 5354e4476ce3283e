"""``strongroom keys policy``: what the vault's roles need at a provider, for its administrator to grant."""

from __future__ import annotations

from pathlib import Path

import click

from vault.bootstrap.policies import policies_of
from vault.cli.host import host_options, reports_misconfiguration
from vault.config import load_configuration


@click.command("policy")
@click.option("--provider", metavar="NAME", help="Which [providers] table; not needed if only one has any.")
@click.option(
    "--role",
    type=click.Choice(["runtime", "administration"]),
    default="runtime",
    show_default=True,
    help="For the server and plain workers, or for strongroom worker --admin.",
)
@host_options
@reports_misconfiguration
def command(config: Path | None, data: Path | None, provider: str | None, role: str) -> None:
    """Print the least privileges that the keyrings of a transit provider need there."""
    click.echo(policies_of(load_configuration(config, data), provider, role), nl=False)
