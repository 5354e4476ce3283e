"""The run of an export: list, read in batches, write down; and go on where an earlier run was ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from uuid import UUID

from vault.cli.connection import explained
from vault.cli.failure import Failure
from vault.cli.moving.envelope import DATA, MASKED, METADATA
from vault.cli.moving.part import Part, Position
from vault.cli.moving.patience import Patience, StoppedError
from vault.cli.moving.progress import Display, Meter
from vault.cli.moving.state import Plan
from vault.cli.moving.stopping import Stop
from vault.cli.moving.table import Table
from vault.cli.output import plain
from vault.client import Client, Get, Gone, NotFound, Record, Reveal, StrongroomError
from vault.core.documents import dump_json

PAGE = 500
"""Records that are read in one request."""

_TOO_MUCH = "answer-too-large"

Form: TypeAlias = Literal["csv", "jsonl"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What somebody who exports has asked for.

    Attributes:
        fields: only these; all if None.
        is_spreadsheet: see ``Table``.
    """

    collection: str
    form: Form
    reveal: Reveal
    fields: Sequence[str] | None = None
    is_spreadsheet: bool = False

    def plan(self, server: str) -> Plan:
        """Return what must be the same in every run of one export."""
        return Plan(
            server,
            self.collection,
            {
                "format": self.form,
                "reveal": self.reveal,
                "fields": None if self.fields is None else list(self.fields),
                "spreadsheet": self.is_spreadsheet,
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSummary:
    """How an export, or one run of it, ended.

    Attributes:
        records: written, by all runs.
        gone: left out, because they were erased or expired before they could be read.
        formulas: cells of this run that begin like a formula.
        is_finished: False if somebody stopped it.
    """

    records: int
    gone: int
    formulas: int
    seconds: float
    is_finished: bool


class Export:
    """One run of an export.

    Args:
        options: what is asked for.
        client: makes no tries of its own.
        display: shows how far it is.
        stop: set when somebody wants to stop.
    """

    def __init__(self, options: ExportOptions, client: Client, *, display: Display, stop: Stop) -> None:
        self._options = options
        self._client = client
        self._display = display
        self._stop = stop

    def run(self, open_part: Callable[[], Part]) -> ExportSummary:
        """Export what there is to export.

        Args:
            open_part: makes the place where it goes; called when the server has answered.

        Raises:
            Failure: the place or the server does not allow to go on; the sentence says what to do.
        """
        options = self._options
        collection = self._client.collection(options.collection)
        table = None
        if options.form == "csv":
            table = Table(
                collection.schema,
                options.fields,
                is_masked=options.reveal == "masked",
                is_spreadsheet=options.is_spreadsheet,
            )
        part = open_part()
        try:
            return self._write_all(part, table)
        finally:
            part.close()

    def _write_all(self, part: Part, table: Table | None) -> ExportSummary:
        begun = part.position
        meter = Meter(self._display, done=begun.records, refused=begun.gone, total=None)
        if not part.is_new:
            self._display.say("going-on", f"Going on after {begun.records:,} records.", done=begun.records)
        elif table is not None:
            part.add(table.heading(), begun)
        patience = Patience(self._stop, meter)
        try:
            while not part.position.is_whole and not self._stop.is_set():
                self._step(part, table, patience, meter)
        except StoppedError:
            pass
        except StrongroomError as error:
            said = explained(error)
            raise Failure(
                f"{said.message} {part.position.records:,} records are exported so far.",
                details=said.details,
                next_step=f"{said.next_step} Then run the same command again: it goes on where it stopped.",
                exit_code=said.exit_code,
            ) from error
        done = part.position
        if done.is_whole:
            part.finish()
        return ExportSummary(
            records=done.records,
            gone=done.gone,
            formulas=0 if table is None else table.formulas,
            seconds=meter.count.seconds,
            is_finished=done.is_whole,
        )

    def _step(self, part: Part, table: Table | None, patience: Patience, meter: Meter) -> None:
        """Export one page."""
        before = part.position
        page = patience.insist(
            lambda: self._client.list_page(self._options.collection, cursor=before.cursor, page_size=PAGE)
        )
        records = self._read([record.token for record in page.items], patience)
        lines = [table.row(_envelope(each)) if table else _json_line(each) for each in records]
        gone = len(page.items) - len(records)
        position = Position(
            page.next_cursor, before.records + len(records), before.gone + gone, page.next_cursor is None
        )
        part.add("".join(lines), position)
        meter.add(done=len(records), refused=gone)

    def _read(self, tokens: Sequence[UUID], patience: Patience) -> list[Record]:
        """Return the records that are still there."""
        found: list[Record] = []
        waiting = list(tokens)
        while waiting:
            found_now, waiting = self._read_some(waiting, patience)
            found += found_now
        return found

    def _read_some(self, tokens: list[UUID], patience: Patience) -> tuple[list[Record], list[UUID]]:
        options = self._options
        operations = [Get(token, reveal=options.reveal, fields=options.fields) for token in tokens]
        result = patience.insist(lambda: self._client.bulk(options.collection, operations))
        found: list[Record] = []
        left: list[UUID] = []
        for token, item in zip(tokens, result.items, strict=True):
            match item.error:
                case None if item.record is not None:
                    found.append(item.record)
                case Gone() | NotFound():
                    pass
                case StrongroomError(code=code) if code == _TOO_MUCH and found:
                    left.append(token)
                case StrongroomError() as error:
                    raise error
        return found, left


def _envelope(record: Record) -> dict[str, Any]:
    document = {name: plain(getattr(record, name)) for name in METADATA} | {DATA: record.data}
    return document | ({MASKED: list(record.masked)} if record.masked else {})


def _json_line(record: Record) -> str:
    return dump_json(_envelope(record)).decode() + "\n"
