"""The record store: each write of a record is one transaction with its index rows and its audit entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

from vault.core.batches import Batch, Outcome
from vault.core.ports import Page, RecordKey, RecordWrite, TagQuery
from vault.core.rows import AuditRow, IndexRow, RecordRow
from vault.storage.batches import run_batch
from vault.storage.engine import Engine, whole
from vault.storage.record_transaction import RecordTransaction, tag_values


class SqlRecordStore:
    """Records, their history and their index rows in SQL.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inside = RecordTransaction()
        self._sql = self._inside.sql

    @whole
    def create(self, write: RecordWrite) -> None:
        """Commit a new record; see :class:`vault.core.ports.RecordStore`."""
        if self._engine.in_one(lambda: self._inside.steps_of_create(write)):
            return
        with self._engine.write() as database:
            if write.receipt is not None:
                self._inside.receipts.claim(database, write.receipt, now=write.record.created_at)
            self._inside.create(database, write)
            self._inside.append(database, [write.entry])

    @whole
    def replace(self, write: RecordWrite, *, previous: RecordRow) -> None:
        """Commit the next generation; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.write() as database:
            self._inside.replace(database, write, previous)
            self._inside.append(database, [write.entry])

    @whole
    def erase(self, tombstone: RecordRow, *, previous: RecordRow, entry: AuditRow) -> None:
        """Turn the record into its tombstone; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.write() as database:
            self._inside.erase(database, tombstone, previous)
            self._inside.append(database, [entry])

    @whole
    def batch(self, batch: Batch) -> list[Outcome]:
        """Carry out prepared operations; see :class:`vault.core.ports.RecordStore`."""
        return run_batch(self._engine, self._inside, batch)

    @whole
    def find(self, key: RecordKey) -> RecordRow | None:
        """Fetch a row without an entry; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.read() as database:
            return self._inside.find(database, key)

    @whole
    def find_many(self, tenant: str, collection: str, tokens: Sequence[bytes]) -> dict[bytes, RecordRow]:
        """Fetch rows by token; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.snapshot() as database:
            return self._inside.find_many(database, tenant, collection, tokens)

    @whole
    def read_for(
        self,
        key: RecordKey,
        *,
        generation: int | None,
        entry_for: Callable[[RecordRow, RecordRow | None], AuditRow],
    ) -> RecordRow | None:
        """Fetch a row and commit its entry; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.decide() as database:
            current = self._inside.find(database, key)
            if current is None:
                return None
            wanted = self._inside.generation(database, current, generation)
            self._inside.append_if_unchanged(database, entry_for(current, wanted), current)
            return wanted

    @whole
    def lookup_for(
        self,
        query: TagQuery,
        *,
        now: int,
        page: Page,
        entries_for: Callable[[Sequence[tuple[IndexRow, RecordRow]]], Sequence[AuditRow]],
    ) -> list[tuple[IndexRow, RecordRow]]:
        """Find live records by tag and commit the entries; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.decide() as database:
            found = self._inside.lookup(database, query, now, page)
            entries = entries_for(found)
            together = nullcontext() if len(entries) == 1 else self._engine.write()
            with together:
                if len(entries) == len(found):
                    for entry, (_, record) in zip(entries, found, strict=True):
                        self._inside.append_if_unchanged(database, entry, record)
                else:
                    self._inside.append(database, entries)
            return found

    @whole
    def index_rows_with(self, query: TagQuery) -> list[IndexRow]:
        """Find the index rows with a tag; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.read() as database:
            return self._sql.index.all(self._sql.index_by_tag.run(database, tag_values(query)))

    @whole
    def list_page(
        self, tenant: str, collection: str, *, now: int, page: Page, entry: AuditRow
    ) -> list[RecordRow]:
        """List live records and commit the entry; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.write() as database:
            values = {
                "tenant": tenant,
                "collection": collection,
                "now": now,
                "after": page.after,
                "limit": page.limit,
            }
            rows = self._sql.records.all(self._sql.list_records.run(database, values))
            self._inside.append(database, [entry])
            return rows
