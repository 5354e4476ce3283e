"""A whole vault from one database into another: what is copied, when that may begin, and when it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vault.core.errors import MisconfiguredError, UnavailableError
from vault.core.job_ports import MICROSECONDS, ProcessRow
from vault.storage import schema
from vault.storage.copying import Digest, TableRows, compare
from vault.storage.engine import Engine
from vault.storage.jobs import names_of
from vault.storage.statements import Statement
from vault.storage.tables import (
    MODELS,
    AuditTable,
    JobLeaseTable,
    KeyringTable,
    ProcessTable,
    VaultEpochTable,
)

LEFT_BEHIND: tuple[Any, ...] = (ProcessTable, JobLeaseTable)
"""Who is at work, and on which job: true of the processes of the old database only, and all of them have ended."""
COPIED: tuple[Any, ...] = tuple(model for model in MODELS if model not in LEFT_BEHIND)
_OURS_BESIDE = {schema.HISTORY_TABLE, "sqlite_sequence"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One table on both sides.

    Attributes:
        table: which.
        source: what it holds there.
        target: what it holds here.
        first_difference: the id of the first row that differs; None if none does.
    """

    table: str
    source: Digest
    target: Digest
    first_difference: int | None

    @property
    def is_same(self) -> bool:
        """Whether both sides hold the same rows."""
        return self.source == self.target


def check_source(source: Engine, now: int) -> None:
    """Make sure that there is a vault of this release's schema that nobody works on.

    Args:
        source: the database.
        now: UTC microseconds.

    Raises:
        MisconfiguredError: says what is in the way.
    """
    if not schema.holds_vault(source):
        raise MisconfiguredError(f"There is no vault in {source.place}.")
    waiting = schema.pending(source)
    if waiting:
        raise MisconfiguredError(
            f"{source.place} needs the upgrade {waiting[-1]} first: back it up, then run strongroom database upgrade "
            "--apply with its configuration."
        )
    refuse_company(source, now)


def refuse_company(source: Engine, now: int) -> None:
    """Make sure that no process works on a vault.

    Raises:
        MisconfiguredError: names the first that does.
    """
    names = names_of(ProcessRow)
    query = ProcessTable.select(*(getattr(ProcessTable, name) for name in names)).bind(source.database)
    with source.read() as database:
        found = Statement(query).run(database, {}).fetchall()
    for columns in found:
        process = ProcessRow(**dict(zip(names, columns, strict=True)))
        if process.is_alive(now):
            seconds = abs(now - process.heartbeat_at) // MICROSECONDS
            raise MisconfiguredError(
                f"A strongroom {process.role} works on {source.place}: process {process.pid} on {process.host}, heard of "
                f"{seconds} s ago. Stop it and all others first; one that was killed counts as gone after 30 seconds."
            )


