"""What a background job is: something that can do one batch, say how it went, and be killed at any instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vault.core.job_ports import EVERY_TENANT, JobRow, JobState, Progress, Turn

BATCH_ROWS = 100
"""Rows of one batch: one transaction, which everybody who writes waits for."""
LEASE_SECONDS = 30
"""How long a worker that says nothing keeps its jobs."""
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of one batch.

    Attributes:
        turn: for the next batch.
        done: rows done.
        failed: rows newly found that could not be done.
        commit_seconds: how long the transaction took, its wait for the other writers included.
        is_more: whether more waits.
    """

    turn: Turn
    done: int
    failed: int
    commit_seconds: float
    is_more: bool


class Job(Protocol):
    """One kind of work. It plans outside of transactions, and commits a batch together with its turn.

    Attributes:
        name: of the job's row and lease.
        operation: what it does, for the job's row.
    """

    @property
    def name(self) -> str: ...  # noqa: D102  # described above

    @property
    def operation(self) -> str: ...  # noqa: D102  # described above

    def is_waiting(self) -> bool:
        """Whether there seems to be something to do. Reads only, and needs no lease."""
        ...

    def step(self, turn: Turn) -> Step:
        """Do one batch.

        Raises:
            LeaseLostError: the turn is over; nothing was changed.
            UnavailableError: keys or database cannot be reached just now; nothing was changed.
        """
        ...


class JobMeter(Protocol):
    """Counts what jobs do."""

    def batch(self, job: str, rows_done: int, rows_failed: int, seconds: float) -> None:
        """Count one batch."""
        ...

    def nothing_waits(self, job: str) -> None:
        """Note that a job has looked and found nothing to do: that is a success, too."""
        ...


def standing_job(job: Job, now: int) -> JobRow:
    """The first row of a job that never ends and works for all tenants."""
    return JobRow(
        name=job.name,
        tenant=EVERY_TENANT,
        operation=job.operation,
        state=JobState.STANDING.value,
        created_at=now,
        updated_at=now,
    )


def lease_end(now: int) -> int:
    """When a lease that is taken or renewed now ends."""
    return now + LEASE_SECONDS * _MICROSECONDS


def progress_at(now: int, *, position: int = 0, failed: int = 0, error: str | None = None) -> Progress:
    """The progress of a batch, with the lease renewed."""
    return Progress(now=now, lease_until=lease_end(now), position=position, failed=failed, error=error)
