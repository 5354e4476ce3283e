"""Connections to a database server: peewee's pool, with a cheap check, a deadline and a name for each."""

from __future__ import annotations

import heapq
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from playhouse.pool import MaxConnectionsExceeded, PoolConnection, PooledDatabase

from vault.storage.address import ServerAddress
from vault.storage.engine import Told
from vault.storage.watchdog import Line, Watchdog

LONG_SECONDS = 3600.0
"""The deadline of a statement that may take long: a look at everything, or a change of a table."""
_OLDEST_SECONDS = 1800
"""A connection that is older is not used again: after a failover, work spreads over the servers by itself."""


class _OfThread(threading.local):
    def __init__(self) -> None:
        self.told: list[Told] = []
        self.is_unhurried = False


class ServerPool(PooledDatabase):
    """What both servers' connections have beyond peewee's classes.

    Args:
        address: where the server is.
    """

    def __init__(self, address: ServerAddress, **options: Any) -> None:
        self.address = address
        self._of_thread = _OfThread()
        self._watchdog = Watchdog()
        self._lines: dict[int, Line] = {}
        super().__init__(
            address.database,
            max_connections=address.pool_size,
            stale_timeout=_OLDEST_SECONDS,
            timeout=address.pool_wait_seconds,
            autoconnect=False,
            **options,
        )
        # peewee would let one thread connect at a time and the others not even give back what they have; but what a
        # thread connects belongs to it alone, and the pool has a lock of its own.
        self._lock = nullcontext()

    @property
    def told(self) -> list[Told]:
        """The audit entries of this thread's transaction."""
        return self._of_thread.told

    @told.setter
    def told(self, told: list[Told]) -> None:
        self._of_thread.told = told

    @property
    def line(self) -> Line:
        """This thread's connection as the watchdog sees it."""
        return self._lines[id(self._state.conn)]

    @contextmanager
    def unhurried(self) -> Iterator[None]:
        """Let statements take long while the body runs."""
        before, self._of_thread.is_unhurried = self._of_thread.is_unhurried, True
        try:
            self.set_hurried(is_hurried=False)
            yield
        finally:
            self._of_thread.is_unhurried = before

    def cursor(self, named_cursor: Any = None) -> Any:
        """Make a cursor: from now on, the server has to answer in time."""
        self.line.allow(LONG_SECONDS if self._of_thread.is_unhurried else self.address.statement_seconds)
        return super().cursor(named_cursor)

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement; while this thread computes, nothing is expected of the server."""
        cursor = super().execute_sql(sql, params)
        self.line.rest()
        return cursor

    def drop(self) -> None:
        """Close this thread's connection for good; others that idle may be as dead."""
        if not self.is_closed():
            self._state.transactions.clear()
            self.manual_close()
        self.close_idle()

    def _connect(self) -> Any:
        # Not under the pool's lock, as peewee does it: while a server hangs, each thread would wait for all before it.
        claim = object()
        with self._pool_lock:
            idle = self._take_idle()
            if idle is not None:
                return idle
            if len(self._in_use) >= self._max_connections:
                raise MaxConnectionsExceeded
            self._in_use[id(claim)] = PoolConnection(time.time(), claim, time.time())
        connection = None
        try:
            connection = self._open()
            self._lines[id(connection)] = self._watchdog.watch(self._fileno(connection))
        finally:
            with self._pool_lock:
                del self._in_use[id(claim)]
                if connection is not None:
                    self._in_use[id(connection)] = PoolConnection(time.time(), connection, time.time())
                else:
                    self._pool_available.notify()
        return connection

    def _take_idle(self) -> Any:
        while self._connections:
            made, _, connection = heapq.heappop(self._connections)
            # A server that has closed the connection has said so: there is something to read. Asking it would cost a
            # round trip each time.
            if (
                self._is_stale(made)
                or not self._is_sound(connection)
                or _is_readable(self._fileno(connection))
            ):
                self._close_raw(connection)
                continue
            self._in_use[id(connection)] = PoolConnection(made, connection, time.time())
            return connection
        return None

    def _can_reuse(self, conn: Any) -> bool:
        line = self._lines[id(conn)]
        line.rest()
        return not line.is_cut and self._is_sound(conn)

    def _close_raw(self, conn: Any) -> None:
        line = self._lines.pop(id(conn), None)
        if line is not None:
            self._watchdog.forget(line)
        super()._close_raw(conn)

    def _open(self) -> Any:
        """Connect to the server."""
        raise NotImplementedError

    def _fileno(self, connection: Any) -> int:
        """The connection's socket."""
        raise NotImplementedError

    def _is_sound(self, connection: Any) -> bool:
        """Whether the connection is open and in no transaction, as far as is known without asking the server."""
        raise NotImplementedError

    def set_hurried(self, *, is_hurried: bool) -> None:
        """Tell the server of this thread's session how long a statement may take."""
        raise NotImplementedError


def _is_readable(fileno: int) -> bool:
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(0))
