"""The key store: keyrings, key versions, stored keys, and the census of what depends on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peewee import fn

from vault.core.rows import AuditRow, KeyringRow, KeyVersionRow, RecordHistoryRow, RecordRow, StoredKeyRow
from vault.storage.engine import Engine, whole
from vault.storage.epoch import EpochRaise
from vault.storage.statements import RowMapper, Statement
from vault.storage.tables import (
    IndexTable,
    KeyringTable,
    KeyVersionTable,
    RecordHistoryTable,
    RecordTable,
    StoredKeyTable,
)


class SqlKeyStore:
    """Keys in SQL; never a plaintext one.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keyrings = RowMapper(KeyringRow)
        self._versions = RowMapper(KeyVersionRow)
        self._stored = RowMapper(StoredKeyRow)
        self._audit = RowMapper(AuditRow)
        self._list_keyrings = self._keyrings.select(order_by=KeyringTable.id)
        self._list_versions = self._versions.select(order_by=KeyVersionTable.id)
        self._list_stored = self._stored.select(order_by=StoredKeyTable.id)
        self._insert_keyring = self._keyrings.insert()
        self._insert_version = self._versions.insert()
        self._insert_stored = self._stored.insert()
        self._append = self._audit.insert()
        self._epoch = EpochRaise()
        self._dependants = {
            RecordRow.TABLE: _dependants(RecordTable, RecordTable.wrapped_dek.is_null(is_null=False)),
            RecordHistoryRow.TABLE: _dependants(RecordHistoryTable),
            StoredKeyRow.TABLE: _dependants(StoredKeyTable),
        }
        self._by_index_key = Statement(
            IndexTable.select(IndexTable.index_key_id, fn.COUNT(IndexTable.id)).group_by(
                IndexTable.index_key_id
            )
        )

    @whole
    def keyrings(self) -> list[KeyringRow]:
        """All keyrings; see :class:`vault.core.ports.KeyStore`."""
        with self._engine.read() as database:
            return self._keyrings.all(self._list_keyrings.run(database, {}))

    @whole
    def key_versions(self) -> list[KeyVersionRow]:
        """All key versions, oldest first; see :class:`vault.core.ports.KeyStore`."""
        with self._engine.read() as database:
            return self._versions.all(self._list_versions.run(database, {}))

    @whole
    def stored_keys(self) -> list[StoredKeyRow]:
        """All stored keys, oldest first; see :class:`vault.core.ports.KeyStore`."""
        with self._engine.read() as database:
            return self._stored.all(self._list_stored.run(database, {}))

    @whole
    def create_keyring(
        self,
        keyring: KeyringRow,
        version: KeyVersionRow,
        stored_keys: Sequence[StoredKeyRow],
        entry: AuditRow,
    ) -> None:
        """Commit a new keyring whole; see :class:`vault.core.ports.KeyStore`."""
        with self._engine.write() as database:
            self._insert_keyring.run(database, self._keyrings.values(keyring))
            self._insert_version.run(database, self._versions.values(version))
            for stored in stored_keys:
                self._insert_stored.run(database, self._stored.values(stored))
            self._append.run(database, self._audit.values(entry))
            self._epoch.run(database)

    @whole
    def census(self) -> dict[tuple[str, str, int], dict[str, int]]:
        """Count what depends on each key version; see :class:`vault.core.ports.KeyStore`."""
        counts: dict[tuple[str, str, int], dict[str, int]] = {}
        with self._engine.snapshot() as database:
            for table, statement in self._dependants.items():
                for tenant, keyring, version, count in statement.run(database, {}).fetchall():
                    counts.setdefault((tenant, keyring, version), {})[table] = count
        return counts

    @whole
    def index_census(self) -> dict[int, int]:
        """Count index rows by index key; see :class:`vault.core.ports.KeyStore`."""
        with self._engine.read() as database:
            return dict(self._by_index_key.run(database, {}).fetchall())


def _dependants(table: Any, *conditions: Any) -> Statement:
    group = (table.tenant, table.keyring, table.key_version)
    query = table.select(*group, fn.COUNT(table.id)).group_by(*group)
    return Statement(query.where(*conditions) if conditions else query)
