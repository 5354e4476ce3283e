"""What is done to a record inside a transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peewee import Database

from vault.core.ports import (
    DuplicateIndexError,
    Holder,
    Page,
    RecordKey,
    RecordWrite,
    StaleWriteError,
    TagQuery,
)
from vault.core.rows import AuditRow, IndexRow, RecordRow
from vault.storage.engine import Step, TransactionLostError
from vault.storage.receipts import ReceiptStatements
from vault.storage.record_statements import TOKENS_AT_ONCE, RecordStatements


class RecordTransaction:
    """Steps for a transaction that somebody else opened and will commit."""

    def __init__(self) -> None:
        self.sql = RecordStatements()
        self.receipts = ReceiptStatements()

    def create(self, database: Database, write: RecordWrite) -> None:
        """Insert a record and its index rows."""
        values = self.sql.records.values(write.record)
        if self.sql.insert_record.run(database, values).rowcount != 1:
            raise self._why_stale(database, write.record)
        self._insert_index(database, write)

    def replace(self, database: Database, write: RecordWrite, previous: RecordRow) -> None:
        """Put the next generation in the place of ``previous``."""
        values = self.sql.records.values(write.record) | _identity(previous)
        if self.sql.replace_record.run(database, values).rowcount != 1:
            raise self._why_stale(database, write.record)
        self.sql.delete_index.run(database, values)
        self._insert_index(database, write)
        if write.history is not None:
            self.sql.insert_history.run(database, self.sql.history.values(write.history))
        oldest_kept = write.record.generation - write.history_limit
        self.sql.trim_history.run(database, values | {"oldest_kept": oldest_kept})

    def erase(self, database: Database, tombstone: RecordRow, previous: RecordRow) -> None:
        """Put the tombstone in the place of ``previous``; delete what else tells of the record."""
        values = self.sql.records.values(tombstone) | _identity(previous)
        if self.sql.erase_record.run(database, values).rowcount != 1:
            raise StaleWriteError("record")
        self.sql.delete_index.run(database, values)
        self.sql.trim_history.run(database, values | {"oldest_kept": tombstone.generation + 1})
        self.receipts.blank(database, tombstone)

    def free_values(self, database: Database, near: RecordRow, tokens: Sequence[bytes]) -> None:
        """Delete the index rows of records in the collection of ``near``; for transactions that are rolled back."""
        for token in tokens:
            self.sql.delete_index.run(database, _address(RecordKey(near.tenant, near.collection, token)))

    def find(self, database: Database, key: RecordKey, *, is_held: bool = False) -> RecordRow | None:
        """Fetch the current row; if held, it stays as it is until the transaction ends."""
        statement = self.sql.hold_record if is_held else self.sql.find_record
        return self.sql.records.one(statement.run(database, _address(key)))

    def find_many(
        self, database: Database, tenant: str, collection: str, tokens: Sequence[bytes]
    ) -> dict[bytes, RecordRow]:
        """Fetch the current rows of many tokens; those that do not exist are left out."""
        found: dict[bytes, RecordRow] = {}
        for start in range(0, len(tokens), TOKENS_AT_ONCE):
            some = tokens[start : start + TOKENS_AT_ONCE]
            values: dict[str, Any] = {"tenant": tenant, "collection": collection}
            # One text for any number: the places that are left ask for the first token once more.
            values |= {f"token{place}": some[place % len(some)] for place in range(TOKENS_AT_ONCE)}
            rows = self.sql.records.all(self.sql.find_records.run(database, values))
            found |= {row.token: row for row in rows}
        return found

    def generation(self, database: Database, current: RecordRow, wanted: int | None) -> RecordRow | None:
        """The wanted generation of a record: the current row, one from its history, or None if it is not kept."""
        if wanted in (None, current.generation):
            return current
        address = RecordKey(current.tenant, current.collection, current.token)
        return self.sql.history.one(
            self.sql.find_history.run(database, _address(address) | {"generation": wanted})
        )

    def lookup(
        self, database: Database, query: TagQuery, now: int, page: Page, *, is_held: bool = False
    ) -> list[tuple[IndexRow, RecordRow]]:
        """Find live records by tag; if held, they stay as they are until the transaction ends."""
        statement = self.sql.hold_by_tag if is_held else self.sql.find_by_tag
        width = len(self.sql.index.read_names)
        values = tag_values(query) | {"now": now, "after": page.after, "limit": page.limit}
        return [
            (self.sql.index.row(columns[:width]), self.sql.records.row(columns[width:]))
            for columns in statement.run(database, values).fetchall()
        ]

    def append(self, database: Database, entries: Sequence[AuditRow]) -> None:
        """Insert audit entries."""
        self.sql.append_entry.run_all(database, [self.sql.audit.values(entry) for entry in entries])

    def append_if_unchanged(self, database: Database, entry: AuditRow, read: RecordRow) -> None:
        """Insert the entry for a record that was read, if the record is still what it was.

        Raises:
            TransactionLostError: it is not; what was read is not to be released.
        """
        values = self.sql.audit.values(entry) | {"read_id": read.id, "read_revision": read.revision}
        if self.sql.append_entry_if_unchanged.run(database, values).rowcount != 1:
            raise TransactionLostError(
                "The record is being changed again and again just now; nothing was released.",
                code="store-unavailable",
            )

    def steps_of_create(self, write: RecordWrite) -> list[Step]:
        """The INSERTs of a create, each of one row."""
        steps: list[Step] = [(self.sql.insert_record, self.sql.records.values(write.record))]
        steps += [(self.sql.insert_index, self.sql.index.values(row)) for row in write.index]
        if write.receipt is not None:
            steps.append(self.receipts.step_of_claim(write.receipt))
        return [*steps, (self.sql.append_entry, self.sql.audit.values(write.entry))]

    def _insert_index(self, database: Database, write: RecordWrite) -> None:
        for row in write.index:
            if not self.sql.insert_index.insert(database, self.sql.index.values(row)):
                # Either another record holds a unique value or the index key may not be written any more.
                found = ((other.field, self._holder(database, other)) for other in write.index)
                holders = {field: holder for field, holder in found if holder is not None}
                raise DuplicateIndexError(holders) if holders else StaleWriteError("keys")

    def _holder(self, database: Database, row: IndexRow) -> Holder | None:
        found = self.sql.holder_of.run(database, self.sql.index.values(row)).fetchone()
        return None if found is None else Holder(*found)

    def _why_stale(self, database: Database, row: RecordRow) -> StaleWriteError:
        values = self.sql.records.values(row)
        if self.sql.is_key_writable.run(database, values).fetchone() is None:
            return StaleWriteError("keys")
        if self.sql.is_schema_current.run(database, values).fetchone() is None:
            return StaleWriteError("schema")
        return StaleWriteError("record")


def _address(key: RecordKey) -> dict[str, Any]:
    return {"tenant": key.tenant, "collection": key.collection, "token": key.token}


def _identity(previous: RecordRow) -> dict[str, Any]:
    return {"previous_id": previous.id, "previous_revision": previous.revision}


def tag_values(query: TagQuery) -> dict[str, Any]:
    """What a look-up by tag is bound to."""
    return {name: getattr(query, name) for name in TagQuery.__slots__}
