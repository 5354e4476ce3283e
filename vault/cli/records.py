"""``strongroom records``: store, read, find, change and erase records over REST."""

from __future__ import annotations

import sys
from datetime import datetime
from itertools import islice
from typing import IO
from uuid import UUID

import click

from vault.cli.connection import Connection, connected
from vault.cli.inputs import COLLECTION, TIME, TOKEN, read_document, read_value, refuse_values
from vault.cli.output import print_fields, print_json, print_table
from vault.cli.records_export import export_records
from vault.cli.records_import import import_records
from vault.client import Record, RecordMetadata, Reveal

_reveal_option = click.option("--reveal", type=click.Choice(["masked", "plain"]), default="masked", show_default=True,
                              help="Show values masked or plain; the vault audits both.")  # fmt: skip
_fields_option = click.option("--fields", metavar="A,B", help="Show these fields only.")
_region_option = click.option(
    "--region", metavar="REGION", help="Country (DE) of phone numbers that name none."
)
_data_option = click.option("--data", "file", type=click.File("rb"), default="-", metavar="FILE",
                            help="JSON object; standard input if not given.")  # fmt: skip

_if_match_option = click.option("--if-match", metavar="ETAG",
                                help="Only if the record still has this ETag, as get shows it; * for any.")  # fmt: skip


@click.group()
def command() -> None:
    """Store, read, find, change and erase records."""


command.add_command(import_records)
command.add_command(export_records)


@command.command()
@click.argument("collection", type=COLLECTION)
@_data_option
@click.option("--expires-at", type=TIME, help="From this time on the record answers 410.")
@_region_option
@connected
def create(
    connection: Connection, collection: str, file: IO[bytes], expires_at: datetime | None, region: str | None
) -> None:
    """Store a record and print its token."""
    data = read_document(file, what="the record")
    with connection.open() as client:
        created = client.create(collection, data, expires_at=expires_at, region=region)
    _print_metadata(created, as_json=connection.as_json)


@command.command()
@click.argument("collection", type=COLLECTION)
@click.argument("token", type=TOKEN)
@_reveal_option
@_fields_option
@click.option("--generation", type=click.IntRange(min=1), metavar="N", help="An earlier generation.")
@connected
def get(
    connection: Connection,
    collection: str,
    token: UUID,
    reveal: Reveal,
    fields: str | None,
    generation: int | None,
) -> None:
    """Read a record by its token."""
    with connection.open() as client:
        record = client.get(collection, token, reveal=reveal, fields=_names(fields), generation=generation)
    _print_record(record, as_json=connection.as_json)


@command.command("list")
@click.argument("collection", type=COLLECTION)
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True, metavar="N",
              help="Show at most N records; 0 for all.")  # fmt: skip
@connected
def list_records(connection: Connection, collection: str, limit: int) -> None:
    """List the records of a collection, without their content."""
    with connection.open() as client:
        every = client.list(collection)
        shown = islice(every, limit or None)
        if connection.as_json:
            for record in shown:
                print_json(record)
        else:
            print_table(
                ["TOKEN", "GENERATION", "CREATED", "UPDATED", "EXPIRES"],
                [[r.token, r.generation, r.created_at, r.updated_at, r.expires_at] for r in shown],
            )
        if limit and next(every, None) is not None:
            click.echo("There are more; --limit 0 shows all.", err=True)


@command.command(short_help="Find records by an indexed field.", context_settings={"allow_extra_args": True})
@click.argument("collection", type=COLLECTION)
@click.argument("field")
@_region_option
@_reveal_option
@_fields_option
@connected
def lookup(
    connection: Connection,
    collection: str,
    field: str,
    region: str | None,
    reveal: Reveal,
    fields: str | None,
) -> None:
    """Find records by an indexed field; the value comes from a prompt or standard input."""
    refuse_values()
    value = read_value(field)
    found = False
    with connection.open() as client:
        for record in client.lookup(
            collection, field, value, region=region, reveal=reveal, fields=_names(fields)
        ):
            if found and not connection.as_json:
                click.echo()
            found = True
            _print_record(record, as_json=connection.as_json)
    if not found:
        click.echo(f"No record of {collection} has this {field}.", err=True)


@command.command(short_help="Change some fields of a record.")
@click.argument("collection", type=COLLECTION)
@click.argument("token", type=TOKEN)
@_data_option
@_if_match_option
@connected
def update(
    connection: Connection, collection: str, token: UUID, file: IO[bytes], if_match: str | None
) -> None:
    """Change some fields of a record: a JSON merge patch, in which null removes a field."""
    changes = read_document(file, what="the change")
    with connection.open() as client:
        updated = client.patch(collection, token, changes, if_match=if_match)
    _print_metadata(updated, as_json=connection.as_json)


@command.command()
@click.argument("collection", type=COLLECTION)
@click.argument("token", type=TOKEN)
@click.option("--yes", is_flag=True, help="Do not ask.")
@_if_match_option
@connected
def erase(connection: Connection, collection: str, token: UUID, yes: bool, if_match: str | None) -> None:
    """Erase a record for good, its data key with it."""
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("Nobody is there to confirm: pass --yes to erase without asking.")
        click.confirm(f"Erase record {token} of {collection} for good?", abort=True, err=True)
    with connection.open() as client:
        client.erase(collection, token, if_match=if_match)
    if connection.as_json:
        print_json({"token": token, "collection": collection, "erased": True})
    else:
        click.echo(f"Erased {token}.")


def _names(fields: str | None) -> list[str] | None:
    return None if fields is None else [name.strip() for name in fields.split(",") if name.strip()]


def _metadata_pairs(record: RecordMetadata) -> list[tuple[str, object]]:
    pairs: list[tuple[str, object]] = [
        ("token", record.token),
        ("collection", record.collection),
        ("generation", record.generation),
        ("schema version", record.schema_version),
        ("created", record.created_at),
        ("updated", record.updated_at),
        ("expires", record.expires_at),
    ]
    return pairs if record.etag is None else [*pairs, ("etag", record.etag)]


def _print_metadata(record: RecordMetadata, *, as_json: bool) -> None:
    if as_json:
        print_json(record)
    else:
        print_fields(_metadata_pairs(record))


def _print_record(record: Record, *, as_json: bool) -> None:
    if as_json:
        print_json(record)
        return
    print_fields([*_metadata_pairs(record), ("data", record.reveal)])
    print_fields(record.data.items(), indent=2)
