"""All that is particular to SQLite: how to open it, how to write, what it leaves behind.

Writers queue on an ``flock`` beside the database before ``BEGIN IMMEDIATE``: SQLite's own busy handler sleeps up
to 100 ms at a time and makes the slowest request several times slower.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import peewee

from vault.core.errors import IntegrityError, MisconfiguredError, UnavailableError
from vault.storage.engine import Step, Told
from vault.telemetry.metrics import Metrics

T = TypeVar("T")

LOCK_DEADLINE_SECONDS = 5.0
"""How long a writer waits for its turn before it answers 503."""
_LOCK_POLL_SECONDS = 0.0005

_PRAGMAS = (
    ("journal_mode", "wal"),
    ("synchronous", "full"),
    # Erasing must not leave the old wrapped key in a free page.
    ("secure_delete", "on"),
    ("foreign_keys", "on"),
    ("temp_store", "memory"),
    ("wal_autocheckpoint", 1000),
    ("cache_size", -16_000),
    ("trusted_schema", "off"),
)

# Words for the metric of failures, by SQLite's primary result code; others count as "other".
_REASONS = {
    sqlite3.SQLITE_BUSY: "busy",
    sqlite3.SQLITE_LOCKED: "busy",
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_IOERR: "io",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_CANTOPEN: "cannot-open",
    sqlite3.SQLITE_CORRUPT: "malformed",
    sqlite3.SQLITE_NOTADB: "malformed",
    sqlite3.SQLITE_CONSTRAINT: "constraint",
}


class _Connection(peewee.SqliteDatabase):
    # One writer at a time: a lock on rows is nothing, not an error.
    for_update = True
    field_types = peewee.SqliteDatabase.field_types | {"NAME": "TEXT", "KEY_BYTES": "BLOB"}
    told: list[Told]
    """The audit entries of the transaction that is open."""

    def get_context_options(self) -> dict[str, Any]:
        """What our own fields ask when they are rendered."""
        return {**super().get_context_options(), "autoincrement": True}

    def insert_if_new(self, sql: str, values: Sequence[Any]) -> int:
        """Insert a row unless a unique index refuses it; return how many were inserted."""
        inserted: int = self.execute_sql(sql, values).rowcount
        return inserted

    def _connect(self) -> Any:
        connection = super()._connect()
        # A tampered text column may hold bytes that are no UTF-8: let the row's MAC say so, not the driver.
        connection.text_factory = _lenient_text
        return connection


def _lenient_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


class SqliteEngine:
    """One SQLite file: one connection per process, and writers one at a time over all processes.

    Threads share the connection and take turns on it. With a connection each they would spend their time reading
    the pages again that the others' writes drop from their caches, and leave connections behind when they end.

    Args:
        path: the database file; its folder exists.
        metrics: counts and times what happens; None measures nothing.

    Raises:
        MisconfiguredError: the file cannot be opened or is no database.
    """

    def __init__(self, path: Path, metrics: Metrics | None = None) -> None:
        self.path = path
        self.place = str(path)
        self._metrics = metrics
        self._lock_path = path.with_name(path.name + ".lock")
        self._turn = threading.RLock()
        self._writer: int | None = None
        self.database = _Connection(
            str(path),
            pragmas=_PRAGMAS,
            timeout=LOCK_DEADLINE_SECONDS,
            thread_safe=False,
            check_same_thread=False,
        )
        self.database.told = []
        try:
            self.database.connect()
        except peewee.DatabaseError as error:
            raise MisconfiguredError(f"{path} cannot be opened as a SQLite database: {error}") from error
        self._lock_file = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @contextlib.contextmanager
    def write(self) -> Iterator[peewee.Database]:
        """Run the body in one durable transaction; leaving by an exception rolls it back.

        Inside another one of the same thread it is a part of that.

        Raises:
            UnavailableError: no turn within the deadline, or the disk refuses.
            IntegrityError: SQLite finds its own file damaged.
        """
        if self._writer == threading.get_ident():
            with self.database.atomic():
                yield self.database
            return
        told: list[Told] = []
        asked, had = time.perf_counter(), 0.0
        try:
            with self._translated(), self._writer_turn():
                had = time.perf_counter()
                self.database.told = told
                self._writer = threading.get_ident()
                try:
                    with self.database.atomic("IMMEDIATE"):
                        yield self.database
                finally:
                    self._writer = None
        except BaseException:
            told.clear()
            raise
        finally:
            # Others wait for the turn: what is noted is noted after it.
            if self._metrics is not None and had:
                self._metrics.database_wrote(
                    had - asked, time.perf_counter() - had, [(each.action, each.result) for each in told]
                )

    @contextlib.contextmanager
    def read(self) -> Iterator[peewee.Database]:
        """Run single SELECTs, each of which sees one consistent state."""
        with self._translated(), self._own_turn():
            began = time.perf_counter()
            try:
                yield self.database
            finally:
                if self._metrics is not None:
                    self._metrics.database_read(time.perf_counter() - began)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[peewee.Database]:
        """Run several SELECTs that all see the same state."""
        with self.read(), self.database.atomic("DEFERRED"):
            yield self.database

    def decide(self) -> AbstractContextManager[peewee.Database]:
        """Run SELECTs and one INSERT with the writer's turn."""
        return self.write()

    def in_one(self, steps: Callable[[], Sequence[Step]]) -> bool:  # noqa: ARG002  # SQLite has no such statement
        """Say that there is nothing to gain."""
        return False

    def alone(self) -> AbstractContextManager[peewee.Database]:
        """Run the body in one transaction, with the writer's turn."""
        return self.write()

    def reserved(self) -> AbstractContextManager[None]:
        """Hold nothing: one server, or one transfer, at a time holds the lock file beside the database."""
        return contextlib.nullcontext()

    def id_counter(self, table: str) -> int:
        """The highest id that a table has given; 0 for one that uses ids again."""
        with self.read() as database:
            found = database.execute_sql("SELECT seq FROM sqlite_sequence WHERE name = ?", [table]).fetchone()
        return int(found[0]) if found else 0

    def set_id_counter(self, table: str, last: int) -> None:
        """Let ids begin after this one."""
        with self.write() as database:
            if "AUTOINCREMENT" in str(
                database.execute_sql("SELECT sql FROM sqlite_master WHERE name = ?", [table]).fetchone()
            ):
                database.execute_sql("DELETE FROM sqlite_sequence WHERE name = ?", [table])
                database.execute_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", [table, last])

    def check_tables(self) -> None:
        """Find nothing: SQLite keeps what it is given."""

    def again(self, whole: Callable[[], T]) -> T:
        """Run it: no transaction is lost here."""
        return whole()

    def scrub(self) -> bool:
        """Move the write-ahead log into the database and empty it, so that nothing erased remains in it.

        Returns:
            Whether the log is empty now; False if a reader still needs it (try again later).
        """
        with self._translated(), self._writer_turn():
            # Emptying the log needs a moment without readers. Waiting for one here would stop every writer for as
            # long as somebody reads (verify, a backup); the next turn finds such a moment.
            self.database.execute_sql("PRAGMA busy_timeout = 0")
            try:
                busy, _, _ = self.database.execute_sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self.database.execute_sql(f"PRAGMA busy_timeout = {LOCK_DEADLINE_SECONDS * 1000:.0f}")
        return not busy

    def close(self) -> None:
        """Close the connection and the lock, once nobody is at work on them.

        Raises:
            UnavailableError: somebody was, for the whole deadline.
        """
        # SQLite ends the process, not with an error, if one thread closes what another is using.
        with self._own_turn():
            self.database.close()
            os.close(self._lock_file)

    @contextlib.contextmanager
    def _own_turn(self) -> Iterator[None]:
        if not self._turn.acquire(timeout=LOCK_DEADLINE_SECONDS):
            raise self._no_turn()
        try:
            yield
        finally:
            self._turn.release()

    @contextlib.contextmanager
    def _writer_turn(self) -> Iterator[None]:
        deadline = time.monotonic() + LOCK_DEADLINE_SECONDS
        # flock belongs to the open file, which all threads share: threads queue on the mutex first.
        with self._own_turn():
            self._flock(deadline)
            try:
                yield
            finally:
                fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def _flock(self, deadline: float) -> None:
        while True:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self._no_turn() from None
                time.sleep(_LOCK_POLL_SECONDS)
            else:
                return

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except peewee.PeeweeException as error:
            self._count_failure(_reason_of(error))
            raise _translate(error) from error

    def _no_turn(self) -> UnavailableError:
        self._count_failure("no-turn")
        return UnavailableError(
            f"No turn on the database within {LOCK_DEADLINE_SECONDS:.0f} seconds; nothing was written.",
            code="store-unavailable",
        )

    def _count_failure(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.database_failed(reason)


def _reason_of(error: peewee.PeeweeException) -> str:
    cause = error.__cause__ or getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorcode", None)
    return "other" if code is None else _REASONS.get(code & 0xFF, "other")


def _translate(error: peewee.PeeweeException) -> UnavailableError | IntegrityError:
    cause = error.__cause__ or getattr(error, "orig", None)
    if _reason_of(error) == "malformed":
        return IntegrityError("database-malformed", where="the SQLite file")
    name = getattr(cause, "sqlite_errorname", None) or type(error).__name__
    return UnavailableError(
        f"The database cannot carry this out just now ({name}); nothing was written.",
        code="store-unavailable",
    )
