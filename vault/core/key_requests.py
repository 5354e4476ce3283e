"""Requests about keys: asked over the API, carried out by a worker that has the administration door.

A serving process never opens that door. It writes down what is wanted; whoever may do it finds it there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

from vault.audit.events import Action, Result
from vault.core.errors import JobNotFoundError, KeyringNotFoundError
from vault.core.job_ports import (
    EVERY_TENANT,
    JobRow,
    JobState,
    JobStore,
    ProcessRow,
    ProcessStore,
    Progress,
    Turn,
    proof_name,
)
from vault.core.keyrings import Keyrings
from vault.core.policy import Caller, authorize
from vault.core.ports import Clock
from vault.core.rows import AuditRow, KeyVersionRow
from vault.core.trail import AuditTrail, event_of

ROTATE = "rotate"
"""The operation of a request for the next version of a keyring."""


class RotationStore(Protocol):
    """Requests for key versions, and the changes of key versions, each with its entry and the raised epoch."""

    def request(self, job: JobRow, entry: AuditRow) -> JobRow:
        """Commit a request; if there is an open one for the keyring, that one stands for both.

        A keyring that has a pending version already gets no other: the request waits for that one.

        Returns:
            The request as it is stored.
        """
        ...

    def open_requests(self) -> list[JobRow]:
        """Requests that nobody has begun, oldest first."""
        ...

    def pending_versions(self) -> list[KeyVersionRow]:
        """Key versions that are not active yet, oldest first."""
        ...

    def add_version(self, version: KeyVersionRow, entry: AuditRow, *, turn: Turn, progress: Progress) -> Turn:
        """Commit a pending version; open requests for its keyring wait for it from now on.

        Raises:
            LeaseLostError: the turn is over, or the keyring got a pending version in between; nothing was kept.
        """
        ...

    def activate(
        self,
        changes: VersionChange,
        *,
        entry: AuditRow,
        turn: Turn,
        progress: Progress,
    ) -> Turn:
        """Commit that one version takes the place of another; requests that waited for it are done.

        Raises:
            LeaseLostError: the turn is over, or one of the versions has changed; nothing was kept.
        """
        ...

    def give_up(self, request: JobRow, error: str, *, turn: Turn, progress: Progress) -> Turn:
        """Commit that a request failed.

        Raises:
            LeaseLostError: the turn is over; nothing was kept.
        """
        ...


@dataclass(frozen=True, slots=True)
class VersionChange:
    """A pending version becomes active, and the active one is deactivated: before and after, signed."""

    pending: KeyVersionRow
    active: KeyVersionRow
    activated: KeyVersionRow
    deactivated: KeyVersionRow


@dataclass(frozen=True, slots=True)
class ShownJob:
    """A job, and what it waits for: a sentence for people, or None."""

    row: JobRow
    waits_for: str | None


class KeyRequests:
    """Takes requests about keys, and tells what became of them.

    Args:
        rotations: keeps requests.
        jobs: tells of all jobs.
        processes: tells who is at work.
        keyrings: the keyrings as loaded.
        trail: where requests are audited.
        clock: tells the time.
    """

    def __init__(  # each is one thing that it asks
        self,
        rotations: RotationStore,
        jobs: JobStore,
        processes: ProcessStore,
        *,
        keyrings: Keyrings,
        trail: AuditTrail,
        clock: Clock,
    ) -> None:
        self._rotations = rotations
        self._jobs = jobs
        self._processes = processes
        self._keyrings = keyrings
        self._trail = trail
        self._clock = clock

    def rotate(self, caller: Caller, keyring: str) -> ShownJob:
        """Ask for the next version of a keyring; who asks again while it is on its way hears of the same job.

        Raises:
            KeyringNotFoundError: there is none of this name.
        """
        authorize(caller, Action.KEYRING_ROTATE)
        if not self._keyrings.has(caller.tenant, keyring):
            raise KeyringNotFoundError("There is no keyring of this name; GET /v1/keyrings lists them.")
        now = self._clock()
        job = JobRow(
            name=f"{ROTATE}-{os.urandom(8).hex()}",
            tenant=caller.tenant,
            operation=ROTATE,
            state=JobState.WAITING.value,
            created_at=now,
            updated_at=now,
            keyring=keyring,
            requested_by=caller.principal,
        )
        event = event_of(caller, Action.KEYRING_ROTATE, Result.DONE, reason=keyring)
        # Asked before the commit: after it, nothing may fail any more.
        alive = self._alive()
        return _shown(self._rotations.request(job, self._trail.entry(event)), alive)

    def job(self, caller: Caller, name: str) -> ShownJob:
        """One job.

        Raises:
            JobNotFoundError: there is none of this id.
        """
        for shown in self.all(caller):
            if shown.row.name == name:
                return shown
        raise JobNotFoundError("There is no job of this id; GET /v1/jobs lists them.")

    def all(self, caller: Caller) -> list[ShownJob]:
        """The jobs of all tenants' standing work and of the caller's tenant, newest request last."""
        authorize(caller, Action.JOB_READ)
        rows = [row for row in self._jobs.jobs() if row.tenant in {caller.tenant, EVERY_TENANT}]
        rows.sort(key=lambda row: (row.created_at, row.name))
        alive = self._alive()
        return [_shown(row, alive) for row in rows]

    def _alive(self) -> list[ProcessRow]:
        now = self._clock()
        return [process for process in self._processes.processes() if process.is_alive(now)]


def _shown(row: JobRow, alive: list[ProcessRow]) -> ShownJob:
    return ShownJob(row, _obstacle(row, alive))


def _obstacle(row: JobRow, alive: list[ProcessRow]) -> str | None:
    if row.state == JobState.WAITING:
        if any(process.administers for process in alive):
            return "its turn at a worker with the administration door"
        return "a worker with the administration door: strongroom worker --admin"
    if row.state != JobState.RUNNING or row.keyring is None or row.key_version is None:
        return None
    name = proof_name(row.tenant, row.keyring, row.key_version)
    silent = [process for process in alive if not process.has_proved(name)]
    if not silent:
        return "a worker that activates the version"
    return f"processes that have not proved version {row.key_version} yet: " + ", ".join(
        f"{process.role} {process.pid} on {process.host}" for process in silent
    )
