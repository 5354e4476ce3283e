"""What background work needs of a store: jobs, the leases on them, and the processes that are at work.

These rows carry no MAC; the threat model says what a change of one does. Whatever they say, every row of the vault
that a job changes is changed by compare-and-set on its own id and revision.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

EVERY_TENANT = "*"
"""Stands for the tenant of a job that works for all of them."""
MICROSECONDS = 1_000_000
ALIVE_MICROSECONDS = 30 * MICROSECONDS
"""How old a heartbeat may be before its process counts as dead."""


class JobState(enum.StrEnum):
    """What is to become of a job."""

    STANDING = "standing"
    """It never ends: it works whenever there is something to do."""
    WAITING = "waiting"
    """Somebody asked for it, and nobody has begun."""
    RUNNING = "running"
    """It was begun, and goes on as soon as it can."""
    DONE = "done"
    FAILED = "failed"
    """It ended, and nothing more will be done for it."""


class ProcessRole(enum.StrEnum):
    """What a process does."""

    SERVER = "server"
    WORKER = "worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """How far a job has come.

    Attributes:
        name: which job; there is one row for each.
        tenant: whose rows, or :data:`EVERY_TENANT`.
        operation: what it does.
        state: a :class:`JobState`.
        position: where a new worker goes on; 0 for jobs that find what is left by itself.
        done: rows done since the job began.
        failed: rows that it had to leave as they are: of a standing job, those that are there at present.
        error: a fixed word and the row's public reference, for the last row that failed; None if none did.
        revision: +1 with every change; changes compare and set on it.
        keyring: what it works on, for requests about keys.
        key_version: the version that it has made, or found, and waits for.
        requested_by: the principal who asked for it; None for standing jobs.
    """

    name: str
    tenant: str
    operation: str
    state: str
    created_at: int
    updated_at: int
    position: int = 0
    done: int = 0
    failed: int = 0
    error: str | None = None
    revision: int = 1
    keyring: str | None = None
    key_version: int | None = None
    requested_by: str | None = None
    id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRow:
    """Who may work on a job, and until when (UTC microseconds).

    Attributes:
        owner: the boot id of the process.
        epoch: +1 whenever somebody takes the lease, so that two tenures of one owner differ, too.
    """

    name: str
    owner: bytes
    epoch: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to do one batch of a job. A batch commits only if lease and job are still these, and gives the next."""

    lease: LeaseRow
    job: JobRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What a batch changes in its job and lease, besides the rows that it does.

    Attributes:
        now: UTC microseconds.
        lease_until: the lease's new end.
        position: as in :class:`JobRow`.
        failed: as in :class:`JobRow`; the new value.
        error: as in :class:`JobRow`; the new value.
    """

    now: int
    lease_until: int
    position: int = 0
    failed: int = 0
    error: str | None = None


def proof_name(tenant: str, keyring: str, version: int) -> str:
    """A key version as processes name it when they have proved it."""
    return f"{tenant}/{keyring}/{version}"


class LeaseLostError(Exception):
    """Somebody else took the job over, or changed it; nothing of the batch was kept."""


class JobStore(Protocol):
    """Jobs and their leases. The row in the database is the only truth about who may work."""

    def take(self, job: JobRow, *, owner: bytes, now: int, until: int) -> Turn | None:
        """Take the lease on a job if nobody has it; make the job's row if this is the first time.

        Returns:
            None if another process has the lease.
        """
        ...

    def advance(self, turn: Turn, progress: Progress) -> Turn:
        """Renew the lease and record progress, for a batch that changes no rows.

        Raises:
            LeaseLostError: the turn is over.
        """
        ...

    def give_back(self, turn: Turn) -> None:
        """Let go of the lease, so that the next process need not wait for its end; nothing if it is lost."""
        ...

    def jobs(self) -> list[JobRow]:
        """All jobs in the order of their names."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRow:
    """A process that works on this database.

    Attributes:
        boot_id: 16 random bytes; its log entries carry the same.
        role: a :class:`ProcessRole`.
        release: of strongroom.
        heartbeat_at: when it last said that it lives, UTC microseconds.
        administers: 1 if it has the administration door.
        epoch_seen: the vault epoch whose keys it has loaded; None if it has said nothing yet.
        proved: the key versions under which it has wrapped and unwrapped, as :func:`proof_name`, with spaces between.
        cached_data_keys: how many unwrapped data keys it keeps.
        cached_until: when the last of them is forgotten, UTC microseconds; None if there is none.
    """

    boot_id: bytes
    host: str
    pid: int
    role: str
    release: str
    started_at: int
    heartbeat_at: int
    administers: int | None = None
    epoch_seen: int | None = None
    proved: str | None = None
    cached_data_keys: int | None = None
    cached_until: int | None = None

    def has_proved(self, name: str) -> bool:
        """Whether it has wrapped and unwrapped under the key version of this :func:`proof_name`."""
        return name in (self.proved or "").split()

    def is_alive(self, now: int) -> bool:
        """Whether its last heartbeat is recent. One from the future is none: the clock was wrong when it came."""
        return abs(now - self.heartbeat_at) <= ALIVE_MICROSECONDS


class ProcessStore(Protocol):
    """The processes that work on this database."""

    def write(self, row: ProcessRow) -> None:
        """Commit a process's row: a new one, or a later heartbeat."""
        ...

    def remove(self, boot_id: bytes) -> None:
        """Delete the row of a process that ends."""
        ...

    def processes(self) -> list[ProcessRow]:
        """All of them, dead or alive, in the order of their first sign of life."""
        ...


class ForgettingStore(Protocol):
    """Rows that are kept for a time only and that no entry has to tell of."""

    def has_keys_to_forget(self, now: int, *, limit: int) -> bool:
        """Whether one of the oldest idempotency keys is past its time."""
        ...

    def forget_keys(self, *, limit: int, turn: Turn, progress: Progress) -> Turn:
        """Look at the oldest idempotency keys, and delete those whose time is over.

        Raises:
            LeaseLostError: the turn is over; nothing was deleted.
        """
        ...

    def has_processes_to_forget(self, before: int, *, now: int) -> bool:
        """Whether a process has been dead since before that time."""
        ...

    def forget_processes(self, before: int, *, limit: int, turn: Turn, progress: Progress) -> Turn:
        """Delete rows of processes that have been dead since before that time.

        Raises:
            LeaseLostError: the turn is over; nothing was deleted.
        """
        ...
