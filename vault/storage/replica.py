"""A copy of the database that is only read: long searches of the access log are asked there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from peewee import Database

from vault.core.errors import MisconfiguredError, UnavailableError
from vault.storage.engine import Engine
from vault.telemetry.logs import event_logger

T = TypeVar("T")

PAUSE_SECONDS = 10.0
"""How long a replica that was away is not asked again."""
_log = event_logger("strongroom.database")


class Replica:
    """A replica that may be away, and is opened when it is first asked. Safe to use from several threads.

    Args:
        open_it: opens it.
    """

    def __init__(self, open_it: Callable[[], Engine]) -> None:
        self._open = open_it
        self._turn = threading.Lock()
        self._engine: Engine | None = None
        self._away_until = 0.0

    def read(self, query: Callable[[Database], T]) -> T | None:
        """Run a query there; None if the replica cannot answer now, and the database itself has to."""
        try:
            with self._turn:
                if time.monotonic() < self._away_until:
                    return None
                if self._engine is None:
                    self._engine = self._open()
                engine = self._engine
            with engine.read() as database:
                return query(database)
        except (MisconfiguredError, UnavailableError) as error:
            self._away_until = time.monotonic() + PAUSE_SECONDS
            _log.warning("replica-away", error=type(error).__name__)
            return None

    def close(self) -> None:
        """Let go of it."""
        with self._turn:
            engine, self._engine = self._engine, None
            self._away_until = float("inf")
        if engine is not None:
            engine.close()
