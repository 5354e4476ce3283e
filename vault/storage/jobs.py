"""Jobs and their leases. Every change compares and sets; what a batch changes commits with its rows."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from peewee import Database

from vault.core.job_ports import JobRow, LeaseLostError, LeaseRow, Progress, Turn
from vault.storage.engine import Engine, whole
from vault.storage.statements import NewRowStatement, Statement, slot
from vault.storage.tables import JobLeaseTable, JobTable

P = TypeVar("P")


class TurnStatements:
    """What a batch does to lease and job inside the transaction that changes its rows."""

    def __init__(self) -> None:
        lease, job = JobLeaseTable, JobTable
        self._renew = Statement(lease.update({lease.expires_at: slot("until")}).where(*_same_lease()))
        self._record = Statement(
            job.update(
                {
                    job.position: slot("position"),
                    job.done: slot("done"),
                    job.failed: slot("failed"),
                    job.error: slot("error"),
                    job.updated_at: slot("updated_at"),
                    job.revision: slot("revision"),
                }
            ).where(job.id == slot("id"), job.revision == slot("previous_revision"))
        )

    def renew(self, database: Database, turn: Turn, progress: Progress) -> LeaseRow:
        """Make sure that the lease is still the turn's, and move its end. Comes before any row is changed.

        Raises:
            LeaseLostError: somebody else has it.
        """
        if self._renew.run(database, values_of(turn.lease) | {"until": progress.lease_until}).rowcount != 1:
            raise LeaseLostError(turn.lease.name)
        return dataclasses.replace(turn.lease, expires_at=progress.lease_until)

    def record(self, database: Database, turn: Turn, progress: Progress, *, done: int) -> JobRow:
        """Record what a batch did.

        Raises:
            LeaseLostError: somebody else changed the job.
        """
        job = dataclasses.replace(
            turn.job,
            position=progress.position,
            done=turn.job.done + done,
            failed=progress.failed,
            error=progress.error,
            updated_at=progress.now,
            revision=turn.job.revision + 1,
        )
        values = values_of(job) | {"previous_revision": turn.job.revision}
        if self._record.run(database, values).rowcount != 1:
            raise LeaseLostError(job.name)
        return job


class SqlJobStore:
    """Jobs in SQL.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turns = TurnStatements()
        lease, job = JobLeaseTable, JobTable
        lease_names, job_names = names_of(LeaseRow), names_of(JobRow)
        self._find_lease = Statement(
            lease.select(*(getattr(lease, name) for name in lease_names)).where(lease.name == slot("name"))
        )
        self._insert_lease = NewRowStatement(
            lease.insert({getattr(lease, name): slot(name) for name in lease_names}).on_conflict_ignore()
        )
        self._take_over = Statement(
            lease.update(
                {
                    lease.owner: slot("new_owner"),
                    lease.epoch: slot("new_epoch"),
                    lease.expires_at: slot("until"),
                }
            ).where(*_same_lease())
        )
        columns = [getattr(job, name) for name in job_names]
        self._find_job = Statement(job.select(*columns).where(job.name == slot("name")))
        self._list_jobs = Statement(job.select(*columns).order_by(job.name))
        self._insert_job = NewRowStatement(
            job.insert(
                {getattr(job, name): slot(name) for name in job_names if name != "id"}
            ).on_conflict_ignore()
        )
        self._give_back = Statement(lease.update({lease.expires_at: 0}).where(*_same_lease()))

    @whole
    def take(self, job: JobRow, *, owner: bytes, now: int, until: int) -> Turn | None:
        """Take the lease on a job; see :class:`vault.core.job_ports.JobStore`."""
        wanted = LeaseRow(name=job.name, owner=owner, epoch=1, expires_at=until)
        with self._engine.write() as database:
            found = one_of(LeaseRow, self._find_lease.run(database, {"name": job.name}))
            if found is None:
                if not self._insert_lease.insert(database, values_of(wanted)):
                    return None
            elif _is_held(found, now, until):
                return None
            else:
                wanted = dataclasses.replace(wanted, epoch=found.epoch + 1)
                values = values_of(found) | {
                    "new_owner": owner,
                    "new_epoch": wanted.epoch,
                    "until": until,
                }
                if self._take_over.run(database, values).rowcount != 1:
                    return None
            stored = one_of(JobRow, self._find_job.run(database, {"name": job.name}))
            if stored is None:
                self._insert_job.insert(database, values_of(job))
                stored = one_of(JobRow, self._find_job.run(database, {"name": job.name}))
        return None if stored is None else Turn(wanted, stored)

    @whole
    def advance(self, turn: Turn, progress: Progress) -> Turn:
        """Renew the lease and record progress; see :class:`vault.core.job_ports.JobStore`."""
        with self._engine.write() as database:
            lease = self._turns.renew(database, turn, progress)
            job = self._turns.record(database, turn, progress, done=0)
        return Turn(lease, job)

    @whole
    def give_back(self, turn: Turn) -> None:
        """Let go of the lease; see :class:`vault.core.job_ports.JobStore`."""
        with self._engine.write() as database:
            self._give_back.run(database, values_of(turn.lease))

    @whole
    def jobs(self) -> list[JobRow]:
        """All jobs; see :class:`vault.core.job_ports.JobStore`."""
        with self._engine.read() as database:
            return all_of(JobRow, self._list_jobs.run(database, {}))


def names_of(row_type: type[Any]) -> list[str]:
    """The columns of a plain row type, in its order."""
    return [field.name for field in dataclasses.fields(row_type)]


def values_of(row: Any) -> dict[str, Any]:
    """A plain row's columns by name, as slots expect them."""
    return {name: getattr(row, name) for name in names_of(type(row))}


def one_of(row_type: type[P], cursor: Any) -> P | None:
    """Read the single row of a cursor, or None."""
    columns = cursor.fetchone()
    return None if columns is None else row_type(**dict(zip(names_of(row_type), columns, strict=True)))


def all_of(row_type: type[P], cursor: Any) -> list[P]:
    """Read all rows of a cursor."""
    names = names_of(row_type)
    return [row_type(**dict(zip(names, columns, strict=True))) for columns in cursor.fetchall()]


def _same_lease() -> tuple[Any, ...]:
    return tuple(getattr(JobLeaseTable, name) == slot(name) for name in names_of(LeaseRow))


def _is_held(lease: LeaseRow, now: int, until: int) -> bool:
    # No genuine lease ends later than one that begins now, but for clocks that differ a little. One that does was
    # taken by a clock that has been set back since, and would hold the job for as long as that clock was wrong.
    return now < lease.expires_at <= until + (until - now)
