"""A real MariaDB server for tests."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pymysql
import pytest

from tests.servers.unprivileged import ServerProcess, own_folder, run_as_nobody
from vault.storage.address import ServerAddress

_HOST = "127.0.0.1"
_USER = "strongroom"
PASSWORD = "p@ss:wörd/%41"
_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
_numbers = itertools.count(1)


def find_mariadb() -> tuple[str, str] | None:
    """The server's program, and the one that makes its folder."""
    server, install = shutil.which("mariadbd", path=_PATH), shutil.which("mariadb-install-db", path=_PATH)
    return (server, install) if server and install else None


class Mariadb:
    """A server with one user, who may do everything in the databases that :meth:`new_database` makes."""

    scheme = "mariadb"

    def __init__(
        self,
        programs: tuple[str, str],
        folder: Path,
        port: int,
        options: Sequence[str] = (),
        *,
        durable: bool = False,
    ) -> None:
        server, install = programs
        self.folder = folder
        self.port = port
        self.socket = folder / "socket"
        where = [f"--datadir={folder / 'data'}", f"--tmpdir={folder}"]
        run_as_nobody(
            [install, "--no-defaults", *where, "--auth-root-authentication-method=normal", "--skip-test-db"]
        )
        self.server = ServerProcess(
            [
                server,
                "--no-defaults",
                *where,
                f"--port={port}",
                f"--bind-address={_HOST}",
                f"--socket={self.socket}",
                f"--pid-file={folder / 'pid'}",
                "--skip-name-resolve",
                # Not what we need, and what many servers have: every connection of ours has to set it right.
                "--sql-mode=",
                "--character-set-server=latin1",
                "--default-time-zone=+07:00",
                # Without durable nothing of it outlives the machine.
                f"--innodb-flush-log-at-trx-commit={1 if durable else 2}",
                "--max-connections=300",
                *options,
            ],
            folder / "log",
            self._is_ready,
        )
        self.server.start()
        self.execute(f"CREATE USER '{_USER}'@'%' IDENTIFIED BY '{PASSWORD}'")

    def execute(self, statement: str, database: str | None = None) -> list[Any]:
        """Run a statement as the server's administrator."""
        with self.administrator(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def administrator(self, database: str | None = None) -> Any:
        return pymysql.connect(
            unix_socket=str(self.socket),
            ssl_disabled=True,  # else it reads all of the system's authorities, for each connection
            user="root",
            database=database,
            charset="utf8mb4",
            autocommit=True,
            sql_mode="STRICT_ALL_TABLES,ANSI_QUOTES",  # names quoted as everywhere else
        )

    def new_database(self, **options: Any) -> ServerAddress:
        """Make an empty database."""
        name = f"vault{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} {options.pop('how', '')}")
        self.execute(f"GRANT ALL ON {name}.* TO '{_USER}'@'%'")
        return self.address(name, **options)

    def copy_database(self, source: ServerAddress) -> ServerAddress:
        """Make a database with the tables and rows of another one."""
        made = self.new_database()
        with self.administrator(made.database) as connection, connection.cursor() as cursor:
            cursor.execute(f"SHOW TABLES FROM {source.database}")
            for (table,) in cursor.fetchall():
                cursor.execute(f"CREATE TABLE {table} LIKE {source.database}.{table}")
                cursor.execute(f"INSERT INTO {table} SELECT * FROM {source.database}.{table}")  # noqa: S608  # our own names
        return made

    def drop_database(self, address: ServerAddress) -> None:
        """Drop a database, whoever may still be connected to it."""
        self.execute(f"DROP DATABASE {address.database}")

    def address(self, database: str, **options: Any) -> ServerAddress:
        values = {
            "scheme": self.scheme,
            "hosts": ((_HOST, self.port),),
            "database": database,
            "user": _USER,
            "password": PASSWORD.encode(),
        }
        return ServerAddress(**values | options)  # type: ignore[arg-type]

    def stop(self) -> None:
        self.server.stop(signal.SIGTERM)

    def _is_ready(self) -> bool:
        # Not with the driver: it leaves the socket of a refused connection open.
        with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
            probe.connect(str(self.socket))
            return True
        return False


@contextlib.contextmanager
def running_mariadb(
    free_port: Callable[[], int],
    missing: Callable[[str], None],
    *options: str,
    folder: Path | None = None,
    durable: bool = False,
) -> Iterator[Mariadb]:
    """A server of one's own, with further options; in a folder that its user may write to, or a new one.

    A durable one waits for the disk at each commit.
    """
    programs = find_mariadb()
    if programs is None:
        missing("MariaDB (Debian: apt-get install mariadb-server-core mariadb-client-core)")
    assert programs is not None
    with nullcontext(folder) if folder else own_folder("mariadb") as home:
        server = Mariadb(programs, home, free_port(), options, durable=durable)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def mariadb(free_port: Callable[[], int], missing: Callable[[str], None]) -> Iterator[Mariadb]:
    """The server that tests share: whoever stops or pauses one starts one of their own."""
    with running_mariadb(free_port, missing) as server:
        yield server
