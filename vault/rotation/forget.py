"""The jobs that delete rows which were kept for a time only."""

from __future__ import annotations

import time
from collections.abc import Callable

from vault.core.job_ports import ForgettingStore, Turn
from vault.core.ports import Clock
from vault.rotation.job import BATCH_ROWS, Step, progress_at

KEYS_OF_BATCH = 500
"""Idempotency keys that one batch looks at; deleting one is cheaper than erasing a record."""
DEAD_PROCESS_KEPT = 24 * 60 * 60 * 1_000_000
"""How long the row of a dead process is kept for whoever wants to know what happened, in microseconds."""


class ForgetIdempotencyKeys:
    """Deletes idempotency keys past their time, oldest first.

    Args:
        store: deletes.
        clock: tells the time.
    """

    name = "forget-idempotency-keys"
    operation = "forget"

    def __init__(self, store: ForgettingStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def is_waiting(self) -> bool:
        """Whether a key is past its time."""
        return self._store.has_keys_to_forget(self._clock(), limit=KEYS_OF_BATCH)

    def step(self, turn: Turn) -> Step:
        """Delete one batch; see :class:`vault.rotation.job.Job`."""
        progress = progress_at(self._clock())
        return _timed(
            turn, lambda: self._store.forget_keys(limit=KEYS_OF_BATCH, turn=turn, progress=progress)
        )


class ForgetProcesses:
    """Deletes the rows of processes that have been dead for a day.

    Args:
        store: deletes.
        clock: tells the time.
    """

    name = "forget-processes"
    operation = "forget"

    def __init__(self, store: ForgettingStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def is_waiting(self) -> bool:
        """Whether a process has been dead for a day."""
        now = self._clock()
        return self._store.has_processes_to_forget(now - DEAD_PROCESS_KEPT, now=now)

    def step(self, turn: Turn) -> Step:
        """Delete one batch; see :class:`vault.rotation.job.Job`."""
        progress = progress_at(self._clock())
        return _timed(
            turn,
            lambda: self._store.forget_processes(
                progress.now - DEAD_PROCESS_KEPT, limit=BATCH_ROWS, turn=turn, progress=progress
            ),
        )


def _timed(turn: Turn, commit: Callable[[], Turn]) -> Step:
    started = time.monotonic()
    following = commit()
    seconds = time.monotonic() - started
    done = following.job.done - turn.job.done
    # Until a batch finds nothing: cheaper than to count what is left.
    return Step(following, done, 0, seconds, is_more=done > 0)
