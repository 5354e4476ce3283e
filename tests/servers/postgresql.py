"""A real PostgreSQL server for tests."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.servers.unprivileged import ServerProcess, own_folder, run_as_nobody
from tests.waiting import until
from vault.storage.address import ServerAddress

_HOST = "127.0.0.1"
_USER = "strongroom"
PASSWORD = "p@ss:wörd/%41"
_numbers = itertools.count(1)


def find_postgresql() -> Path | None:
    """The folder of the server's programs."""
    config = shutil.which("pg_config")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if config is not None:
        said = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True).stdout
        folders.append(Path(said.strip()))
    return next((folder for folder in folders if (folder / "initdb").exists()), None)


class Postgresql:
    """A server with one user, who owns the databases that :meth:`new_database` makes."""

    scheme = "postgresql"

    def __init__(
        self,
        programs: Path,
        folder: Path,
        port: int,
        options: Mapping[str, Any] | None = None,
        *,
        durable: bool = False,
    ) -> None:
        self.folder = folder
        self.port = port
        secret = folder / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        run_as_nobody(
            [
                programs / "initdb",
                "-D",
                folder / "data",
                "-U",
                "root",
                f"--pwfile={secret}",
                "--auth=scram-sha-256",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            ]
        )
        settings = {
            "port": port,
            "listen_addresses": _HOST,
            "unix_socket_directories": folder,
            # Without durable nothing of it outlives the machine.
            "fsync": "on" if durable else "off",
            "synchronous_commit": "on",
            "max_connections": 300,
            "shared_buffers": "32MB",
            **(options or {}),
        }
        self.server = ServerProcess(
            [
                programs / "postgres",
                "-D",
                folder / "data",
                *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
            ],
            folder / "log",
            self._is_ready,
        )
        self.server.start()
        self.execute(f"CREATE ROLE {_USER} LOGIN PASSWORD '{PASSWORD}'")

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Run a statement as the server's administrator."""
        with self.administrator(database) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def administrator(self, database: str = "postgres") -> Any:
        return psycopg.connect(
            host=_HOST, port=self.port, user="root", password=PASSWORD, dbname=database, autocommit=True
        )

    def reload(self) -> None:
        """Let the server read its files again, and come back when it has."""
        read_at = "SELECT pg_conf_load_time()"
        before = self.execute(read_at)
        self.execute("SELECT pg_reload_conf()")
        until(lambda: self.execute(read_at) != before, "the server read its files", seconds=10)

    def new_database(self, **options: Any) -> ServerAddress:
        """Make an empty database."""
        name = f"vault{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} OWNER {_USER} {options.pop('how', '')}")
        return self.address(name, **options)

    def copy_database(self, source: ServerAddress) -> ServerAddress:
        """Make a database with the tables and rows of another one, that nobody is connected to."""
        return self.new_database(how=f"TEMPLATE {source.database}")

    def drop_database(self, address: ServerAddress) -> None:
        """Drop a database, whoever may still be connected to it."""
        self.execute(f"DROP DATABASE {address.database} WITH (FORCE)")

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
        self.server.stop(signal.SIGINT)

    def _is_ready(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError):
            self.execute("SELECT 1")
            return True
        return False


@contextlib.contextmanager
def running_postgresql(
    free_port: Callable[[], int],
    missing: Callable[[str], None],
    *,
    folder: Path | None = None,
    durable: bool = False,
    **options: Any,
) -> Iterator[Postgresql]:
    """A server of one's own, with further settings; in a folder that its user may write to, or a new one.

    A durable one waits for the disk at each commit.
    """
    programs = find_postgresql()
    if programs is None:
        missing("PostgreSQL (Debian: apt-get install postgresql)")
    assert programs is not None
    with nullcontext(folder) if folder else own_folder("postgresql") as home:
        server = Postgresql(programs, home, free_port(), options, durable=durable)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgresql(free_port: Callable[[], int], missing: Callable[[str], None]) -> Iterator[Postgresql]:
    """The server that tests share: whoever stops or pauses one starts one of their own."""
    with running_postgresql(free_port, missing) as server:
        yield server
