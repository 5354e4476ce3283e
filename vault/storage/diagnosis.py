"""Looking at a database that may be in any state: without keys, without locks, and without changing anything."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vault.core.errors import IntegrityError, UnavailableError
from vault.core.job_ports import JobRow, ProcessRow
from vault.storage.jobs import names_of
from vault.storage.schema import HISTORY_TABLE, UPGRADES
from vault.storage.tables import MODELS, AuditTable, JobTable, ProcessTable, RecordTable

QUICK_CHECK_SECONDS = 60.0
"""How long SQLite's own check of the file may take; ``verify`` takes as long as it needs."""
_STEPS_BETWEEN_LOOKS = 100_000


@dataclass(frozen=True, slots=True)
class MissingIndex:
    """An index that this release counts on and that is not there.

    Attributes:
        table: where it belongs.
        columns: what it covers.
        statement: the SQL that makes it.
    """

    table: str
    columns: tuple[str, ...]
    statement: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """Records that are past their time and not erased.

    Attributes:
        count: how many, or the limit if there are more.
        oldest: when the time of the first of them ended, UTC microseconds.
    """

    count: int
    oldest: int


class Diagnosis:
    """Reads facts from one database file.

    Every question can raise ``IntegrityError`` if the file is damaged, and ``UnavailableError`` if it cannot be read
    just now.

    Args:
        connection: opened for reading only.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def journal_mode(self) -> str:
        """How SQLite makes commits durable: ``wal`` in a vault that was opened by a server."""
        return str(self._rows("PRAGMA journal_mode")[0][0])

    def damage(self) -> list[str] | None:
        """What SQLite's quick check finds; empty if nothing, None if it took too long to say."""
        deadline = time.monotonic() + QUICK_CHECK_SECONDS
        self._connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_BETWEEN_LOOKS)
        try:
            found = [str(row[0]) for row in self._rows("PRAGMA quick_check(10)")]
        except UnavailableError:
            if time.monotonic() > deadline:
                return None
            raise
        finally:
            self._connection.set_progress_handler(None, 0)
        return [] if found == ["ok"] else found

    def upgrades_waiting(self) -> list[str]:
        """The names of schema steps of this release that the database has not had."""
        done = self._upgrades_done()
        return [name for name in _upgrades_known() if name not in done]

    def upgrades_unknown(self) -> list[str]:
        """The names of schema steps that the database has had from another release."""
        return sorted(self._upgrades_done() - set(_upgrades_known()))

    def missing_indexes(self) -> Iterator[MissingIndex]:
        """The indexes that are not there."""
        for model in MODELS:
            table: str = model._meta.table_name  # noqa: SLF001  # peewee's documented place for a model's names
            there = {
                (tuple(column for _, _, column in self._rows(f'PRAGMA index_info("{name}")')), bool(unique))
                for _, name, unique, *_ in self._rows(f'PRAGMA index_list("{table}")')
            }
            for columns, is_unique in model._meta.indexes:  # noqa: SLF001  # the same
                if (tuple(columns), is_unique) not in there:
                    yield MissingIndex(table, tuple(columns), create_index(table, columns, is_unique))

    def newest_entry(self, tenant: str) -> int | None:
        """When the latest entry of the access log was written, UTC microseconds; None without any."""
        ((found,),) = self._rows(
            f"SELECT max(time) FROM {_name(AuditTable)} WHERE tenant = ?",  # noqa: S608  # our own names
            [tenant],
        )
        return found if isinstance(found, int) else None

    def entries(self) -> int:
        """How many entries the access log has had; they are never deleted in this release."""
        ((found,),) = self._rows(f"SELECT max(id) FROM {_name(AuditTable)}")  # noqa: S608  # our own names
        return found or 0

    def overdue(self, before: int, *, limit: int) -> Overdue | None:
        """Records whose time ended before a moment and that are not erased; None if there is none."""
        found = self._rows(
            f"SELECT expires_at FROM {_name(RecordTable)} "  # noqa: S608  # our own names
            "WHERE erased_at IS NULL AND expires_at <= ? ORDER BY expires_at LIMIT ?",
            [before, limit],
        )
        return Overdue(len(found), found[0][0]) if found else None

    def processes(self) -> list[ProcessRow]:
        """The processes that say that they work on this database, alive or not."""
        return [ProcessRow(**columns) for columns in self._plain(ProcessTable, names_of(ProcessRow))]

    def jobs(self) -> list[JobRow]:
        """All jobs."""
        return [JobRow(**columns) for columns in self._plain(JobTable, names_of(JobRow))]

    def _plain(self, table: Any, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        for row in self._rows(f"SELECT {', '.join(names)} FROM {_name(table)} ORDER BY id"):  # noqa: S608  # ours
            yield dict(zip(names, row, strict=True))

    def _upgrades_done(self) -> set[str]:
        if not self._rows("SELECT 1 FROM sqlite_master WHERE name = ?", [HISTORY_TABLE]):
            return set()
        return {str(row[0]) for row in self._rows(f"SELECT name FROM {HISTORY_TABLE}")}  # noqa: S608  # our own name

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        try:
            return self._connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise _translated(error) from error


@contextmanager
def look_at(path: Path) -> Iterator[Diagnosis]:
    """Open a database for looking.

    Raises:
        IntegrityError: the file is no database, or damaged from its first page on.
        UnavailableError: it cannot be opened.
    """
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)
    except sqlite3.Error as error:
        raise _translated(error) from error
    with closing(connection):
        # A tampered text may hold bytes that are no UTF-8.
        connection.text_factory = lambda raw: raw.decode("utf-8", "backslashreplace")
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        except sqlite3.Error as error:
            raise _translated(error) from error
        yield Diagnosis(connection)


def _translated(error: sqlite3.Error) -> IntegrityError | UnavailableError:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
        return IntegrityError("database-malformed", where="the SQLite file")
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    return UnavailableError(f"The database cannot be read just now ({name}).", code="store-unavailable")


def _upgrades_known() -> list[str]:
    return sorted(path.stem for path in UPGRADES.glob("[0-9]*.py"))


def _name(table: Any) -> str:
    return str(table._meta.table_name)  # noqa: SLF001  # peewee's documented place for a model's names


def create_index(table: str, columns: Sequence[str], is_unique: bool) -> str:  # noqa: FBT001  # as peewee has it
    """The SQL that makes an index."""
    kind = "UNIQUE INDEX" if is_unique else "INDEX"
    return f"CREATE {kind} {'_'.join([table, *columns])} ON {table} ({', '.join(columns)})"
