"""``strongroom records import``: move records in, from CSV or lines of JSON."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import click

from vault.cli.connection import Connection, connected
from vault.cli.failure import PROBLEM_FOUND
from vault.cli.inputs import COLLECTION
from vault.cli.moving.batches import MOST_ENTRIES
from vault.cli.moving.columns import SPECIAL
from vault.cli.moving.importing import Import, Summary
from vault.cli.moving.lines import check_encoding
from vault.cli.moving.options import Form, ImportOptions
from vault.cli.moving.progress import Display, display
from vault.cli.moving.source import Source
from vault.cli.moving.stopping import stop_on_signals

_TIMEOUT_SECONDS = 60.0
_MOST_PARALLEL = 16
_FORMS: dict[str, Form] = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_STANDARD_INPUT = Path("standard-input")
_file = click.Path(path_type=Path)


@click.command("import", short_help="Move records in, from CSV or lines of JSON.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--collection", type=COLLECTION, default="users", show_default=True, help="Where they go.")
@click.option("--format", "form", type=click.Choice(get_args(Form)),
              help="By the file's name (.csv, .tsv, .jsonl, .ndjson; .gz after it) if not given.")  # fmt: skip
@click.option("--map", "mapping", multiple=True, metavar="COLUMN=FIELD",
              help="What a column becomes: a field, a.b inside an object, @expires_at or @region.")  # fmt: skip
@click.option("--drop", "dropped", multiple=True, metavar="COLUMN", help="Leave a column out.")
@click.option("--envelope", "is_envelope", is_flag=True, help="The file is as `records export` writes it.")
@click.option("--region", metavar="REGION", help="Country (DE) of phone numbers that name none.")
@click.option("--encoding", default="utf-8", show_default=True, help="Of the text.")
@click.option(
    "--delimiter", metavar="CHARACTER", help="Between cells; , or, for .tsv, a tab.  [write tab for one]"
)
@click.option("--tokens", type=_file, metavar="FILE", help="Write line and token of each record to this CSV.")
@click.option("--key", metavar="COLUMN", help="Copy this column into the file of tokens, to join by.")
@click.option("--refused", "report", type=_file, metavar="FILE",
              help="Write refused lines here; FILE.refused.jsonl if not given.")  # fmt: skip
@click.option("--state", type=_file, metavar="FILE",
              help="Remember here how far it is; FILE.strongroom-import if not given.")  # fmt: skip
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Only tell what would be refused.")
@click.option("--batch", type=click.IntRange(1, MOST_ENTRIES), default=500, show_default=True,
              help="The most records in a request.")  # fmt: skip
@click.option("--parallel", type=click.IntRange(1, _MOST_PARALLEL), default=2, show_default=True,
              help="How many requests are on their way at once.")  # fmt: skip
@click.option("--resend", "is_resend", is_flag=True,
              help="After more than a day: send what the server may have forgotten again.")  # fmt: skip
@connected
def import_records(connection: Connection, file: Path, mapping: tuple[str, ...], **given: Any) -> None:
    """Move the records of FILE in; - is standard input.

    It can be ended at any moment, by whatever: the same command goes on where it was, and stores nothing twice.
    Lines that are refused are reported with their numbers, and do not hold up the others.

    Exit codes: 0 all imported, 1 stopped by an error, 2 wrong usage, 3 some lines were refused, 130 Ctrl-C.
    """
    options = _options(file, mapping, given)
    with (
        connection.open(timeout_seconds=_TIMEOUT_SECONDS, retries=0) as client,
        Source(options.source, sys.stdin.buffer) as source,
        stop_on_signals() as stop,
    ):
        with display(as_json=connection.as_json) as shown:
            run = Import(options, client, server=connection.server, display=shown, stop=stop)
            summary = run.run(source)
        with display(as_json=connection.as_json) as shown:
            _tell(shown, summary, options)
        if not summary.is_finished:
            sys.exit(stop.exit_code)
    if summary.refused:
        sys.exit(PROBLEM_FOUND)


def _options(file: Path, mapping: tuple[str, ...], given: dict[str, Any]) -> ImportOptions:
    source = None if str(file) == "-" else file
    form = given["form"] or _form_of(file)
    if form is None:
        raise click.UsageError("Pass --format csv or --format jsonl: the name of the file does not say it.")
    if given["is_dry_run"] and (given["tokens"] or given["state"]):
        raise click.UsageError("A dry run stores nothing: it takes neither --tokens nor --state.")
    if given["key"] is not None and given["tokens"] is None:
        raise click.UsageError("--key names a column for the file of tokens: pass --tokens FILE with it.")
    if form == "jsonl" and (mapping or given["dropped"] or given["delimiter"]):
        raise click.UsageError("--map, --drop and --delimiter are about columns; lines of JSON have none.")
    beside = file if source is not None else _STANDARD_INPUT
    report = _report(given["report"], beside, is_dry_run=given["is_dry_run"])
    state = _state(given["state"], source, is_dry_run=given["is_dry_run"])
    files = [each.absolute() for each in (source, given["tokens"], report, state) if each is not None]
    if len(set(files)) < len(files):
        raise click.UsageError("The file, --tokens, --refused and --state are files of their own.")
    return ImportOptions(
        source=source,
        form=form,
        collection=given["collection"],
        mapping=dict(_pair(each) for each in mapping),
        dropped=frozenset(given["dropped"]),
        is_envelope=given["is_envelope"],
        region=given["region"],
        encoding=check_encoding(given["encoding"]),
        delimiter=_delimiter(given["delimiter"], file),
        key=given["key"],
        tokens=given["tokens"],
        report=report,
        state=state,
        is_dry_run=given["is_dry_run"],
        batch=given["batch"],
        parallel=given["parallel"],
        is_resend=given["is_resend"],
    )


def _form_of(file: Path) -> Form | None:
    return _FORMS.get(_unpacked(file).suffix.lower())


def _unpacked(file: Path) -> Path:
    return file.with_suffix("") if file.suffix.lower() == ".gz" else file


def _pair(text: str) -> tuple[str, str]:
    # A column's name may hold a =; what it becomes does not.
    column, sign, target = text.rpartition("=")
    if not sign or not column or not all(target.split(".")):
        raise click.UsageError("--map is written COLUMN=FIELD, for example --map 'E-Mail=email'.")
    if target.startswith("@") and target not in SPECIAL:
        raise click.UsageError(f"--map knows {' and '.join(sorted(SPECIAL))}, and fields without an @.")
    return column, target


def _delimiter(given: str | None, file: Path) -> str:
    if given is None:
        return "\t" if _unpacked(file).suffix.lower() == ".tsv" else ","
    text = {"tab": "\t", "\\t": "\t"}.get(given, given)
    if len(text) != 1 or text in '"\r\n':
        raise click.UsageError("--delimiter is one character, or the word tab.")
    return text


def _report(given: Path | None, beside: Path, *, is_dry_run: bool) -> Path:
    if given is not None:
        return given
    report = beside.with_name(f"{beside.name}{'.dry-run' if is_dry_run else ''}.refused.jsonl")
    if is_dry_run:
        # Nobody but a dry run makes a file of this name, and only the newest is of interest.
        with suppress(OSError):
            report.unlink()
    return report


def _state(given: Path | None, source: Path | None, *, is_dry_run: bool) -> Path | None:
    if given is not None or source is None or is_dry_run:
        return given
    return source.with_name(f"{source.name}.strongroom-import")


def _tell(shown: Display, summary: Summary, options: ImportOptions) -> None:
    verb = "would be imported" if options.is_dry_run else "imported"
    rate = f", {summary.fresh / summary.seconds:,.0f}/s" if summary.fresh and summary.seconds else ""
    report = f" {options.report} says which and why." if summary.refused else ""
    members: dict[str, Any] = {
        "imported": summary.imported,
        "refused": summary.refused,
        "report": str(options.report) if summary.refused else None,
        "seconds": round(summary.seconds, 3),
        "dry_run": options.is_dry_run,
    }
    counts = f"{summary.imported:,} records {verb}, {summary.refused:,} refused"
    if summary.was_finished:
        shown.say(
            "finished",
            f"This import was finished before: {counts}.{report} Nothing was sent. To import the file once more, move "
            f"{options.state} away first; values that must be unique are then refused where they are stored.",
            **members,
        )
    elif summary.is_finished:
        shown.say("finished", f"{counts}, in {summary.seconds:.1f} s{rate}.{report}", **members)
        _tell_of_growth(shown, summary)
    else:
        shown.say(
            "stopped", f"Stopped: {counts} so far.{report} {_how_to_go_on(summary, options)}", **members
        )


def _how_to_go_on(summary: Summary, options: ImportOptions) -> str:
    if options.is_dry_run:
        return "Nothing was stored."
    if options.state is None:
        return "Nothing remembers how far it came: with --state FILE, standard input can be sent again and goes on."
    command = shlex.join(["strongroom", *sys.argv[1:]])
    unsettled = (
        ""
        if summary.is_settled
        else " Do so within 24 hours: what was on its way may be stored, and that is settled then."
    )
    return f"To go on: {command}{unsettled}"


def _tell_of_growth(shown: Display, summary: Summary) -> None:
    if not summary.grown_bytes:
        return
    half = (
        f" Line {summary.open_line} had no end when it was read and was imported as it stood: compare it."
        if summary.open_line
        else ""
    )
    shown.say(
        "grown",
        f"The file has grown by {summary.grown_bytes:,} bytes meanwhile. The same command imports the rest.{half}",
        bytes=summary.grown_bytes,
        line=summary.open_line or None,
    )
