"""A streaming replica of a PostgreSQL server for tests."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg

from tests.servers.postgresql import PASSWORD, Postgresql, find_postgresql
from tests.servers.unprivileged import ServerProcess, as_nobody, own_folder

_HOST = "127.0.0.1"
_PATIENCE_SECONDS = 20.0


class Standby:
    """A server that takes in what another one commits, and is only read.

    Args:
        primary: the other one.
        folder: for its data.
        port: where it listens.
    """

    def __init__(self, primary: Postgresql, folder: Path, port: int) -> None:
        programs = find_postgresql()
        assert programs is not None
        self.port = port
        self._primary = primary
        # Through the environment of a process that ends at once; -R writes it where the standby looks for it.
        copied = subprocess.run(
            [programs / "pg_basebackup", "-h", _HOST, "-p", str(primary.port), "-U", "root", "-w", "-D", folder / "data",
             "-R", "-X", "stream", "-c", "fast", "--no-sync"],
            env=os.environ | {"PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            **as_nobody(),
        )  # fmt: skip
        assert copied.returncode == 0, copied.stderr
        settings = {
            "port": port,
            "listen_addresses": _HOST,
            "unix_socket_directories": folder,
            "fsync": "off",
            "max_connections": 300,  # no fewer than the primary has, or it refuses to follow
        }
        self.server = ServerProcess(
            [programs / "postgres", "-D", folder / "data",
             *(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))],
            folder / "log",
            self._is_ready,
        )  # fmt: skip
        self.server.start()

    def catch_up(self) -> None:
        """Wait until it has taken in all that the primary has committed."""
        ((wanted,),) = self._primary.execute("SELECT pg_current_wal_lsn()")
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            with self._connection() as connection:
                found = connection.execute(
                    "SELECT pg_last_wal_replay_lsn() >= CAST(%s AS pg_lsn)", [str(wanted)]
                ).fetchone()
            if found is not None and found[0]:
                return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        self.server.stop(signal.SIGINT)

    def _connection(self) -> psycopg.Connection[tuple[bool]]:
        return psycopg.connect(
            host=_HOST, port=self.port, user="root", password=PASSWORD, dbname="postgres", autocommit=True
        )

    def _is_ready(self) -> bool:
        with contextlib.suppress(psycopg.OperationalError), self._connection() as connection:
            connection.execute("SELECT 1")
            return True
        return False


@contextlib.contextmanager
def standby_of(primary: Postgresql, free_port: Callable[[], int]) -> Iterator[Standby]:
    """A streaming replica of a server."""
    with own_folder("standby") as folder:
        made = Standby(primary, folder, free_port())
        try:
            yield made
        finally:
            made.stop()
