"""Records whose time is over from the start, and workers that erase them in small batches."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from unittest import mock

from tests.faults.live_server import wait_for
from tests.faults.small_vault import CALLER, SmallVault, people_key, store
from vault import bootstrap
from vault.core.clock import system_clock
from vault.core.records import NewDocument

HOUR = 3600 * 1_000_000
LEASE_SECONDS = 2
_SMALL = f"import vault.rotation.job as job; job.BATCH_ROWS = 10; job.LEASE_SECONDS = {LEASE_SECONDS}; "
_RUN = "import vault.cli; vault.cli.main()"


def _an_hour_ago() -> int:
    return system_clock() - HOUR


def store_expired(made: SmallVault, numbers: Iterable[int]) -> list[bytes]:
    """Store records that expired half an hour ago; every third has an earlier generation, too."""
    tokens = []
    with made.opened() as vault, mock.patch("vault.bootstrap.opening.system_clock", _an_hour_ago):
        vault.engine.database.execute_sql("PRAGMA synchronous = off")
        past = bootstrap.assemble(vault.engine, vault.stores, dict(vault.keyrings._providers))
        for number in numbers:
            data = {"email": f"r{number}@example.org", "city": "Rome", "note": f"note {number}"}
            expires_at = system_clock() - HOUR // 2
            row = store(past, data, expires_at=expires_at)
            if number % 3 == 0:
                newer = NewDocument(data | {"note": "newer"}, expires_at=expires_at)
                past.services.records.replace(CALLER, people_key(row.token), newer, if_match=None)
            tokens.append(row.token)
    return tokens


class ExpiringWorker:
    """``strongroom worker`` in small batches and with short leases.

    Args:
        made: the vault.
        log: where its output goes; appended to.
        before: Python that runs before the command does.
    """

    def __init__(self, made: SmallVault, log: Path, *, before: str = "") -> None:
        self._log = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _SMALL + before + _RUN, "worker", "--data", str(made.folder)],
                env=kept | {"STRONGROOM_WORKER__INTERVAL_SECONDS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_stopped(self) -> None:
        """Wait until SIGSTOP has reached it."""
        wait_for(lambda: self._state() == "T", "the worker is stopped")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def stop(self) -> int:
        if self._process.poll() is None:
            self._process.terminate()
        return self._process.wait(20)

    def _state(self) -> str:
        assert self._process.poll() is None, self.log[-2000:]
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
