"""All that is particular to MariaDB and MySQL, spoken to with PyMySQL."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Sequence
from typing import Any

import peewee
import pymysql
from pymysql.constants import CLIENT, SERVER_STATUS

from vault.core.errors import MisconfiguredError, UnavailableError
from vault.storage.address import ServerAddress
from vault.storage.failures import (
    CONFLICT,
    DENIED,
    DISK_FULL,
    LOST,
    NO_LOCK,
    READ_ONLY,
    TOO_LONG,
    TOO_MANY,
    TOO_SLOW,
    WRONG_TABLES,
    Failure,
    Kind,
    ServerAwayError,
    causes_of,
    tls_refusal,
)
from vault.storage.fields import KEY_BYTES, NAME_CHARACTERS
from vault.storage.server_engine import ServerEngine
from vault.storage.server_pool import LONG_SECONDS, ServerPool
from vault.storage.tables import MODELS

_DUPLICATE = 1062
_SMALLEST_PACKET = 8 << 20
"""The largest document takes 1 MiB, and up to twice that in the text of a statement."""
_OLDEST = {"MariaDB": (10, 5), "MySQL": (8, 0)}
_SQL_MODE = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE,NO_ENGINE_SUBSTITUTION"
"""Without it the server cuts what is too long, and says nothing."""
_COLLATIONS = {"MariaDB": "utf8mb4_nopad_bin", "MySQL": "utf8mb4_0900_bin"}
_FAILURES = {
    1213: CONFLICT,  # deadlock; on Galera also: another node wrote the row
    1467: CONFLICT,  # a deadlock around AUTO_INCREMENT
    1205: NO_LOCK,
    1020: CONFLICT,  # the record has changed since the snapshot
    1969: TOO_SLOW,  # max_statement_time
    3024: TOO_SLOW,  # max_execution_time
    1290: READ_ONLY,
    1792: READ_ONLY,
    1836: READ_ONLY,
    1047: READ_ONLY,  # Galera without a quorum: "unknown command"
    1053: LOST,  # shutdown in progress
    1317: TOO_SLOW,  # query interrupted
    1927: LOST,  # connection was killed
    2006: LOST,
    2013: LOST,
    2055: LOST,
    4031: LOST,  # disconnected for being idle
    1021: DISK_FULL,
    1030: DISK_FULL,
    1114: DISK_FULL,
    1040: TOO_MANY,
    1203: TOO_MANY,
    1226: TOO_MANY,
    1044: DENIED,
    1142: DENIED,
    1143: DENIED,
    1227: DENIED,
    1370: DENIED,
    1146: WRONG_TABLES,
    1054: WRONG_TABLES,
    1153: TOO_LONG,  # max_allowed_packet
    1406: TOO_LONG,
}
_REFUSALS = {
    # Who has no right to a database does not hear whether it is there.
    1044: "There is no such database, or the user may not use it; docs/operations/databases.md shows how to make both",
    1045: "The password or the user is wrong, or the user may not come from this machine; see [database] password and url",
    1049: "There is no such database; docs/operations/databases.md shows how to make it",
    1130: "The server takes no connections from this machine",
    1251: "The server asks for a way of logging in that the driver does not have",
    1698: "The user may not log in with a password",
    2026: "The server does not speak TLS; switch it on there, or see [database] ca and insecure_plain",
}


class _Connections(ServerPool, peewee.MySQLDatabase):
    def get_context_options(self) -> dict[str, Any]:
        """What our own nodes ask when they are rendered."""
        options = super().get_context_options()
        return {**options, "share_lock": "LOCK IN SHARE MODE", "update_lock": "FOR UPDATE"}

    def conflict_statement(self, on_conflict: Any, query: Any) -> Any:
        """Render no INSERT IGNORE: it cuts what is too long instead of refusing it. See ``insert_if_new``."""
        if (on_conflict._action or "").lower() == "ignore":  # noqa: SLF001  # peewee hands it over
            return None
        return super().conflict_statement(on_conflict, query)

    def conflict_update(self, on_conflict: Any, query: Any) -> Any:
        """Render ON DUPLICATE KEY UPDATE, which takes no target: every unique index counts."""
        on_conflict._conflict_target = None  # noqa: SLF001  # the same
        return super().conflict_update(on_conflict, query)

    def insert_if_new(self, sql: str, values: Sequence[Any]) -> int:
        """Insert a row unless a unique index refuses it; return how many were inserted."""
        try:
            inserted: int = self.execute_sql(sql, values).rowcount
        except peewee.IntegrityError as error:
            if _number_of(error) != _DUPLICATE:
                raise
            # InnoDB takes back the statement alone; the transaction goes on.
            return 0
        return inserted

    def set_hurried(self, *, is_hurried: bool) -> None:
        """Let the server end a statement before the watchdog ends the connection; or let it take its time."""
        seconds = self.address.statement_seconds if is_hurried else LONG_SECONDS
        self.execute_sql("SET SESSION " + _limits(self.flavour, seconds))

    @property
    def flavour(self) -> str:
        """``MariaDB`` or ``MySQL``: what their servers call some things differs."""
        return "MariaDB" if self.mariadb else "MySQL"

    def _set_server_version(self, conn: Any) -> None:
        self.mariadb = _flavour_of(conn) == "MariaDB"
        super()._set_server_version(conn)
        text = f"CHARACTER SET utf8mb4 COLLATE {_COLLATIONS[self.flavour]}"
        self._field_types: dict[str, str] = {
            **self._field_types,
            "AUTO": "BIGINT AUTO_INCREMENT",
            "NAME": f"VARCHAR({NAME_CHARACTERS}) {text}",
            "KEY_BYTES": f"VARBINARY({KEY_BYTES})",
            "TEXT": f"LONGTEXT {text}",
            "BLOB": "LONGBLOB",
        }

    def _open(self) -> Any:
        address = self.address
        ((host, port),) = address.hosts or (("localhost", 0),)
        with peewee.__exception_wrapper__:
            connection = pymysql.connect(
                host=host,
                port=port,
                unix_socket=address.socket,
                user=address.user,
                password=address.password or b"",
                database=address.database,
                charset="utf8mb4",
                # An UPDATE that changes nothing has still found its row.
                client_flag=CLIENT.FOUND_ROWS,
                connect_timeout=max(1, round(address.connect_seconds)),
                read_timeout=LONG_SECONDS,
                write_timeout=address.statement_seconds,
                ssl=_tls_of(address),
                ssl_disabled=not address.is_encrypted,
                autocommit=True,
            )
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SET " + _settings(_flavour_of(connection), address.statement_seconds))
            except BaseException:
                connection.close()
                raise
        return connection

    def _fileno(self, connection: Any) -> int:
        number: int = connection._sock.fileno()  # noqa: SLF001  # PyMySQL has no public name for it
        return number

    def _is_sound(self, connection: Any) -> bool:
        is_idle = not connection.server_status & SERVER_STATUS.SERVER_STATUS_IN_TRANS
        return bool(connection.open and is_idle)


class MariadbEngine(ServerEngine):
    """A database of MariaDB 10.5 or MySQL 8.0 or newer; see :class:`vault.storage.server_engine.ServerEngine`."""

    changes_tables_in_transactions = False

    def _pool(self, address: ServerAddress) -> ServerPool:
        return _Connections(address)

    def _check_server(self) -> None:
        oldest = _OLDEST[self.database.flavour]
        if self.database.server_version < oldest:
            raise MisconfiguredError(
                f"The server of {self.place} is older than {self.database.flavour} {oldest[0]}.{oldest[1]}; upgrade it."
            )
        ((mode, packet),) = self.database.execute_sql("SELECT @@sql_mode, @@max_allowed_packet").fetchall()
        if "STRICT_ALL_TABLES" not in mode:
            raise MisconfiguredError(
                f"The server of {self.place} does not let sql_mode be strict, and would cut records without a word."
            )
        if packet < _SMALLEST_PACKET:
            raise MisconfiguredError(
                f"max_allowed_packet of {self.place} is {packet:,} bytes, too small for the largest record; set it to 16M "
                "or more in the server's configuration."
            )

    def check_tables(self) -> None:
        """Find text columns that would confuse names, and tables of an engine without transactions.

        Raises:
            MisconfiguredError: names the first.
        """
        with self._session():
            self._check_columns()

    def id_counter(self, table: str) -> int:
        """The highest id that a table has given."""
        with self.read() as database:
            ((_, text),) = database.execute_sql(f"SHOW CREATE TABLE {table}").fetchall()
        # What information_schema says of it may be a day old on MySQL.
        found = re.search(r"AUTO_INCREMENT=(\d+)", text.rpartition(")")[2])
        return int(found[1]) - 1 if found else 0

    def set_id_counter(self, table: str, last: int) -> None:
        """Let ids begin after this one."""
        with self.read() as database:
            database.execute_sql(f"ALTER TABLE {table} AUTO_INCREMENT = {last + 1:d}")

    def _check_columns(self) -> None:
        names = [model._meta.table_name for model in MODELS]  # noqa: SLF001  # peewee's documented place
        marks = ", ".join(["%s"] * len(names))
        columns = self.database.execute_sql(
            "SELECT table_name, column_name, collation_name FROM information_schema.columns "  # noqa: S608  # marks only
            f"WHERE table_schema = DATABASE() AND table_name IN ({marks}) AND collation_name IS NOT NULL "
            "AND collation_name NOT IN (%s, %s)",
            [*names, *_COLLATIONS.values()],
        ).fetchone()
        if columns is not None:
            table, column, collation = columns
            raise MisconfiguredError(
                f"The column {table}.{column} has the collation {collation}, for which different names are equal. Set it "
                f"back to {_COLLATIONS[self.database.flavour]} with ALTER TABLE, or restore the database from a backup."
            )
        other = self.database.execute_sql(
            "SELECT table_name, engine FROM information_schema.tables "  # noqa: S608  # marks only
            f"WHERE table_schema = DATABASE() AND table_name IN ({marks}) AND engine <> 'InnoDB'",
            names,
        ).fetchone()
        if other is not None:
            raise MisconfiguredError(
                f"The table {other[0]} has the engine {other[1]}, which has no transactions: ALTER TABLE {other[0]} "
                "ENGINE=InnoDB."
            )

    def failure_of(self, error: BaseException) -> Failure:
        """What an error of the driver means."""
        number = _number_of(error)
        if not number:
            # Without a number it is not the server that speaks.
            kinds = (pymysql.err.OperationalError, pymysql.err.InterfaceError)
            is_lost = any(isinstance(each, kinds) for each in causes_of(error))
            return LOST if is_lost else Failure(Kind.LATER, "other", "The database driver refuses a value")
        return _FAILURES.get(number) or Failure(
            Kind.LATER, "other", f"The database cannot carry this out just now ({number})"
        )

    def _not_connected(self, error: BaseException) -> MisconfiguredError | UnavailableError:
        number = _number_of(error)
        refused = next((each for each in causes_of(error) if isinstance(each, ssl.SSLError)), None)
        # One that goes away in the middle of the handshake may be back soon.
        if refused is not None and not isinstance(refused, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            return MisconfiguredError(f"{self.place} cannot be opened. {tls_refusal(refused)}.")
        if number in _REFUSALS:
            return MisconfiguredError(f"{self.place} cannot be opened. {_REFUSALS[number]} (error {number}).")
        failure = self.failure_of(error)
        if failure.kind is Kind.LATER and number in _FAILURES:
            return UnavailableError(f"{failure.sentence}; nothing was done.", code="store-unavailable")
        return ServerAwayError(f"{self.place} cannot be reached just now (error {number})")

    def _begin_snapshot(self) -> None:
        self.database.execute_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        self.database.execute_sql("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def _session_name(self) -> str:
        return str(self.database.connection().thread_id())

    def _is_over(self, session: str) -> bool:
        found = "SELECT 1 FROM information_schema.processlist WHERE id = %s"
        if self.database.execute_sql(found, [int(session)]).fetchone() is None:
            return True
        self.database.execute_sql(f"KILL CONNECTION {int(session)}")
        return self.database.execute_sql(found, [int(session)]).fetchone() is None

    def _lock_name(self) -> str:
        # These names are the same for all databases of a server.
        return "strongroom " + hashlib.sha256(self.address.database.encode()).hexdigest()[:32]

    def _try_lock(self) -> bool:
        ((is_ours,),) = self.database.execute_sql("SELECT GET_LOCK(%s, 0)", [self._lock_name()]).fetchall()
        return bool(is_ours)

    def _unlock(self) -> None:
        self.database.execute_sql("SELECT RELEASE_LOCK(%s)", [self._lock_name()])


def _flavour_of(connection: Any) -> str:
    return "MariaDB" if "mariadb" in connection.get_server_info().lower() else "MySQL"


def _limits(flavour: str, seconds: float) -> str:
    # Milliseconds and SELECT only, there; seconds and everything, here.
    limit = (
        f"max_statement_time={seconds * 0.9:.1f}"
        if flavour == "MariaDB"
        else f"max_execution_time={seconds * 900:.0f}"
    )
    return f"{limit}, innodb_lock_wait_timeout={max(1, round(seconds * 0.6))}"


def _settings(flavour: str, seconds: float) -> str:
    settings = [
        f"SESSION sql_mode='{_SQL_MODE}'",
        # The driver does not see what init_connect of the server has set: an entry that is not committed would be lost.
        "SESSION autocommit=1",
        "SESSION time_zone='+00:00'",
        "SESSION default_storage_engine=InnoDB",
        "SESSION " + _limits(flavour, seconds).replace(", ", ", SESSION "),
    ]
    if flavour == "MariaDB":
        # On a Galera cluster: what another node has acknowledged is seen here. Elsewhere it means nothing.
        settings += ["SESSION tx_isolation='READ-COMMITTED'", "SESSION wsrep_sync_wait=1"]
    else:
        settings.append("SESSION transaction_isolation='READ-COMMITTED'")
    return ", ".join(settings)


def _tls_of(address: ServerAddress) -> ssl.SSLContext | None:
    if not address.is_encrypted:
        return None
    try:
        return ssl.create_default_context(cafile=address.ca)
    except OSError as error:
        raise MisconfiguredError(f"[database] ca: {address.ca} cannot be read ({error.strerror}).") from error


def _number_of(error: BaseException) -> int | None:
    for each in causes_of(error):
        if isinstance(each, pymysql.MySQLError):
            number = each.args[0] if each.args else None
            return number if isinstance(number, int) else None
    return None
