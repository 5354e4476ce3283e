"""Finding records whose time is over, and erasing them in batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from peewee import Database

from vault.core.expiry import Erasure, Place
from vault.core.job_ports import Progress, Turn
from vault.core.ports import StaleWriteError
from vault.core.rows import RecordRow
from vault.storage.engine import Engine, whole
from vault.storage.jobs import TurnStatements
from vault.storage.record_transaction import RecordTransaction
from vault.storage.statements import RowMapper, Statement, slot
from vault.storage.tables import RecordTable


class SqlExpiryStore:
    """Expired records in SQL.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turns = TurnStatements()
        self._records = RecordTransaction()
        self._rows = RowMapper(RecordRow)
        record = RecordTable
        # All of it is answered by the index over (erased_at, expires_at), in its own order.
        self._due = Statement(
            record.select(record.expires_at, record.id)
            .where(
                record.erased_at.is_null(),
                record.expires_at <= slot("now"),
                record.expires_at >= slot("expires_at"),
                (record.expires_at > slot("expires_at")) | (record.id > slot("id")),
            )
            .order_by(record.expires_at, record.id)
            .limit(slot("limit"))
        )
        self._find = self._rows.select(record.id == slot("id"))

    @whole
    def due(self, now: int, *, after: Place, limit: int) -> list[Place]:
        """The places of expired records; see :class:`vault.core.expiry.ExpiryStore`."""
        values = {"now": now, "expires_at": after.expires_at, "id": after.id, "limit": limit}
        with self._engine.read() as database:
            return [Place(*columns) for columns in self._due.run(database, values).fetchall()]

    @whole
    def find(self, place: Place) -> RecordRow | None:
        """The record at a place; see :class:`vault.core.expiry.ExpiryStore`."""
        with self._engine.read() as database:
            return self._rows.one(self._find.run(database, {"id": place.id}))

    @whole
    def erase(self, erasures: Sequence[Erasure], *, turn: Turn, progress: Progress) -> Turn:
        """Commit a batch of erasures; see :class:`vault.core.expiry.ExpiryStore`."""
        with self._engine.write() as database:
            lease = self._turns.renew(database, turn, progress)
            done = [each for each in erasures if self._erase(database, each.tombstone)]
            self._records.append(database, [each.entry for each in done])
            job = self._turns.record(database, turn, progress, done=len(done))
        return Turn(lease, job)

    def _erase(self, database: Database, tombstone: RecordRow) -> bool:
        previous = dataclasses.replace(tombstone, revision=tombstone.revision - 1)
        try:
            self._records.erase(database, tombstone, previous)
        except StaleWriteError:
            return False
        return True
