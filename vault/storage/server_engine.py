"""Transactions on a database server: side by side, done again when they are lost, and settled when their end is unheard."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, TypeVar

import peewee
from playhouse.pool import MaxConnectionsExceeded

from vault.core.errors import IntegrityError, MisconfiguredError, UnavailableError
from vault.storage.address import ServerAddress
from vault.storage.engine import Step, Told, TransactionLostError
from vault.storage.failures import LOST, TOO_SLOW, Failure, Kind, ServerRefusalError
from vault.storage.server_differences import ServerDifferences
from vault.storage.settling import settle
from vault.telemetry.metrics import Metrics

T = TypeVar("T")
Waiting = Callable[[], AbstractContextManager[None]]

_ATTEMPTS = 10
_FIRST_PAUSE_SECONDS = 0.01
_LOCK_SECONDS = 60.0
_POLL_SECONDS = 0.05


class ServerEngine(ServerDifferences):
    """A database on a server, for one process: a pool of connections, and a transaction for each thread that asks.

    Args:
        address: where the server is.
        metrics: counts and times what happens; None measures nothing.
        waiting: gives the interpreter's turn to others while the network is waited for.

    Raises:
        MisconfiguredError: the server refuses us in a way that waiting does not mend.
        UnavailableError: it cannot be reached.
    """

    def __init__(
        self, address: ServerAddress, metrics: Metrics | None = None, waiting: Waiting = nullcontext
    ) -> None:
        self.address = address
        self.place = address.place
        self._metrics = metrics
        self._waiting = waiting
        self._alone = threading.local()
        self.database: Any = self._pool(address)
        try:
            with self._session():
                self._check_server()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def write(self) -> Iterator[peewee.Database]:
        """Run the body in one durable transaction; see :class:`vault.storage.engine.Engine`."""
        if self.database.in_transaction():
            with self.database.atomic():
                yield self.database
            return
        told: list[Told] = []
        asked, had = time.perf_counter(), 0.0
        try:
            with self._session():
                had = time.perf_counter()
                self.database.told = told
                with self._transaction(self.database.begin):
                    yield self.database
        except BaseException:
            told.clear()
            raise
        finally:
            if self._metrics is not None and had:
                self._note(had - asked, time.perf_counter() - had, told)

    @contextmanager
    def read(self) -> Iterator[peewee.Database]:
        """Run single SELECTs, each of which sees one consistent state."""
        began = time.perf_counter()
        with self._session():
            yield self.database
        if self._metrics is not None:
            self._metrics.database_read(time.perf_counter() - began)

    @contextmanager
    def snapshot(self) -> Iterator[peewee.Database]:
        """Run several SELECTs that all see the same state, for as long as they take."""
        if self.database.in_transaction():
            yield self.database
            return
        with self._session(), self._unhurried(), self._transaction(self._begin_snapshot, writes=False):
            yield self.database

    @contextmanager
    def decide(self) -> Iterator[peewee.Database]:
        """Run SELECTs and one INSERT, each by itself; see :class:`vault.storage.engine.Engine`."""
        told: list[Told] = []
        asked, had = time.perf_counter(), 0.0
        try:
            with self._session():
                had = time.perf_counter()
                self.database.told = told
                try:
                    yield self.database
                except peewee.PeeweeException as error:
                    # Its one INSERT committed by itself, or not: whatever was read may not be shown before that is
                    # known, and to find out costs no less than doing all of it again.
                    raise self._answer(error) from error
        except BaseException:
            told.clear()
            raise
        finally:
            if self._metrics is not None and had:
                self._note(had - asked, time.perf_counter() - had, told)

    def in_one(self, steps: Callable[[], Sequence[Step]]) -> bool:  # noqa: ARG002  # an engine may know how
        """Say that there is nothing to gain."""
        return False

    @contextmanager
    def alone(self) -> Iterator[peewee.Database]:
        """Run the body while nobody else is in here; see :class:`vault.storage.engine.Engine`."""
        with self.reserved(), self._session():
            is_one = self.changes_tables_in_transactions and not self.database.in_transaction()
            if is_one:
                # What the transaction before told is no proof of this one.
                self.database.told = []
            with self._transaction(self.database.begin) if is_one else nullcontext():
                yield self.database

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Keep others out; see :class:`vault.storage.engine.Engine`."""
        if getattr(self._alone, "is_held", False):
            yield
            return
        with self._session(), self._unhurried():
            self._lock_out_others()
            self._alone.is_held = True
            try:
                yield
            finally:
                self._alone.is_held = False
                self._let_others_in()

    def again(self, whole: Callable[[], T]) -> T:
        """Run a whole operation, and again, a few times, while its transaction is lost."""
        if self.database.in_transaction():
            return whole()
        latest = time.monotonic() + self.address.statement_seconds
        attempt = 1
        while True:
            try:
                return whole()
            except TransactionLostError:
                if attempt == _ATTEMPTS or time.monotonic() > latest:
                    raise
            with self._waiting():
                # Not all losers at the same moment.
                time.sleep(_FIRST_PAUSE_SECONDS * 2 ** min(attempt, 5) * random.random())  # noqa: S311  # no secret depends on it
            attempt += 1

    def scrub(self) -> bool:
        """Do nothing: what a server keeps of an erased row is cleared away by its administrator's means."""
        return True

    def close(self) -> None:
        """Close this thread's connection and all that idle."""
        self.database.close_all()

    @contextmanager
    def _session(self) -> Iterator[None]:
        """Have a connection, inside another session the same; of two engines in a thread each knows its own errors."""
        is_first = self.database.is_closed()
        with self._waiting() if is_first else nullcontext():
            try:
                if is_first:
                    self._connect()
                yield
            except peewee.PeeweeException as error:
                raise self._answer(error) from error
            finally:
                if is_first:
                    self.database.close()

    def _connect(self) -> None:
        try:
            self.database.connect()
        except MaxConnectionsExceeded as error:
            self._count_failure("pool")
            raise UnavailableError(
                f"All {self.address.pool_size} database connections of this process are in use, and none came free within "
                f"{self.address.pool_wait_seconds:g} seconds; nothing was done.",
                code="store-unavailable",
            ) from error
        except peewee.PeeweeException as error:
            self._count_failure("connect")
            raise self._not_connected(error) from error

    @contextmanager
    def _transaction(self, begin: Callable[[], None], *, writes: bool = True) -> Iterator[None]:
        database = self.database
        begin()
        database.push_transaction(database.transaction())
        try:
            yield
        except peewee.PeeweeException as error:
            answer = self._answer(error)
            self._roll_back()
            raise answer from error
        except BaseException:
            self._roll_back()
            raise
        database.pop_transaction()
        name = self._session_name()
        try:
            database.commit()
        except peewee.PeeweeException as error:
            self._end_of_commit(error, name if writes else None)

    def _roll_back(self) -> None:
        database = self.database
        if not database.is_closed():
            database._state.transactions.clear()  # noqa: SLF001  # a failed ROLLBACK leaves them there
            try:
                database.rollback()
            except peewee.PeeweeException:
                # Nobody else is to get it; the server rolls back when it sees the connection end.
                database.drop()

    def _end_of_commit(self, error: peewee.PeeweeException, session: str | None) -> None:
        """Return if the transaction that was to be committed is; raise if not, or if nobody knows.

        Args:
            error: what was heard instead.
            session: of the transaction; None if it only read, and there is nothing to find out.
        """
        failure = self._failure(error)
        if failure.kind is not Kind.LOST or session is None:
            answer = self._answer(error)
            self._roll_back()
            raise answer from error
        self.settle(self.database.told, session, error)

    def settle(self, told: Sequence[Told], session: str, error: BaseException) -> None:
        """Find out whether a transaction whose end was not heard committed; see :func:`settle`."""
        self._count_failure(LOST.reason)
        if not settle(self.database, told, lambda: self._is_over(session), error):
            raise self._lost(LOST.sentence) from error

    @contextmanager
    def _unhurried(self) -> Iterator[None]:
        with self.database.unhurried():
            try:
                yield
            finally:
                if not self.database.is_closed():
                    with suppress(peewee.PeeweeException):
                        self.database.set_hurried(is_hurried=True)

    def _lock_out_others(self) -> None:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not self._try_lock():
            if time.monotonic() > deadline:
                raise MisconfiguredError(
                    f"Somebody else upgrades, makes or transfers the vault in {self.place} for more than {_LOCK_SECONDS:.0f} seconds "
                    "now. Wait for them, or end their session on the server."
                )
            time.sleep(_POLL_SECONDS)

    def _let_others_in(self) -> None:
        if not self.database.is_closed():
            with suppress(peewee.PeeweeException):
                self._unlock()

    def _answer(self, error: BaseException) -> UnavailableError | IntegrityError:
        failure = self._failure(error)
        self._count_failure(failure.reason)
        if failure.kind in {Kind.LOST, Kind.ELSEWHERE}:
            self.database.drop()
        if failure.kind is not Kind.LATER:
            return self._lost(failure.sentence)
        return ServerRefusalError(failure, self.place)

    def _lost(self, sentence: str) -> TransactionLostError:
        return TransactionLostError(f"{sentence}; nothing was written.", code="store-unavailable")

    def _failure(self, error: BaseException) -> Failure:
        if not self.database.is_closed() and self.database.line.is_cut:
            return Failure(Kind.LOST, TOO_SLOW.reason, TOO_SLOW.sentence)
        return self.failure_of(error)

    def _count_failure(self, reason: str) -> None:
        if self._metrics is not None:
            self._metrics.database_failed(reason)

    def _note(self, waited: float, seconds: float, told: Sequence[Told]) -> None:
        if self._metrics is not None:
            self._metrics.database_wrote(waited, seconds, [(each.action, each.result) for each in told])
