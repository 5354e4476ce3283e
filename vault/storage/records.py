"""The record store: each write of a record is one transaction with its index rows and its audit entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vault.core.batches import Batch, Outcome
from vault.core.ports import Page, RecordKey, RecordWrite, TagQuery
from vault.core.rows import AuditRow, IndexRow, RecordRow
from vault.storage.batches import run_batch
from vault.storage.record_transaction import RecordTransaction, tag_values
from vault.storage.sqlite import SqliteEngine


class SqlRecordStore:
    """Records, their history and their index rows in SQL.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine
        self._inside = RecordTransaction()
        self._sql = self._inside.sql

    def create(self, write: RecordWrite) -> None:
        """Commit a new record; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.write() as database:
            if write.receipt is not None:
                self._inside.receipts.claim(database, write.receipt, now=write.record.created_at)
            self._inside.create(database, write)
            self._inside.append(database, [write.entry])

    def replace(self, write: RecordWrite, *, previous: RecordRow) -> None:
        """Commit the next generation; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.write() as database:
            self._inside.replace(database, write, previous)
            self._inside.append(database, [write.entry])

    def erase(self, tombstone: RecordRow, *, previous: RecordRow, entry: AuditRow) -> None:
        """Turn the record into its tombstone; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.write() as database:
            self._inside.erase(database, tombstone, previous)
            self._inside.append(database, [entry])

    def batch(self, batch: Batch) -> list[Outcome]:
        """Carry out prepared operations; see :class:`vault.core.ports.RecordStore`."""
        return run_batch(self._engine, self._inside, batch)

    def find(self, key: RecordKey) -> RecordRow | None:
        """Fetch a row without an entry; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.read() as database:
            return self._inside.find(database, key)

    def find_many(self, tenant: str, collection: str, tokens: Sequence[bytes]) -> dict[bytes, RecordRow]:
        """Fetch rows by token; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.snapshot() as database:
            found = (self._inside.find(database, RecordKey(tenant, collection, token)) for token in tokens)
            return {row.token: row for row in found if row is not None}

    def read_for(
        self,
        key: RecordKey,
        *,
        generation: int | None,
        entry_for: Callable[[RecordRow, RecordRow | None], AuditRow],
    ) -> RecordRow | None:
        """Fetch a row and commit its entry; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.write() as database:
            current = self._inside.find(database, key)
            if current is None:
                return None
            wanted = self._inside.generation(database, current, generation)
            self._inside.append(database, [entry_for(current, wanted)])
            return wanted

    def lookup_for(
        self,
        query: TagQuery,
        *,
        now: int,
        page: Page,
        entries_for: Callable[[Sequence[tuple[IndexRow, RecordRow]]], Sequence[AuditRow]],
    ) -> list[tuple[IndexRow, RecordRow]]:
        """Find live records by tag and commit the entries; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.write() as database:
            found = self._inside.lookup(database, query, now, page)
            self._inside.append(database, entries_for(found))
            return found

    def index_rows_with(self, query: TagQuery) -> list[IndexRow]:
        """Find the index rows with a tag; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.read() as database:
            return self._sql.index.all(self._sql.index_by_tag.run(database, tag_values(query)))

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
