"""All that is particular to PostgreSQL, spoken to with psycopg 3."""

from __future__ import annotations

import functools
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peewee
import psycopg
from psycopg.pq import ConnStatus, TransactionStatus

from vault.core.errors import MisconfiguredError, UnavailableError
from vault.storage.address import ServerAddress
from vault.storage.engine import Step, Told
from vault.storage.failures import (
    CONFLICT,
    DENIED,
    DISK_FULL,
    LOST,
    NO_LOCK,
    READ_ONLY,
    TOO_MANY,
    TOO_SLOW,
    WRONG_TABLES,
    Failure,
    Kind,
    ServerAwayError,
    causes_of,
)
from vault.storage.server_engine import ServerEngine
from vault.storage.server_pool import ServerPool
from vault.storage.statements import EntryStatement

_LOCK = 0x5374726F6E67  # "Strong", in the numbers of advisory locks
_TAKEN_BACK = "strongroom took this write back"
_OLDEST_VERSION = 130_000

_FAILURES = {
    "40001": CONFLICT,  # serialization_failure
    "40P01": CONFLICT,  # deadlock_detected
    "55P03": NO_LOCK,  # lock_not_available
    "57014": TOO_SLOW,  # query_canceled
    "25006": READ_ONLY,  # read_only_sql_transaction
    "57P01": LOST,  # admin_shutdown
    "57P02": LOST,  # crash_shutdown
    "57P03": LOST,  # cannot_connect_now
    "57P05": LOST,  # idle_session_timeout
    "25P03": LOST,  # idle_in_transaction_session_timeout
    "53100": DISK_FULL,  # disk_full
    "53300": TOO_MANY,  # too_many_connections
    "42501": DENIED,  # insufficient_privilege
    "42P01": WRONG_TABLES,  # undefined_table
    "42703": WRONG_TABLES,  # undefined_column
}
_REFUSALS = (
    (
        "password authentication failed",
        "The password or the user is wrong; see [database] password and url",
    ),
    ("no password supplied", "The server asks for a password; set [database] password"),
    ("no pg_hba.conf entry", "The server's pg_hba.conf has no line for this user, database and machine"),
    # The library does not say which.
    (
        "certificate verify failed",
        "The server's certificate is not vouched for, or has expired; set [database] ca, or renew it",
    ),
    ("does not match host name", "The server's certificate is for another name than [database] url has"),
    (
        "does not support SSL",
        "The server does not speak TLS; switch it on there, or see [database] ca and insecure_plain",
    ),
    ("root certificate file", "The file of [database] ca cannot be read"),
    (
        "does not exist",
        "There is no such database or user; docs/operations/databases.md shows how to make them",
    ),
    ("permission denied for database", "The user may not connect to this database"),
)


