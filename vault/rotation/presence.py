"""A process's row in the table of processes, kept fresh by a heartbeat."""

from __future__ import annotations

import dataclasses
import os
import socket
import threading

import vault
from vault.core.errors import VaultError
from vault.core.job_ports import ProcessRole, ProcessRow, ProcessStore
from vault.core.ports import Clock
from vault.telemetry.logs import event_logger

HEARTBEAT_SECONDS = 10.0
"""Three of them are missed before a process counts as dead."""

_log = event_logger("strongroom.process")


class Presence:
    """Says that this process lives, until it says that it leaves. Safe to use from several threads.

    Args:
        store: where the row is.
        boot_id: of this process.
        role: what it does.
        clock: tells the time.
    """

    def __init__(self, store: ProcessStore, *, boot_id: bytes, role: ProcessRole, clock: Clock) -> None:
        self._store = store
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
        while not self._ended.wait(HEARTBEAT_SECONDS):
            self._beat()

    def _beat(self) -> None:
        with self._turn:
            # A heartbeat after the farewell would leave a row of the dead.
            if self._ended.is_set():
                return
            try:
                self._store.write(dataclasses.replace(self._row, heartbeat_at=self._clock()))
            except VaultError as error:
                _log.warning("heartbeat-missed", code=error.code)
