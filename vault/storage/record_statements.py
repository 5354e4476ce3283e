"""The SQL of the record store, built once."""

from __future__ import annotations

from typing import Any

from peewee import Select

from vault.core.ports import TagQuery
from vault.core.rows import AuditRow, IndexRow, KeyState, RecordHistoryRow, RecordRow
from vault.storage.fields import locking
from vault.storage.statements import RowMapper, Statement, exists, slot, stays
from vault.storage.tables import (
    CollectionTable,
    IndexTable,
    KeyVersionTable,
    RecordHistoryTable,
    RecordTable,
    StoredKeyTable,
)

TOKENS_AT_ONCE = 50
"""How many records one statement fetches: on a server each statement is a round trip."""


class RecordStatements:
    """One statement for each thing that the record store does."""

    def __init__(self) -> None:
        self.records = RowMapper(RecordRow)
        self.history = RowMapper(RecordHistoryRow)
        self.index = RowMapper(IndexRow)
        self.audit = RowMapper(AuditRow)
        # A key version is retired only while nothing can still write under it: the test and the write are one
        # statement, so a server that slept through the rotation cannot store a key under a dead version. And the row
        # stays so until the commit: where transactions run side by side, whoever retires it waits for the writers.
        key_is_writable = stays(
            KeyVersionTable,
            KeyVersionTable.tenant == slot("tenant"),
            KeyVersionTable.keyring == slot("keyring"),
            KeyVersionTable.version == slot("key_version"),
            KeyVersionTable.state == KeyState.ACTIVE.value,
        )
        # A document validated and indexed by an older definition must not slip in after a redefinition.
        schema_is_current = stays(
            CollectionTable,
            CollectionTable.tenant == slot("tenant"),
            CollectionTable.name == slot("collection"),
            CollectionTable.schema_version == slot("schema_version"),
        )
        index_key_is_writable = stays(
            StoredKeyTable,
            StoredKeyTable.key_id == slot("index_key_id"),
            StoredKeyTable.state == KeyState.ACTIVE.value,
        )
        unchanged = (RecordTable.id == slot("previous_id")) & (
            RecordTable.revision == slot("previous_revision")
        )
        self.is_key_writable = _whether(key_is_writable)
        self.is_schema_current = _whether(schema_is_current)
        self.insert_record = self.records.insert(key_is_writable, schema_is_current)
        self.replace_record = self.records.update(unchanged, key_is_writable, schema_is_current)
        self.erase_record = self.records.update(unchanged)
        self.insert_history = self.history.insert()
        self.insert_index = self.index.insert_new(index_key_is_writable)
        self.append_entry = self.audit.insert()
        self.append_entry_if_unchanged = self.audit.insert(
            exists(
                RecordTable,
                RecordTable.id == slot("read_id"),
                RecordTable.revision == slot("read_revision"),
            )
        )
        self._build_finds()

    def _build_finds(self) -> None:
        self.find_record = self.records.select(*_of_record(RecordTable))
        self.hold_record = Statement(
            locking(RecordTable.select(*self.records.columns).where(*_of_record(RecordTable)), is_shared=True)
        )
        self.find_records = self.records.select(
            RecordTable.tenant == slot("tenant"),
            RecordTable.collection == slot("collection"),
            RecordTable.token.in_([slot(f"token{place}") for place in range(TOKENS_AT_ONCE)]),
        )
        self.find_history = self.history.select(
            *_of_record(RecordHistoryTable), RecordHistoryTable.generation == slot("generation")
        )
        self.trim_history = Statement(
            RecordHistoryTable.delete().where(
                *_of_record(RecordHistoryTable), RecordHistoryTable.generation < slot("oldest_kept")
            )
        )
        self.delete_index = Statement(IndexTable.delete().where(*_of_record(IndexTable)))
        self.index_by_tag = self.index.select(*_with_tag())
        same_record = (
            (RecordTable.tenant == IndexTable.tenant)
            & (RecordTable.collection == IndexTable.collection)
            & (RecordTable.token == IndexTable.token)
        )
        self.holder_of = Statement(
            IndexTable.select(IndexTable.token, RecordTable.expires_at)
            .join(RecordTable, on=same_record)
            .where(*_with_tag(), IndexTable.slot == slot("slot"), IndexTable.token != slot("token"))
        )
        by_tag = (
            IndexTable.select(*self.index.columns, *self.records.columns)
            .join(RecordTable, on=same_record)
            .where(*_with_tag(), RecordTable.id > slot("after"), *_live())
            .order_by(RecordTable.id)
            .limit(slot("limit"))
        )
        self.find_by_tag = Statement(by_tag)
        self.hold_by_tag = Statement(locking(by_tag, is_shared=True))
        self.list_records = self.records.select(
            RecordTable.tenant == slot("tenant"),
            RecordTable.collection == slot("collection"),
            RecordTable.id > slot("after"),
            *_live(),
            order_by=RecordTable.id,
            limit=True,
        )


def _whether(condition: Any) -> Statement:
    query = Select(columns=[slot("format")]).where(condition)
    # It names no table that would tell it the engine's way of writing.
    return Statement(query.bind(RecordTable._meta.database))  # noqa: SLF001  # peewee's documented place


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