class Transfer:
    """Copies a vault. Nothing in the source changes, and the target opens for nobody before the end.

    Args:
        source: a vault that nobody works on.
        target: a database without rows, or one that an earlier run began to fill.
    """

    def __init__(self, source: Engine, target: Engine) -> None:
        self._source = source
        self._target = target
        self._tables = [(TableRows(source, model), TableRows(target, model)) for model in COPIED]

    def check_target(self) -> None:
        """Make sure that the target has no rows, or those of an earlier run that can go on.

        Raises:
            MisconfiguredError: says what is in the way.
        """
        target = self._target
        with self._at(target), target.read() as database:
            strange = sorted(set(database.get_tables()) - _OURS_BESIDE - {_name(model) for model in MODELS})
            if strange:
                raise MisconfiguredError(
                    f"{target.place} is not empty: it has a table {strange[0]}. Name a database of its own."
                )
            entries = schema.unfinished_transfer(target)
            if entries is None:
                schema.refuse_newer(target)
                self._refuse_rows(set(database.get_tables()))
            elif schema.steps_missing(target):
                raise MisconfiguredError(
                    f"{target.place} is filled by a transfer that another release began. Finish it with that release, or "
                    "empty the database."
                )
            else:
                self._refuse_other_source(entries)

    def copy(self, copied: Callable[[int], object]) -> None:
        """Write what is missing.

        Args:
            copied: is told how many rows are there beyond what it was told before.

        Raises:
            MisconfiguredError: the target cannot hold a vault.
            UnavailableError: one side cannot go on just now; what is committed stays.
            IntegrityError: a row of the source holds what no vault writes.
        """
        if schema.unfinished_transfer(self._target) is None:
            self._begin()
        with self._at(self._target):
            schema.check_indexes(self._target)
            self._target.check_tables()
        for source, target in self._tables:
            with self._at(self._target):
                done, last = target.count(), target.last_id()
            copied(done)
            rows = self._read(source.rows(last) if done else source.rows())
            with self._at(self._target):
                target.add(rows, copied)
            with self._at(self._source):
                given = source.last_given_id()
            with self._at(self._target):
                target.give_ids_after(given)

    def compare(self, compared: Callable[[int], object]) -> Iterator[Comparison]:
        """Read both sides anew, table by table.

        Args:
            compared: is told how many more rows of the source were read.
        """
        for source, target in self._tables:
            yield Comparison(source.table, *compare(source, target, compared))

    def finish(self, now: int) -> None:
        """Open the target for servers.

        Args:
            now: UTC microseconds.

        Raises:
            MisconfiguredError: somebody has worked on the source meanwhile; the target stays closed.
        """
        refuse_company(self._source, now)
        entries = schema.unfinished_transfer(self._target)
        if entries is not None:
            self._refuse_writes(entries)
        with self._at(self._target):
            schema.end_transfer(self._target)
            self._target.scrub()

    def count(self) -> int:
        """How many rows there are to copy."""
        with self._at(self._source):
            return sum(source.count() for source, _ in self._tables)

    @contextmanager
    def _at(self, engine: Engine) -> Iterator[None]:
        """Say of a database that cannot go on which of the two it is."""
        try:
            yield
        except UnavailableError as error:
            if any(each.place in str(error) for each in (self._source, self._target)):
                raise
            raise UnavailableError(f"{engine.place}: {error}", code=error.code) from error

    def _read(self, rows: Iterator[Any]) -> Iterator[Any]:
        with self._at(self._source):
            yield from rows

    def _begin(self) -> None:
        with self._at(self._source):
            entries = TableRows(self._source, AuditTable).last_id()
        with self._at(self._target), self._target.alone():
            schema.upgrade(self._target)
            # Before the first row, so that nobody takes a part for a vault.
            with self._target.write() as database:
                database.execute_sql(f"DELETE FROM {_name(VaultEpochTable)}")  # noqa: S608  # our own name
                schema.begin_transfer(self._target, entries)

    def _refuse_rows(self, tables: set[str]) -> None:
        for model in MODELS:
            if model is VaultEpochTable or _name(model) not in tables:
                continue
            if TableRows(self._target, model).count():
                raise MisconfiguredError(
                    f"There is a vault in {self._target.place} already. If a transfer into it has just ended, it is whole."
                    if _name(KeyringTable) in tables and TableRows(self._target, KeyringTable).count()
                    else f"{self._target.place} is not empty: there are rows in {_name(model)}. Empty it first."
                )

    def _refuse_other_source(self, entries: int) -> None:
        self._refuse_writes(entries)
        for source, target in self._tables:
            last = target.last_id()
            if last and source.row(last) != target.row(last):
                raise MisconfiguredError(
                    f"{self._target.place} holds a part of another vault, or {self._source.place} was written to since "
                    f"the transfer began: {target.table} #{last} differs. Empty the target and begin again."
                )

    def _refuse_writes(self, entries: int) -> None:
        now = TableRows(self._source, AuditTable).last_id()
        if now != entries:
            raise MisconfiguredError(
                f"{self._source.place} is not as it was when the transfer into {self._target.place} began: its access log "
                f"ends with entry {now}, and ended with {entries}. Stop whoever writes to it, empty the target and begin "
                "again."
            )


def _name(model: Any) -> str:
    return str(model._meta.table_name)  # noqa: SLF001  # peewee's documented place for a model's names
