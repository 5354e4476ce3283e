"""The job that erases expired records, of all tenants and collections."""

from __future__ import annotations

import time

from vault.core.errors import IntegrityError
from vault.core.expiry import START, Erasure, Expiry, ExpiryStore
from vault.core.job_ports import Progress, Turn
from vault.core.ports import Clock
from vault.rotation import job
from vault.rotation.job import Step
from vault.telemetry.logs import event_logger

_MOST_NAMED = 1_000
"""Unsound rows of one pass that are named in the log; all of them are counted."""

_log = event_logger("strongroom.worker")


class ExpireRecords:
    """Erases records in the order in which their time ended.

    A pass goes once over everything that is due. What it erases is no longer found, so a job that was killed begins
    its pass anew. A row that is not what the vault wrote is left as it is, named in the log when it is first seen,
    counted in the job, and stepped over: the next pass meets it again.

    Args:
        store: finds and erases.
        expiry: prepares the erasures.
        clock: tells the time.
    """

    name = "expire"
    operation = "expire"

    def __init__(self, store: ExpiryStore, expiry: Expiry, clock: Clock) -> None:
        self._store = store
        self._expiry = expiry
        self._clock = clock
        self._after = START
        self._unsound = 0
        self._error: str | None = None
        self._named: set[int] = set()
        self._named_before: set[int] = set()

    def is_waiting(self) -> bool:
        """Whether a record is past its time."""
        return bool(self._store.due(self._clock(), after=START, limit=1))

    def step(self, turn: Turn) -> Step:
        """Erase one batch of records; see :class:`vault.rotation.job.Job`."""
        now = self._clock()
        due = self._store.due(now, after=self._after, limit=job.BATCH_ROWS)
        is_more = len(due) == job.BATCH_ROWS
        erasures: list[Erasure] = []
        new = 0
        for place in due:
            # One row at a time: a hundred of the largest documents would be a hundred megabytes.
            row = self._store.find(place)
            try:
                erasure = None if row is None else self._expiry.erasure_of(row, now)
            except IntegrityError as error:
                new += self._report(place.id, error)
            else:
                erasures += [] if erasure is None else [erasure]
        started = time.monotonic()
        following = self._store.erase(
            erasures, turn=turn, progress=self._progress(turn, now, is_more=is_more)
        )
        seconds = time.monotonic() - started
        self._after = due[-1] if is_more else START
        if not is_more:
            self._begin_pass()
        return Step(following, following.job.done - turn.job.done, new, seconds, is_more)

    def _progress(self, turn: Turn, now: int, *, is_more: bool) -> Progress:
        # In the middle of a pass, what the last one found still counts.
        failed = max(turn.job.failed, self._unsound) if is_more else self._unsound
        error = self._error or (turn.job.error if is_more else None)
        return job.progress_at(now, failed=failed, error=error)

    def _begin_pass(self) -> None:
        self._unsound = 0
        self._error = None
        self._named, self._named_before = set(), self._named

    def _report(self, row_id: int, error: IntegrityError) -> bool:
        """Count an unsound row, and name it if that is new; return whether it is."""
        self._unsound += 1
        self._error = str(error)
        if len(self._named) < _MOST_NAMED:
            self._named.add(row_id)
        if row_id in self._named_before or row_id not in self._named:
            return False
        _log.critical("row-unsound", job=self.name, finding=error.finding, where=error.where)
        return True
