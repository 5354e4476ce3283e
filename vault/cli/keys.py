"""``strongroom keys``: the keyrings, their versions, and what depends on each."""

from __future__ import annotations

import click

from vault.cli.connection import Connection, connected
from vault.cli.output import print_json, print_table


@click.group()
def command() -> None:
    """Show the keys and what depends on them."""


@command.command("list")
@connected
def list_keys(connection: Connection) -> None:
    """List every key version with the number of things that need it."""
    with connection.open() as client:
        keyrings = client.keyrings()
    if connection.as_json:
        for keyring in keyrings:
            print_json(keyring)
        return
    print_table(
        [
            "KEYRING",
            "VERSION",
            "STATE",
            "PROVIDER",
            "ALGORITHM",
            "CREATED",
            "RECORDS",
            "HISTORY",
            "STORED KEYS",
        ],
        [
            [
                keyring.name,
                version.version,
                f"{version.state}, compromised" if version.compromised else version.state,
                version.provider,
                version.algorithm,
                version.created_at,
                version.records,
                version.history,
                version.stored_keys,
            ]
            for keyring in keyrings
            for version in keyring.versions
        ],
    )
