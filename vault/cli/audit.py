"""``strongroom audit``: who did what, to which record, when and why."""

from __future__ import annotations

import functools
from itertools import islice
from typing import Any

import click

from vault.audit.events import Action, Result
from vault.cli.connection import Connection, connected
from vault.cli.inputs import COLLECTION, TIME, TOKEN, read_value, refuse_values
from vault.cli.output import print_json, print_table
from vault.client import AuditEntry, Person


@click.group()
def command() -> None:
    """Show who did what, when and why."""


@command.command("list", context_settings={"allow_extra_args": True})
@click.option("--principal", metavar="NAME", help="Who called.")
@click.option("--token", type=TOKEN, help="The record that was touched.")
@click.option("--person", nargs=2, metavar="COLLECTION FIELD",
              help="Everything about the person with this value, which comes from a prompt or standard input.")  # fmt: skip
@click.option(
    "--region", metavar="REGION", help="Country (DE) of the person's phone number, if it names none."
)
@click.option("--action", type=click.Choice([action.value for action in Action]), metavar="ACTION",
              help="What was done, for example record.read.")  # fmt: skip
@click.option("--result", type=click.Choice([result.value for result in Result]), metavar="RESULT",
              help="How it ended, for example refused.")  # fmt: skip
@click.option("--collection", type=COLLECTION, help="The record type.")
@click.option("--purpose", metavar="PURPOSE", help="What the caller said it was for.")
@click.option("--since", type=TIME, help="From this time on.")
@click.option("--until", type=TIME, help="Before this time.")
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True, metavar="N",
              help="Show at most N entries; 0 for all.")  # fmt: skip
@functools.partial(connected, says_purpose=False)
def list_entries(
    connection: Connection,
    person: tuple[str, str] | None,
    region: str | None,
    limit: int,
    **search: Any,
) -> None:
    """List audit entries, newest first. Every option given must fit."""
    refuse_values()
    someone = None
    if person is not None:
        someone = Person(collection=person[0], field=person[1], value=read_value(person[1]), region=region)
    elif region is not None:
        raise click.UsageError("--region belongs to --person.")
    with connection.open() as client:
        every = client.audit(person=someone, **search)
        shown = islice(every, limit or None)
        if connection.as_json:
            for entry in shown:
                print_json(entry)
        else:
            print_table(
                ["TIME", "PRINCIPAL", "ACTION", "RESULT", "COLLECTION", "TOKEN", "GEN", "FIELDS", "PURPOSE"],
                [_cells(entry) for entry in shown],
            )
        if limit and next(every, None) is not None:
            click.echo("There are more; --limit 0 shows all.", err=True)


def _cells(entry: AuditEntry) -> list[object]:
    result = entry.result if entry.reason is None else f"{entry.result}: {entry.reason}"
    return [
        entry.time,
        entry.principal or entry.address,
        entry.action if entry.count == 1 else f"{entry.action} x{entry.count}",
        result if entry.reveal is None else f"{result}, {entry.reveal}",
        entry.collection,
        entry.token,
        entry.generation,
        ",".join(entry.fields) or None,
        entry.purpose,
    ]
