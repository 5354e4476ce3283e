"""Every statement that reaches the database, counted; at one of them something happens."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import peewee
import psycopg
import pymysql

from tests.faults.small_vault import TABLES, SmallVault
from tests.servers.database_homes import chosen_home
from vault.storage.server_pool import ServerPool
from vault.storage.sqlite import _Connection

EXIT_CODE = 137
MOST_STEPS = 200

Statement = Callable[[], Any]
Fault = Callable[[Statement, Any], Any]
"""What happens instead of a statement, on a connection of a server's driver; None stands for SQLite's."""


def raise_now(_statement: Statement, connection: Any) -> Any:
    """The database refuses the statement: its disk is full."""
    if connection is None:
        raise peewee.OperationalError("disk I/O error")
    if isinstance(connection, psycopg.Connection):
        raise psycopg.errors.DiskFull("could not extend file: No space left on device")
    raise pymysql.err.OperationalError(1021, "Disk full")


def exit_now(_statement: Statement, _connection: Any) -> Any:
    """The process ends before the statement."""
    os._exit(EXIT_CODE)


def lose_question(statement: Statement, connection: Any) -> Any:
    """The connection breaks before the server hears the statement; the error is the driver's own."""
    _cut(connection)
    return statement()


def lose_answer(statement: Statement, connection: Any) -> Any:
    """The server carries the statement out, and the connection breaks before we hear of it."""
    statement()
    _cut(connection)
    if isinstance(connection, psycopg.Connection):
        raise psycopg.OperationalError("server closed the connection unexpectedly")
    raise pymysql.err.OperationalError(2013, "Lost connection to MySQL server during query")


def _cut(connection: Any) -> None:
    number = connection.fileno() if isinstance(connection, psycopg.Connection) else connection._sock.fileno()
    with socket.socket(fileno=os.dup(number)) as line:
        line.shutdown(socket.SHUT_RDWR)


class Steps:
    """Counts what reaches the database; at step ``fail_at`` it does what ``fault`` says instead.

    Attributes:
        is_setting: whether that step would only have set something of its session.
    """

    def __init__(self, fail_at: int = 0, fault: Fault = lambda statement, _connection: statement()) -> None:
        self.count = 0
        self.is_setting = False
        self.fail_at = fail_at
        self._fault = fault

    @property
    def has_failed(self) -> bool:
        return 0 < self.fail_at <= self.count

    def step(self, statement: Statement, connection: Any = None, *, is_commit: bool = False) -> Any:
        self.count += 1
        done = self._fault(statement, connection) if self.count == self.fail_at else statement()
        if is_commit and self._fault is exit_now:
            # Killed between the commit and the answer.
            self.step(lambda: None, connection)
        return done

    @contextmanager
    def watching(self) -> Iterator[Steps]:
        with self._watching_sqlite(), self._watching_servers():
            yield self

    @contextmanager
    def _watching_sqlite(self) -> Iterator[None]:
        execute, begin, commit = _Connection.execute_sql, _Connection.begin, _Connection.commit
        with mock.patch.multiple(
            _Connection,
            create=True,
            execute_sql=lambda *args, **options: self.step(lambda: execute(*args, **options)),
            begin=lambda *args, **options: self.step(lambda: begin(*args, **options)),
            commit=lambda database: self.step(lambda: commit(database), is_commit=True),
        ):
            yield

    @contextmanager
    def _watching_servers(self) -> Iterator[None]:
        cursor = ServerPool.cursor
        with mock.patch.object(
            ServerPool,
            "cursor",
            lambda pool, *args: _SteppingCursor(self, pool, cursor(pool, *args)),
        ):
            yield


class _SteppingCursor:
    """A driver's cursor: statements, BEGIN, COMMIT and ROLLBACK all go through one."""

    def __init__(self, steps: Steps, pool: ServerPool, cursor: Any) -> None:
        self._steps = steps
        self._pool = pool
        self._cursor = cursor

    def execute(self, sql: str, *args: Any) -> Any:
        if self._steps.count + 1 == self._steps.fail_at:
            self._steps.is_setting = sql.startswith(("SET SESSION", "SELECT set_config"))
        # Outside a transaction a statement that writes commits by itself.
        is_commit = not self._pool.in_transaction() and sql.split(maxsplit=1)[0] in {
            "COMMIT",
            "INSERT",
            "UPDATE",
            "WITH",
        }
        self._steps.step(
            lambda: self._cursor.execute(sql, *args), self._pool.connection(), is_commit=is_commit
        )
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)


def dump(made: SmallVault) -> dict[str, list[Any]]:
    """All rows of all tables that matter."""
    tables = (*TABLES, "refusal_tally", "idempotency_key")
    statements = [f"SELECT * FROM {table} ORDER BY id" for table in tables]  # noqa: S608  # our own names
    return dict(zip(tables, chosen_home().run_all(made.folder, statements), strict=True))
