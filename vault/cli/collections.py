"""``strongroom collections``: show and define record types."""

from __future__ import annotations

from typing import IO, Any

import click

from vault.cli.connection import Connection, connected
from vault.cli.inputs import COLLECTION, read_document
from vault.cli.output import print_fields, print_json, print_table
from vault.client import CollectionInfo


@click.group()
def command() -> None:
    """Show and define record types."""


@command.command("list")
@connected
def list_collections(connection: Connection) -> None:
    """List the record types."""
    with connection.open() as client:
        found = list(client.collections())
    if connection.as_json:
        for collection in found:
            print_json(collection)
        return
    print_table(
        ["NAME", "SCHEMA VERSION", "FIELDS", "KEYRING", "UPDATED"],
        [
            [
                c.name,
                c.schema_version,
                ", ".join(c.schema.get("properties", {})) or None,
                c.keyring,
                c.updated_at,
            ]
            for c in found
        ],
    )


@command.command(short_help="Show a record type.")
@click.argument("name", type=COLLECTION)
@connected
def show(connection: Connection, name: str) -> None:
    """Show a record type: its fields, how they are indexed and masked, its settings."""
    with connection.open() as client:
        found = client.collection(name)
    _print_collection(found, as_json=connection.as_json)


@command.command()
@click.argument("name", type=COLLECTION)
@click.option("--schema", "schema_file", type=click.File("rb"), required=True, metavar="FILE",
              help="JSON Schema with x-index, x-normalize and x-mask; - for standard input.")  # fmt: skip
@click.option("--settings", "settings_file", type=click.File("rb"), metavar="FILE",
              help="Settings as a JSON object; the options below win over it.")  # fmt: skip
@click.option("--strict/--no-strict", default=None, help="Refuse fields that the schema does not declare.")
@click.option(
    "--history", type=click.IntRange(min=0), metavar="N", help="Keep N earlier generations readable."
)
@click.option(
    "--purpose-required/--no-purpose-required", default=None, help="Refuse calls without a purpose."
)
@click.option(
    "--if-match-required/--no-if-match-required", default=None, help="Refuse writes without If-Match."
)
@click.option("--default-region", metavar="REGION", help="Country (DE) of phone numbers that name none.")
@click.option("--keyring", metavar="NAME", help="The keyring that seals its records.")
@connected
def define(  # one for each option
    connection: Connection,
    name: str,
    schema_file: IO[bytes],
    settings_file: IO[bytes] | None,
    keyring: str | None,
    **flags: Any,
) -> None:
    """Define the record type NAME, or give it a new schema version."""
    schema = read_document(schema_file, what="the schema")
    settings = {} if settings_file is None else read_document(settings_file, what="the settings")
    settings |= {flag: value for flag, value in flags.items() if value is not None}
    with connection.open() as client:
        defined = client.define_collection(name, schema, settings=settings or None, keyring=keyring)
    _print_collection(defined, as_json=connection.as_json)


def _print_collection(found: CollectionInfo, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    settings = found.settings
    print_fields(
        [
            ("name", found.name),
            ("schema version", found.schema_version),
            ("keyring", found.keyring),
            ("created", found.created_at),
            ("updated", found.updated_at),
            ("strict", settings.strict),
            ("history", settings.history),
            ("purpose required", settings.purpose_required),
            ("if-match required", settings.if_match_required),
            ("default region", settings.default_region),
        ]
    )
    properties = found.schema.get("properties")
    if not isinstance(properties, dict) or not properties:
        return
    click.echo()
    required = found.schema.get("required", ())
    print_table(
        ["FIELD", "TYPE", "REQUIRED", "INDEX", "NORMALISED AS", "MASK"],
        [
            [
                field,
                _type_of(rules),
                field in required,
                rules.get("x-index"),
                rules.get("x-normalize"),
                rules.get("x-mask", "all"),
            ]
            for field, rules in properties.items()
            if isinstance(rules, dict)
        ],
    )


def _type_of(rules: dict[str, Any]) -> str | None:
    types = rules.get("type")
    return " or ".join(map(str, types)) if isinstance(types, list) else types
