"""Requests for key versions, and what changes a key version; each change in one transaction, with its entry."""

from __future__ import annotations

from typing import Any

from peewee import Database

from vault.core.job_ports import JobRow, JobState, LeaseLostError, Progress, Turn
from vault.core.key_requests import ROTATE, VersionChange
from vault.core.rows import AuditRow, KeyState, KeyVersionRow
from vault.storage.engine import Engine, whole
from vault.storage.epoch import EpochRaise
from vault.storage.fields import locking
from vault.storage.jobs import TurnStatements, all_of, names_of, one_of, values_of
from vault.storage.statements import RowMapper, Statement, exists, slot
from vault.storage.tables import JobTable, KeyringTable, KeyVersionTable

_OPEN = (JobState.WAITING.value, JobState.RUNNING.value)


class SqlRotationStore:
    """Rotations in SQL; see :class:`vault.core.key_requests.RotationStore` for each method.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turns = TurnStatements()
        self._epoch = EpochRaise()
        self._versions = RowMapper(KeyVersionRow)
        self._audit = RowMapper(AuditRow)
        self._append = self._audit.insert()
        job, version = JobTable, KeyVersionTable
        names = [name for name in names_of(JobRow) if name != "id"]
        columns = [getattr(job, name) for name in names_of(JobRow)]
        of_ring = (job.tenant == slot("tenant"), job.keyring == slot("keyring"), job.operation == ROTATE)
        self._insert_job = Statement(job.insert({getattr(job, name): slot(name) for name in names}))
        self._open_of_ring = Statement(
            job.select(*columns).where(*of_ring, job.state.in_(_OPEN)).order_by(job.id).limit(1)
        )
        self._waiting = Statement(
            job.select(*columns)
            .where(job.operation == ROTATE, job.state == JobState.WAITING.value)
            .order_by(job.id)
        )
        # One request at a time for a keyring: two that both found none open would each make one.
        ring = KeyringTable
        self._hold_keyring = Statement(
            locking(ring.select(ring.id).where(ring.tenant == slot("tenant"), ring.name == slot("keyring")))
        )
        changed = {job.updated_at: slot("now"), job.revision: job.revision + 1}
        self._begin = Statement(
            job.update(changed | {job.state: JobState.RUNNING.value, job.key_version: slot("version")}).where(
                *of_ring, job.state == JobState.WAITING.value
            )
        )
        self._finish = Statement(
            job.update(changed | {job.state: JobState.DONE.value, job.done: 1}).where(
                *of_ring, job.state == JobState.RUNNING.value, job.key_version == slot("version")
            )
        )
        self._fail = Statement(
            job.update(
                changed | {job.state: JobState.FAILED.value, job.failed: 1, job.error: slot("error")}
            ).where(job.id == slot("id"), job.state == JobState.WAITING.value)
        )
        pending_of_ring = (
            version.tenant == slot("tenant"),
            version.keyring == slot("keyring"),
            version.state == KeyState.PENDING.value,
        )
        self._pending_of_ring = self._versions.select(*pending_of_ring, order_by=version.id)
        self._pending = self._versions.select(version.state == KeyState.PENDING.value, order_by=version.id)
        # One at a time: a second one would be made active right after the first, for nothing.
        self._insert_version = self._versions.insert(~exists(version, *pending_of_ring))
        # The MAC stands for the whole row: the row that is replaced is the one that was read.
        self._update_version = self._versions.update(
            version.id == slot("previous_id"), version.mac == slot("previous_mac")
        )

    @whole
    def request(self, job: JobRow, entry: AuditRow) -> JobRow:
        """Commit a request, unless an open one stands for it."""
        with self._engine.write() as database:
            self._append.run(database, self._audit.values(entry))
            values = values_of(job)
            self._hold_keyring.run(database, values).fetchall()
            found = one_of(JobRow, self._open_of_ring.run(database, values))
            if found is None:
                self._insert_job.run(database, values)
                pending = self._versions.one(self._pending_of_ring.run(database, values))
                if pending is not None:
                    self._begin.run(database, _of_ring(pending, job.updated_at))
                found = one_of(JobRow, self._open_of_ring.run(database, values))
        return job if found is None else found

    @whole
    def open_requests(self) -> list[JobRow]:
        """Requests that nobody has begun, oldest first."""
        with self._engine.read() as database:
            return all_of(JobRow, self._waiting.run(database, {}))

    @whole
    def pending_versions(self) -> list[KeyVersionRow]:
        """Key versions that are not active yet, oldest first."""
        with self._engine.read() as database:
            return self._versions.all(self._pending.run(database, {}))

    @whole
    def add_version(self, version: KeyVersionRow, entry: AuditRow, *, turn: Turn, progress: Progress) -> Turn:
        """Commit a pending version."""
        with self._engine.write() as database:
            lease = self._turns.renew(database, turn, progress)
            if self._insert_version.run(database, self._versions.values(version)).rowcount != 1:
                raise LeaseLostError(turn.job.name)
            self._begin.run(database, _of_ring(version, progress.now))
            self._append.run(database, self._audit.values(entry))
            job = self._turns.record(database, turn, progress, done=1)
            self._epoch.run(database)
        return Turn(lease, job)

    @whole
    def activate(self, changes: VersionChange, *, entry: AuditRow, turn: Turn, progress: Progress) -> Turn:
        """Commit that one version takes the place of another."""
        with self._engine.write() as database:
            lease = self._turns.renew(database, turn, progress)
            self._replace(database, changes.active, changes.deactivated, turn)
            self._replace(database, changes.pending, changes.activated, turn)
            self._finish.run(database, _of_ring(changes.activated, progress.now))
            self._append.run(database, self._audit.values(entry))
            job = self._turns.record(database, turn, progress, done=1)
            self._epoch.run(database)
        return Turn(lease, job)

    @whole
    def give_up(self, request: JobRow, error: str, *, turn: Turn, progress: Progress) -> Turn:
        """Commit that a request failed."""
        with self._engine.write() as database:
            lease = self._turns.renew(database, turn, progress)
            self._fail.run(database, {"id": request.id, "now": progress.now, "error": error})
            job = self._turns.record(database, turn, progress, done=0)
        return Turn(lease, job)

    def _replace(
        self, database: Database, previous: KeyVersionRow, following: KeyVersionRow, turn: Turn
    ) -> None:
        identity = {"previous_id": previous.id, "previous_mac": previous.mac}
        if self._update_version.run(database, self._versions.values(following) | identity).rowcount != 1:
            raise LeaseLostError(turn.job.name)


def _of_ring(version: KeyVersionRow, now: int) -> dict[str, Any]:
    return {
        "tenant": version.tenant,
        "keyring": version.keyring,
        "version": version.version,
        "now": now,
    }
