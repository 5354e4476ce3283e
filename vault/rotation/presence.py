"""A process's row in the table of processes, kept fresh by a heartbeat."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading
import time

import vault
from vault.core.errors import VaultError
from vault.core.job_ports import MICROSECONDS, ProcessRole, ProcessRow, ProcessStore
from vault.core.ports import Clock
from vault.rotation.proving import KeyWatch
from vault.telemetry.logs import event_logger
from vault.telemetry.traces import places_of

HEARTBEAT_SECONDS = 10.0
"""Three of them are missed before a process counts as dead."""
LOOK_SECONDS = 1.0
"""How often a process looks whether keys have changed; news is written at once, all else with the next heartbeat."""

_log = event_logger("strongroom.process")


class Presence:
    """Says that this process lives, until it says that it leaves. Safe to use from several threads.

    Args:
        store: where the row is.
        boot_id: of this process.
        role: what it does.
        clock: tells the time.
        watch: follows the keys, and has a say in what the row says.
        administers: whether the process has the administration door.
    """

    def __init__(  # each is a column of the row, or gives some
        self,
        store: ProcessStore,
        *,
        boot_id: bytes,
        role: ProcessRole,
        clock: Clock,
        watch: KeyWatch,
        administers: bool = False,
    ) -> None:
        self._store = store
        self._watch = watch
        self._clock = clock
        self._turn = threading.Lock()
        self._ended = threading.Event()
        now = clock()
        self._row = ProcessRow(
            boot_id=boot_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            role=role.value,
            release=vault.__version__,
            started_at=now,
            heartbeat_at=now,
            administers=int(administers),
        )

    def begin(self) -> None:
        """Write the row, and keep it fresh from a thread of its own."""
        self._beat()
        threading.Thread(target=self._beat_for_ever, name="heartbeat", daemon=True).start()

    def leave(self) -> None:
        """Remove the row: this process ends as it should."""
        self._ended.set()
        with self._turn:
            try:
                self._store.remove(self._row.boot_id)
            except VaultError as error:
                _log.warning("process-row-left", code=error.code)

    def _beat_for_ever(self) -> None:
        beat_at = time.monotonic() + HEARTBEAT_SECONDS
        while not self._ended.wait(LOOK_SECONDS):
            if self._is_news() or time.monotonic() >= beat_at:
                self._beat()
                beat_at = time.monotonic() + HEARTBEAT_SECONDS

    def _is_news(self) -> bool:
        try:
            return self._watch.look()
        except VaultError as error:
            _log.warning("epoch-not-seen", code=error.code)
        except Exception as error:  # noqa: BLE001  # a worker loop: without a heartbeat the process counts as dead
            _log.critical("key-watch-failed", places=places_of(error))
        return False

    def _beat(self) -> None:
        with self._turn:
            # A heartbeat after the farewell would leave a row of the dead.
            if self._ended.is_set():
                return
            try:
                self._store.write(self._current())
            except VaultError as error:
                _log.warning("heartbeat-missed", code=error.code)

    def _current(self) -> ProcessRow:
        now, report = self._clock(), self._watch.report()
        until = now + round(report.cached_seconds * MICROSECONDS) if report.cached_data_keys else None
        return dataclasses.replace(
            self._row,
            heartbeat_at=now,
            epoch_seen=report.epoch_seen,
            proved=" ".join(report.proved),
            cached_data_keys=report.cached_data_keys,
            cached_until=until,
        )
