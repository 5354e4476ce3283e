"""``strongroom records export``: take records out, masked or plain, each of them audited."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import get_args

import click

from vault.cli.connection import Connection, connected
from vault.cli.inputs import COLLECTION
from vault.cli.moving.exporting import Export, ExportOptions, ExportSummary, Form
from vault.cli.moving.part import FilePart, Part, StreamPart
from vault.cli.moving.progress import Display, display
from vault.cli.moving.stopping import stop_on_signals
from vault.client import Reveal

_TIMEOUT_SECONDS = 60.0


@click.command("export", short_help="Take records out, as lines of JSON or CSV.")
@click.option("--collection", type=COLLECTION, default="users", show_default=True, help="Which records.")
@click.option("--output", type=click.Path(path_type=Path, allow_dash=True), required=True, metavar="FILE",
              help="A new file, packed if it ends with .gz; - is standard output.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(get_args(Form)),
              help="By the file's name if not given, else jsonl.")  # fmt: skip
@click.option("--reveal", type=click.Choice(["masked", "plain"]), default="masked", show_default=True,
              help="Values masked, or plain with a --purpose.")  # fmt: skip
@click.option("--fields", metavar="A,B", help="These fields only.")
@click.option("--spreadsheet", "is_spreadsheet", is_flag=True,
              help="In CSV, put ' before what a spreadsheet would take for a formula.")  # fmt: skip
@connected
def export_records(
    connection: Connection,
    collection: str,
    output: Path,
    form: Form | None,
    reveal: Reveal,
    fields: str | None,
    is_spreadsheet: bool,
) -> None:
    """Take all records of a collection out, with their tokens.

    Each record is audited as read. An export that was ended goes on with the same command. `records import --envelope`
    reads what was exported plain.

    Exit codes: 0 done, 1 stopped by an error, 2 wrong usage, 130 Ctrl-C.
    """
    if reveal == "plain" and not connection.purpose:
        raise click.UsageError(
            "Plain values go out only for a reason: pass --purpose PURPOSE (or STRONGROOM_PURPOSE) with --reveal plain."
        )
    names = None if fields is None else [name.strip() for name in fields.split(",") if name.strip()]
    form = form or ("csv" if output.with_suffix("").suffix == ".csv" or output.suffix == ".csv" else "jsonl")
    if is_spreadsheet and form != "csv":
        raise click.UsageError("--spreadsheet is about CSV.")
    options = ExportOptions(
        collection=collection, form=form, reveal=reveal, fields=names, is_spreadsheet=is_spreadsheet
    )
    is_stream = str(output) == "-"
    if is_stream and connection.as_json:
        raise click.UsageError("--json prints to standard output, too: pass --output FILE with it.")

    def open_part() -> Part:
        if is_stream:
            return StreamPart(sys.stdout.buffer)
        return FilePart(output, options.plan(connection.server))

    with (
        connection.open(timeout_seconds=_TIMEOUT_SECONDS, retries=0) as client,
        stop_on_signals() as stop,
    ):
        with display(as_json=connection.as_json) as shown:
            summary = Export(options, client, display=shown, stop=stop).run(open_part)
        with display(as_json=connection.as_json) as shown:
            _tell(shown, summary, options, output=None if is_stream else output)
        if not summary.is_finished:
            sys.exit(stop.exit_code)


def _tell(shown: Display, summary: ExportSummary, options: ExportOptions, *, output: Path | None) -> None:
    gone = f", {summary.gone:,} erased or expired meanwhile and left out" if summary.gone else ""
    counts = f"{summary.records:,} records exported {options.reveal}{gone}"
    members = {"records": summary.records, "gone": summary.gone, "seconds": round(summary.seconds, 3)}
    if not summary.is_finished:
        again = shlex.join(["strongroom", *sys.argv[1:]])
        how = f"To go on: {again}" if output is not None else "It cannot go on: that needs --output FILE."
        shown.say("stopped", f"Stopped: {counts} so far. {how}", **members)
        return
    shown.say("finished", f"{counts}, in {summary.seconds:.1f} s.", **members)
    if summary.formulas and not options.is_spreadsheet:
        shown.say(
            "formulas",
            f"{summary.formulas:,} cells begin as a formula does. Do not open this file in a spreadsheet: export once "
            "more with --spreadsheet for that.",
            cells=summary.formulas,
        )
