"""Deleting rows that were kept for a time only: idempotency keys, and processes that are long dead."""

from __future__ import annotations

from typing import Any

from peewee import Database

from vault.core.job_ports import Progress, Turn
from vault.storage.engine import Engine, whole
from vault.storage.jobs import TurnStatements
from vault.storage.statements import Statement, slot
from vault.storage.tables import IdempotencyTable, ProcessTable

_LONGEST = 2 * 24 * 60 * 60 * 1_000_000
"""No genuine time lies further ahead: keys are kept for a day. One that does comes from a clock that was set back
since, and whoever waited for it would wait as long as that clock was wrong."""


class SqlForgettingStore:
    """Deletes in batches, each with its job's progress.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turns = TurnStatements()
        key, process = IdempotencyTable, ProcessTable
        # Keys are in time order by id: the oldest ones tell whether there is anything to do, without an index.
        self._oldest_keys = Statement(
            key.select(key.id, key.expires_at).order_by(key.id).limit(slot("limit"))
        )
        self._forget_keys = Statement(
            key.delete().where(
                key.id <= slot("last"),
                (key.expires_at <= slot("now")) | (key.expires_at > slot("too_late")),
            )
        )
        is_gone = (process.heartbeat_at < slot("before")) | (process.heartbeat_at > slot("too_late"))
        gone = process.select(process.id).where(is_gone).order_by(process.id).limit(slot("limit"))
        self._gone_processes = Statement(gone)
        self._forget_process = Statement(process.delete().where(process.id == slot("id"), is_gone))

    @whole
    def has_keys_to_forget(self, now: int, *, limit: int) -> bool:
        """Whether an old key is past its time; see :class:`vault.core.job_ports.ForgettingStore`."""
        with self._engine.read() as database:
            return bool(self._keys_over(database, now, limit))

    @whole
    def forget_keys(self, *, limit: int, turn: Turn, progress: Progress) -> Turn:
        """Delete the oldest keys whose time is over; see :class:`vault.core.job_ports.ForgettingStore`."""
        with self._engine.write() as database:
            lease = self._turns.renew(database, turn, progress)
            over = self._keys_over(database, progress.now, limit)
            if over:
                self._forget_keys.run(database, _times(progress.now) | {"last": over[-1]})
            job = self._turns.record(database, turn, progress, done=len(over))
        return Turn(lease, job)

    @whole
    def has_processes_to_forget(self, before: int, *, now: int) -> bool:
        """Whether a process is long dead; see :class:`vault.core.job_ports.ForgettingStore`."""
        with self._engine.read() as database:
            values = _times(now) | {"before": before, "limit": 1}
            return self._gone_processes.run(database, values).fetchone() is not None

    @whole
    def forget_processes(self, before: int, *, limit: int, turn: Turn, progress: Progress) -> Turn:
        """Delete rows of long dead processes; see :class:`vault.core.job_ports.ForgettingStore`."""
        values = _times(progress.now) | {"before": before, "limit": limit}
        with self._engine.write() as database:
            lease = self._turns.renew(database, turn, progress)
            gone = self._gone_processes.run(database, values).fetchall()
            for (row_id,) in gone:
                self._forget_process.run(database, values | {"id": row_id})
            job = self._turns.record(database, turn, progress, done=len(gone))
        return Turn(lease, job)

    def _keys_over(self, database: Database, now: int, limit: int) -> list[int]:
        oldest = self._oldest_keys.run(database, {"limit": limit}).fetchall()
        return [row_id for row_id, expires_at in oldest if not now < expires_at <= now + _LONGEST]


def _times(now: int) -> dict[str, Any]:
    return {"now": now, "too_late": now + _LONGEST}
