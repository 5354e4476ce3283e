"""The record store: each write of a record is one transaction with its index rows and its audit entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from peewee import Database, Select

from vault.core.ports import DuplicateIndexError, Page, RecordKey, RecordWrite, StaleWriteError, TagQuery
from vault.core.rows import AuditRow, IndexRow, KeyState, RecordHistoryRow, RecordRow
from vault.storage.sqlite import SqliteEngine
from vault.storage.statements import RowMapper, Statement, exists, slot
from vault.storage.tables import (
    CollectionTable,
    IndexTable,
    KeyVersionTable,
    RecordHistoryTable,
    RecordTable,
    StoredKeyTable,
)


class SqlRecordStore:
    """Records, their history and their index rows in SQL.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: SqliteEngine) -> None:
        self._engine = engine
        self._sql = _RecordStatements()

    def create(self, write: RecordWrite) -> None:
        """Commit a new record; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.write() as database:
            values = self._sql.records.values(write.record)
            if self._sql.insert_record.run(database, values).rowcount != 1:
                raise self._why_stale(database, write.record)
            self._insert_index(database, write)
            self._append(database, write.entry)

    def replace(self, write: RecordWrite, *, previous: RecordRow) -> None:
        """Commit the next generation; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.write() as database:
            values = self._sql.records.values(write.record) | _identity(previous)
            if self._sql.replace_record.run(database, values).rowcount != 1:
                raise self._why_stale(database, write.record)
            self._sql.delete_index.run(database, values)
            self._insert_index(database, write)
            if write.history is not None:
                self._sql.insert_history.run(database, self._sql.history.values(write.history))
            oldest_kept = write.record.generation - write.history_limit
            self._sql.trim_history.run(database, values | {"oldest_kept": oldest_kept})
            self._append(database, write.entry)

    def erase(self, tombstone: RecordRow, *, previous: RecordRow, entry: AuditRow) -> None:
        """Turn the record into its tombstone; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.write() as database:
            values = self._sql.records.values(tombstone) | _identity(previous)
            if self._sql.erase_record.run(database, values).rowcount != 1:
                raise StaleWriteError("record")
            self._sql.delete_index.run(database, values)
            self._sql.trim_history.run(database, values | {"oldest_kept": tombstone.generation + 1})
            self._append(database, entry)

    def find(self, key: RecordKey) -> RecordRow | None:
        """Fetch a row without an entry; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.read() as database:
            return self._sql.records.one(self._sql.find_record.run(database, _address(key)))

    def read_for(
        self,
        key: RecordKey,
        *,
        generation: int | None,
        entry_for: Callable[[RecordRow, RecordRow | None], AuditRow],
    ) -> RecordRow | None:
        """Fetch a row and commit its entry; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.write() as database:
            values = _address(key) | {"generation": generation}
            current = wanted = self._sql.records.one(self._sql.find_record.run(database, values))
            if current is None:
                return None
            if generation not in (None, current.generation):
                wanted = self._sql.history.one(self._sql.find_history.run(database, values))
            self._append(database, entry_for(current, wanted))
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
        width = len(self._sql.index.read_names)
        with self._engine.write() as database:
            values = _tag_values(query) | {"now": now, "after": page.after, "limit": page.limit}
            found = [
                (self._sql.index.row(columns[:width]), self._sql.records.row(columns[width:]))
                for columns in self._sql.find_by_tag.run(database, values).fetchall()
            ]
            self._append(database, *entries_for(found))
            return found

    def index_rows_with(self, query: TagQuery) -> list[IndexRow]:
        """Find the index rows with a tag; see :class:`vault.core.ports.RecordStore`."""
        with self._engine.read() as database:
            return self._sql.index.all(self._sql.index_by_tag.run(database, _tag_values(query)))

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
            self._append(database, entry)
            return rows

    def _insert_index(self, database: Database, write: RecordWrite) -> None:
        for row in write.index:
            if self._sql.insert_index.run(database, self._sql.index.values(row)).rowcount != 1:
                # Either another record holds a unique value or the index key may not be written any more.
                found = ((other.field, self._holder(database, other)) for other in write.index)
                holders = {field: token for field, token in found if token is not None}
                raise DuplicateIndexError(holders) if holders else StaleWriteError("keys")

    def _holder(self, database: Database, row: IndexRow) -> bytes | None:
        found = self._sql.holder_of.run(database, self._sql.index.values(row)).fetchone()
        return None if found is None else found[0]

    def _why_stale(self, database: Database, row: RecordRow) -> StaleWriteError:
        values = self._sql.records.values(row)
        if self._sql.is_key_writable.run(database, values).fetchone() is None:
            return StaleWriteError("keys")
        if self._sql.is_schema_current.run(database, values).fetchone() is None:
            return StaleWriteError("schema")
        return StaleWriteError("record")

    def _append(self, database: Database, *entries: AuditRow) -> None:
        for entry in entries:
            self._sql.append_entry.run(database, self._sql.audit.values(entry))


def _address(key: RecordKey) -> dict[str, Any]:
    return {"tenant": key.tenant, "collection": key.collection, "token": key.token}


def _identity(previous: RecordRow) -> dict[str, Any]:
    return {"previous_id": previous.id, "previous_revision": previous.revision}


def _tag_values(query: TagQuery) -> dict[str, Any]:
    return {name: getattr(query, name) for name in TagQuery.__slots__}


class _RecordStatements:
    """The SQL of the record store, built once."""

    def __init__(self) -> None:
        self.records = RowMapper(RecordRow)
        self.history = RowMapper(RecordHistoryRow)
        self.index = RowMapper(IndexRow)
        self.audit = RowMapper(AuditRow)
        # A key version is retired only while nothing can still write under it: the test and the write are one
        # statement, so a server that slept through the rotation cannot store a key under a dead version.
        key_is_writable = exists(
            KeyVersionTable,
            KeyVersionTable.tenant == slot("tenant"),
            KeyVersionTable.keyring == slot("keyring"),
            KeyVersionTable.version == slot("key_version"),
            KeyVersionTable.state == KeyState.ACTIVE.value,
        )
        # A document validated and indexed by an older definition must not slip in after a redefinition.
        schema_is_current = exists(
            CollectionTable,
            CollectionTable.tenant == slot("tenant"),
            CollectionTable.name == slot("collection"),
            CollectionTable.schema_version == slot("schema_version"),
        )
        index_key_is_writable = exists(
            StoredKeyTable,
            StoredKeyTable.key_id == slot("index_key_id"),
            StoredKeyTable.state == KeyState.ACTIVE.value,
        )
        unchanged = (RecordTable.id == slot("previous_id")) & (
            RecordTable.revision == slot("previous_revision")
        )
        self.is_key_writable = Statement(Select(columns=[slot("format")]).where(key_is_writable))
        self.is_schema_current = Statement(Select(columns=[slot("format")]).where(schema_is_current))
        self.insert_record = self.records.insert(key_is_writable, schema_is_current)
        self.replace_record = self.records.update(unchanged, key_is_writable, schema_is_current)
        self.erase_record = self.records.update(unchanged)
        self.insert_history = self.history.insert()
        self.insert_index = self.index.insert(index_key_is_writable, ignore_conflicts=True)
        self.append_entry = self.audit.insert()
        self._build_finds()

    def _build_finds(self) -> None:
        self.find_record = self.records.select(*_of_record(RecordTable))
        self.find_history = self.history.select(
            *_of_record(RecordHistoryTable), RecordHistoryTable.generation == slot("generation")
        )
        self.trim_history = Statement(
            RecordHistoryTable.delete().where(
                *_of_record(RecordHistoryTable), RecordHistoryTable.generation < slot("oldest_kept")
            )
        )
        self.delete_index = Statement(IndexTable.delete().where(*_of_record(IndexTable)))
        self.holder_of = Statement(
            IndexTable.select(IndexTable.token).where(
                *_with_tag(), IndexTable.slot == slot("slot"), IndexTable.token != slot("token")
            )
        )
        self.index_by_tag = self.index.select(*_with_tag())
        same_record = (
            (RecordTable.tenant == IndexTable.tenant)
            & (RecordTable.collection == IndexTable.collection)
            & (RecordTable.token == IndexTable.token)
        )
        self.find_by_tag = Statement(
            IndexTable.select(*self.index.columns, *self.records.columns)
            .join(RecordTable, on=same_record)
            .where(*_with_tag(), RecordTable.id > slot("after"), *_live())
            .order_by(RecordTable.id)
            .limit(slot("limit"))
        )
        self.list_records = self.records.select(
            RecordTable.tenant == slot("tenant"),
            RecordTable.collection == slot("collection"),
            RecordTable.id > slot("after"),
            *_live(),
            order_by=RecordTable.id,
            limit=True,
        )


def _of_record(table: Any) -> tuple[Any, ...]:
    return (
        table.tenant == slot("tenant"),
        table.collection == slot("collection"),
        table.token == slot("token"),
    )


def _with_tag() -> tuple[Any, ...]:
    return tuple(getattr(IndexTable, name) == slot(name) for name in TagQuery.__slots__)


def _live() -> tuple[Any, ...]:
    return (
        RecordTable.erased_at.is_null(),
        RecordTable.expires_at.is_null() | (RecordTable.expires_at > slot("now")),
    )
