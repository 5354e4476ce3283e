"""``strongroom keys passphrase``: lock a key file, change what locks it, or unlock it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from keyproviders.interface import SecretBytes
from vault.bootstrap.administering import change_passphrase
from vault.cli.failure import Failure
from vault.cli.host import host_options, reports_misconfiguration
from vault.config import load_configuration

_MOST_BYTES = 4096


@click.command("passphrase")
@click.option("--provider", metavar="NAME", help="Which [providers] table; not needed if only one can.")
@click.option(
    "--new",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Holds the new passphrase. Without it: a prompt, or standard input.",
)
@click.option("--none", "is_none", is_flag=True, help="Keep the keys in the clear from now on.")
@host_options
@reports_misconfiguration
def command(
    config: Path | None, data: Path | None, provider: str | None, file: Path | None, is_none: bool
) -> None:
    """Change the passphrase of a key file. The keys, and all that they wrapped, stay as they are.

    Copies of the file from before open with the passphrase of then.
    """
    if is_none and file is not None:
        raise click.UsageError("--new FILE and --none exclude each other")
    os.umask(0o077)
    new = None if is_none else SecretBytes(_read(file))
    name = change_passphrase(load_configuration(config, data), new, provider)
    if is_none:
        click.echo(
            f"The keys of provider {name} lie in the clear now. Next: take passphrase out of [providers.{name}]."
        )
        return
    place = 'file = "PATH"' if file is None else f'file = "{file.absolute()}"'
    click.echo(
        f"The keys of provider {name} are locked by the new passphrase. Next, in [providers.{name}]: "
        f"passphrase = {{ {place} }}"
    )


def _read(file: Path | None) -> bytes:
    if file is not None:
        return file.read_bytes().rstrip(b"\r\n")
    if sys.stdin.isatty():
        typed: str = click.prompt("New passphrase", hide_input=True, confirmation_prompt=True, err=True)
        return typed.encode()
    piped = sys.stdin.buffer.read(_MOST_BYTES + 1).rstrip(b"\r\n")
    if not piped or len(piped) > _MOST_BYTES:
        raise Failure("Standard input must hold the new passphrase alone, on one line.")
    return piped
