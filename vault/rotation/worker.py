"""The loop that gives each job its turn, at a pace that leaves the database to those who wait for an answer."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vault.core.errors import UnavailableError, VaultError
from vault.core.job_ports import JobStore, LeaseLostError, Turn
from vault.core.ports import Clock
from vault.rotation.job import Job, JobMeter, Step, lease_end, standing_job
from vault.telemetry.logs import event_logger
from vault.telemetry.traces import places_of

LEAST_PAUSE_SECONDS = 0.005
"""The shortest pause after a batch."""
_SOON_SECONDS = 30.0
"""When a job that could not go on, or that another worker has, is tried again, however long the interval is."""

_log = event_logger("strongroom.worker")


class Stop(Protocol):
    """Says that it is time to end."""

    def is_set(self) -> bool:
        """Whether it is."""
        ...

    def wait(self, timeout: float) -> object:
        """Sleep for so many seconds, or until it is time to end."""
        ...


@dataclass(slots=True)
class _Bench:
    """A job, and the turn that this worker has on it.

    Attributes:
        interval_seconds: how long it rests when nothing waits.
        rests_until: on the monotonic clock.
        done: rows done by this worker.
        failed: rows that the last pass could not do.
    """

    job: Job
    interval_seconds: float
    turn: Turn | None = None
    rests_until: float = 0.0
    done: int = 0
    failed: int = 0

    def rest(self, at_most: float = math.inf) -> None:
        self.rests_until = time.monotonic() + min(self.interval_seconds, at_most)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one job when everything that waited was done.

    Attributes:
        job: its name.
        done: rows done.
        failed: rows that could not be done.
        is_elsewhere: another worker was at it, so it was left to that one.
    """

    job: str
    done: int
    failed: int
    is_elsewhere: bool


class Worker:
    """Does the batches of all jobs, one at a time.

    Args:
        jobs: what to do.
        store: their rows and leases.
        owner: the boot id of this process.
        clock: tells the time for leases.
        meter: counts.
        interval_seconds: how long a job rests when nothing waits.
        intervals: the same for single jobs by name.
    """

    def __init__(  # each is one thing that it needs
        self,
        jobs: Sequence[Job],
        store: JobStore,
        *,
        owner: bytes,
        clock: Clock,
        meter: JobMeter,
        interval_seconds: float,
        intervals: Mapping[str, float] | None = None,
    ) -> None:
        seconds = intervals or {}
        self._benches = [_Bench(job, seconds.get(job.name, interval_seconds)) for job in jobs]
        self._store = store
        self._owner = owner
        self._clock = clock
        self._meter = meter

    def run(self, stop: Stop) -> None:
        """Work until told to stop; then finish the batch and let go of the leases."""
        while not stop.is_set():
            for bench in self._benches:
                if bench.rests_until <= time.monotonic() and not stop.is_set():
                    stop.wait(self._try_batch(bench))
            next_at = min(bench.rests_until for bench in self._benches)
            if next_at > time.monotonic():
                stop.wait(max(0.0, next_at - time.monotonic()))
        self._let_go()

    def run_once(self, stop: Stop) -> list[Outcome]:
        """Do everything that waits now, and say what became of each job.

        Raises:
            VaultError: keys or database cannot be reached; what was done until then is committed.
        """
        try:
            return [self._finish(bench, stop) for bench in self._benches]
        finally:
            self._let_go()

    def _finish(self, bench: _Bench, stop: Stop) -> Outcome:
        is_elsewhere = False
        if bench.job.is_waiting():
            bench.turn = self._take(bench.job)
            is_elsewhere = bench.turn is None
        while bench.turn is not None and not stop.is_set():
            try:
                step = self._batch(bench, bench.turn)
            except LeaseLostError:
                bench.turn, is_elsewhere = None, True
                break
            if not step.is_more:
                break
            stop.wait(_pause_after(step))
        return Outcome(bench.job.name, bench.done, bench.failed, is_elsewhere)

    def _try_batch(self, bench: _Bench) -> float:
        """Do a batch if there is one to do; whatever goes wrong, the other jobs go on. Returns how long to pause."""
        try:
            if bench.turn is None:
                if not bench.job.is_waiting():
                    self._meter.nothing_waits(bench.job.name)
                    bench.rest()
                    return 0.0
                bench.turn = self._take(bench.job)
                if bench.turn is None:
                    bench.rest(_SOON_SECONDS)
                    return 0.0
            step = self._batch(bench, bench.turn)
            if not step.is_more:
                self._store.give_back(step.turn)
                bench.turn = None
                bench.rest()
            return _pause_after(step)
        except LeaseLostError:
            _log.warning("lease-lost", job=bench.job.name)
            bench.turn = None
        except UnavailableError as error:
            # The lease is kept: if nobody took it until then, the next try goes on with it.
            _log.warning("job-waits", job=bench.job.name, code=error.code)
        except VaultError as error:
            _log.critical("job-failed", job=bench.job.name, code=error.code, places=places_of(error))
        except Exception as error:  # noqa: BLE001  # the worker loop: one job's fault must not end the others
            _log.critical("job-failed", job=bench.job.name, code="unexpected", places=places_of(error))
            bench.turn = None
        bench.rest(_SOON_SECONDS)
        return 0.0

    def _take(self, job: Job) -> Turn | None:
        now = self._clock()
        return self._store.take(standing_job(job, now), owner=self._owner, now=now, until=lease_end(now))

    def _batch(self, bench: _Bench, turn: Turn) -> Step:
        started = time.monotonic()
        step = bench.job.step(turn)
        seconds = time.monotonic() - started
        bench.turn = step.turn
        bench.done += step.done
        bench.failed = step.turn.job.failed
        self._meter.batch(bench.job.name, step.done, step.failed, seconds)
        return step

    def _let_go(self) -> None:
        for bench in self._benches:
            if bench.turn is None:
                continue
            try:
                self._store.give_back(bench.turn)
            except VaultError as error:
                # It ends by itself.
                _log.warning("lease-kept", job=bench.job.name, code=error.code)
            bench.turn = None


def _pause_after(step: Step) -> float:
    # As long as the last commit took: at most half of the database's time goes to jobs, less when it is slow.
    return max(LEAST_PAUSE_SECONDS, step.commit_seconds)
