"""The collection store: definitions and their versions."""

from __future__ import annotations

from typing import Any

from peewee import Database

from vault.core.ports import StaleWriteError
from vault.core.rows import AuditRow, CollectionRow, CollectionSchemaRow
from vault.storage.engine import Engine, whole
from vault.storage.epoch import EpochRaise
from vault.storage.statements import RowMapper, Statement, slot
from vault.storage.tables import CollectionSchemaTable, CollectionTable, RecordHistoryTable, RecordTable


class SqlCollectionStore:
    """Collections in SQL.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._collections = RowMapper(CollectionRow)
        self._schemas = RowMapper(CollectionSchemaRow)
        self._audit = RowMapper(AuditRow)
        by_name = (CollectionTable.tenant == slot("tenant"), CollectionTable.name == slot("name"))
        self._get = self._collections.select(*by_name)
        self._get_schema = self._schemas.select(
            CollectionSchemaTable.tenant == slot("tenant"),
            CollectionSchemaTable.collection == slot("collection"),
            CollectionSchemaTable.version == slot("version"),
        )
        self._list = self._collections.select(
            CollectionTable.tenant == slot("tenant"), order_by=CollectionTable.name
        )
        self._insert = self._collections.insert_new()
        self._update = self._collections.update(
            *by_name, CollectionTable.revision == slot("previous_revision")
        )
        self._insert_schema = self._schemas.insert()
        self._append = self._audit.insert()
        self._epoch = EpochRaise()
        self._any_record = Statement(
            RecordTable.select(RecordTable.id)
            .where(
                RecordTable.tenant == slot("tenant"),
                RecordTable.collection == slot("name"),
                RecordTable.erased_at.is_null(),
            )
            .limit(1)
        )
        self._any_history = Statement(
            RecordHistoryTable.select(RecordHistoryTable.id)
            .where(RecordHistoryTable.tenant == slot("tenant"), RecordHistoryTable.collection == slot("name"))
            .limit(1)
        )

    @whole
    def get(self, tenant: str, name: str) -> CollectionRow | None:
        """Fetch a collection; see :class:`vault.core.ports.CollectionStore`."""
        with self._engine.read() as database:
            return self._collections.one(self._get.run(database, {"tenant": tenant, "name": name}))

    @whole
    def get_schema(self, tenant: str, collection: str, version: int) -> CollectionSchemaRow | None:
        """Fetch one version of a definition; see :class:`vault.core.ports.CollectionStore`."""
        values = {"tenant": tenant, "collection": collection, "version": version}
        with self._engine.read() as database:
            return self._schemas.one(self._get_schema.run(database, values))

    @whole
    def list_all(self, tenant: str) -> list[CollectionRow]:
        """List the collections by name; see :class:`vault.core.ports.CollectionStore`."""
        with self._engine.read() as database:
            return self._collections.all(self._list.run(database, {"tenant": tenant}))

    @whole
    def define(
        self,
        row: CollectionRow,
        schema: CollectionSchemaRow | None,
        *,
        previous: CollectionRow | None,
        entry: AuditRow,
        only_if_empty: bool,
    ) -> None:
        """Commit a definition; see :class:`vault.core.ports.CollectionStore`."""
        values = self._collections.values(row)
        with self._engine.write() as database:
            # First of all: whoever writes a record keeps the collection's row as it is until the commit, so that after
            # this no record of the old definition is under way any more.
            if previous is None:
                is_written = self._insert.insert(database, values)
            else:
                known = {"previous_revision": previous.revision}
                is_written = self._update.run(database, values | known).rowcount == 1
            if not is_written:
                raise StaleWriteError("record")
            if previous is not None and previous.keyring != row.keyring and self._holds_any(database, values):
                raise StaleWriteError("keyring")
            if only_if_empty and self._any_record.run(database, values).fetchone() is not None:
                raise StaleWriteError("schema")
            if schema is not None:
                self._insert_schema.run(database, self._schemas.values(schema))
            self._append.run(database, self._audit.values(entry))
            self._epoch.run(database)

    def _holds_any(self, database: Database, values: dict[str, Any]) -> bool:
        return any(
            statement.run(database, values).fetchone() is not None
            for statement in (self._any_record, self._any_history)
        )