class _Connections(ServerPool, peewee.PostgresqlDatabase):
    field_types = peewee.PostgresqlDatabase.field_types | {
        "AUTO": "BIGSERIAL",
        "NAME": "TEXT",
        "KEY_BYTES": "BYTEA",
    }

    def get_context_options(self) -> dict[str, Any]:
        """What our own nodes ask when they are rendered."""
        return {**super().get_context_options(), "share_lock": "FOR SHARE", "update_lock": "FOR UPDATE"}

    def insert_if_new(self, sql: str, values: Sequence[Any]) -> int:
        """Insert a row unless a unique index refuses it; return how many were inserted."""
        inserted: int = self.execute_sql(sql, values).rowcount
        return inserted

    def execute_sql(self, sql: str, params: Any = None) -> Any:
        """Run a statement in the server's own way of writing: psycopg would parse a long one anew each time."""
        return super().execute_sql(_numbered(sql), params)

    def set_hurried(self, *, is_hurried: bool) -> None:
        """Let the server end a statement before the watchdog ends the connection; or let it take its time."""
        limit = round(self.address.statement_seconds * 900) if is_hurried else 0
        self.execute_sql(
            "SELECT set_config('statement_timeout', %s, false), set_config('lock_timeout', %s, false), "
            "set_config('idle_in_transaction_session_timeout', %s, false)",
            [str(limit), str(limit * 2 // 3), str(limit * 10)],
        )

    def _open(self) -> Any:
        address = self.address
        limit = round(address.statement_seconds * 900)
        hosts = [address.socket] if address.socket else [host for host, _ in address.hosts]
        options: dict[str, Any] = {"sslmode": "disable"}
        if address.is_encrypted:
            options = {"sslmode": "verify-full", "sslrootcert": str(address.ca) if address.ca else "system"}
        if address.target_session_attrs:
            options["target_session_attrs"] = address.target_session_attrs
        with peewee.__exception_wrapper__:
            return psycopg.connect(
                host=",".join(hosts),
                port=",".join(str(port) for _, port in address.hosts),
                dbname=address.database,
                user=address.user,
                password=address.password.decode() if address.password is not None else "",
                # Nothing that lies about in the home folder or the environment decides how we connect.
                passfile=os.devnull,
                gssencmode="disable",
                client_encoding="UTF8",
                # By this name the session is found again if the connection is lost in a COMMIT.
                application_name=f"strongroom {uuid.uuid4().hex[:16]}",
                connect_timeout=max(2, round(address.connect_seconds)),
                tcp_user_timeout=round(address.statement_seconds * 1000),
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=2,
                options=f"-c default_transaction_isolation=read\\ committed -c statement_timeout={limit} "
                f"-c lock_timeout={limit * 2 // 3} -c idle_in_transaction_session_timeout={limit * 10} "
                "-c timezone=UTC",
                autocommit=True,
                cursor_factory=psycopg.RawCursor,
                **options,
            )

    def _fileno(self, connection: Any) -> int:
        number: int = connection.fileno()
        return number

    def _is_sound(self, connection: Any) -> bool:
        server = connection.pgconn
        return bool(server.status == ConnStatus.OK and server.transaction_status == TransactionStatus.IDLE)


class PostgresqlEngine(ServerEngine):
    """A database of PostgreSQL 13 or newer; see :class:`vault.storage.server_engine.ServerEngine`."""

    changes_tables_in_transactions = True

    def _pool(self, address: ServerAddress) -> ServerPool:
        self._texts: dict[tuple[str, ...], str] = {}
        return _Connections(address, prefer_psycopg3=True)

    def _check_server(self) -> None:
        ((encoding,),) = self.database.execute_sql("SHOW server_encoding").fetchall()
        if encoding != "UTF8":
            raise MisconfiguredError(
                f"The database {self.place} has the encoding {encoding}, which cannot hold every text; make one with "
                "ENCODING 'UTF8' TEMPLATE template0."
            )
        if self.database.server_version < _OLDEST_VERSION:
            raise MisconfiguredError(f"The server of {self.place} is older than PostgreSQL 13; upgrade it.")

    def check_tables(self) -> None:
        """Find nothing: text and bytea keep what they are given."""

    def id_counter(self, table: str) -> int:
        """The highest id that a table has given."""
        with self.read() as database:
            sequence = "pg_sequence_last_value(pg_get_serial_sequence(%s, 'id')::regclass)"
            ((last,),) = database.execute_sql(f"SELECT {sequence}", [table]).fetchall()
        return last or 0

    def set_id_counter(self, table: str, last: int) -> None:
        """Let ids begin after this one."""
        with self.write() as database:
            database.execute_sql("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", [table, last])

    def in_one(self, steps: Callable[[], Sequence[Step]]) -> bool:
        """Commit several INSERTs as one statement: one round trip instead of one for each and two more."""
        if self.database.in_transaction():
            return False
        todo = steps()
        told = [
            Told(values["action"], values["result"], values["entry_id"])
            for text, values in todo
            if isinstance(text, EntryStatement)
        ]
        bound = [value for text, values in todo for value in text.bind(values)]
        sql = self._in_one_text(tuple(text.sql for text, _ in todo))
        with self._session_of_one(told) as done:
            name = self._session_name()
            try:
                self.database.execute_sql(sql, bound)
            except peewee.PeeweeException as error:
                if _state_of(error) in {"22P02", "23505"}:
                    return False
                if self._failure(error).kind is not Kind.LOST:
                    raise
                self.settle(told, name, error)
            done()
        return True

    @contextmanager
    def _session_of_one(self, told: Sequence[Told]) -> Iterator[Callable[[], None]]:
        marks = [time.perf_counter(), 0.0]
        with self._session():
            marks[1] = time.perf_counter()
            yield lambda: self._note(marks[1] - marks[0], time.perf_counter() - marks[1], told)

    def _in_one_text(self, statements: tuple[str, ...]) -> str:
        text = self._texts.get(statements)
        if text is None:
            parts = ", ".join(f"s{number} AS ({each})" for number, each in enumerate(statements))
            counts = " AND ".join(
                f"(SELECT count(*) FROM s{number}) = 1"  # noqa: S608  # our own names
                for number in range(len(statements))
            )
            # Either every INSERT made its row, or this fails, and the server takes all of them back.
            text = (
                f"WITH {parts} SELECT CASE WHEN {counts} THEN 1 "  # noqa: S608  # our own statements
                f"ELSE CAST('{_TAKEN_BACK} ' || (SELECT count(*) FROM s0) AS integer) END"
            )
            self._texts[statements] = text
        return text

    def failure_of(self, error: BaseException) -> Failure:
        """What an error of the driver means."""
        state = _state_of(error)
        if state is None or state.startswith("08"):
            # Without a state it is not the server that speaks.
            is_lost = any(isinstance(each, psycopg.OperationalError) for each in causes_of(error))
            return LOST if is_lost else Failure(Kind.LATER, "other", "The database driver refuses a value")
        return _FAILURES.get(state) or Failure(
            Kind.LATER, "other", f"The database cannot carry this out just now ({state})"
        )

    def _not_connected(self, error: BaseException) -> MisconfiguredError | UnavailableError:
        # The library gives no state for a refused connection: what the server said is all there is. It names user,
        # database and machine, never a password.
        said = next((str(each) for each in causes_of(error) if isinstance(each, psycopg.Error)), str(error))
        for words, meaning in _REFUSALS:
            if words in said:
                return MisconfiguredError(
                    f"{self.place} cannot be opened. {meaning}. The server says: {_line(said)}"
                )
        if "too many" in said or "remaining connection slots" in said:
            return UnavailableError(f"{TOO_MANY.sentence}; nothing was done.", code="store-unavailable")
        return ServerAwayError(f"{self.place} cannot be reached just now ({_line(said)})")

    def _begin_snapshot(self) -> None:
        self.database.execute_sql("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def _session_name(self) -> str:
        name: str = self.database.connection().info.parameter_status("application_name")
        return name

    def _is_over(self, session: str) -> bool:
        self.database.execute_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", [session]
        )
        found = self.database.execute_sql(
            "SELECT 1 FROM pg_stat_activity WHERE application_name = %s", [session]
        )
        return found.fetchone() is None

    def _try_lock(self) -> bool:
        ((is_ours,),) = self.database.execute_sql("SELECT pg_try_advisory_lock(%s)", [_LOCK]).fetchall()
        return bool(is_ours)

    def _unlock(self) -> None:
        self.database.execute_sql("SELECT pg_advisory_unlock(%s)", [_LOCK])


@functools.lru_cache(1024)
def _numbered(sql: str) -> str:
    parts = sql.split("%s")
    return "".join(f"{part}${number}" for number, part in enumerate(parts[:-1], start=1)) + parts[-1]


def _state_of(error: BaseException) -> str | None:
    for each in causes_of(error):
        if isinstance(each, psycopg.Error):
            return each.sqlstate
    return None


def _line(said: str) -> str:
    return " ".join(said.split())
