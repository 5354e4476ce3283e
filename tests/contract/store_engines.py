"""What the store contracts run on, and rows to feed them. Which engines there are: ``tests/servers/databases.py``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vault.core.ports import RecordKey, RecordWrite, TagQuery
from vault.core.receipts import Receipt
from vault.core.rows import (
    AuditRow,
    CollectionRow,
    CollectionSchemaRow,
    CredentialRow,
    IndexRow,
    KeyPurpose,
    KeyringRow,
    KeyState,
    KeyVersionRow,
    PrincipalRow,
    RecordHistoryRow,
    RecordRow,
    Row,
    StoredKeyRow,
)
from vault.storage import schema
from vault.storage.address import ServerAddress
from vault.storage.engine import Engine
from vault.storage.opening import open_engine
from vault.storage.stores import Stores, open_stores
from vault.storage.tables import MODELS, VaultEpochTable

TENANT = "default"
NOW = 1_795_000_000_000_000
"""Microseconds: more than 32 bits, as all times are."""
SIGNED: dict[str, Any] = {"mac_key_id": 1, "mac": b"\0mac" * 8}
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Bench:
    """Stores over one empty database, and a way to open the same database once more, as another process would."""

    stores: Stores
    open_again: Callable[[], Stores]

    def rows(self, row_type: type[Row]) -> list[Any]:
        """All rows of a table as stored."""
        return list(self.stores.inspector.rows(row_type))

    def entries(self) -> list[AuditRow]:
        return self.rows(AuditRow)


@contextmanager
def bench_over(address: Path | ServerAddress) -> Iterator[Bench]:
    """Stores over a database; what an earlier test left in it is deleted."""
    engines: list[Engine] = []

    def open_one() -> Stores:
        engines.append(open_engine(address))
        return open_stores(engines[-1])

    try:
        first = open_one()
        if not schema.upgrade(engines[0]):
            empty(engines[0])
        yield Bench(first, open_one)
    finally:
        for engine in engines:
            engine.close()


def empty(engine: Engine) -> None:
    """Delete all rows: quicker than to make the tables of a server anew for each test."""
    with engine.write() as database:
        for model in MODELS:
            if model is not VaultEpochTable:
                database.execute_sql(f"DELETE FROM {model._meta.table_name}")  # noqa: S608  # our own names
        database.execute_sql("UPDATE vault_epoch SET value = 1")


def entry(**columns: Any) -> AuditRow:
    number = next(_numbers)
    values: dict[str, Any] = {
        "tenant": TENANT,
        "entry_id": os.urandom(16),
        "time": NOW + number,
        "principal": "admin",
        "action": "record.create",
        "result": "done",
        "reason": None,
        "collection": None,
        "token": None,
        "purpose": None,
        "canonical": b'{"v":1,"n":%d}' % number,
    }
    return AuditRow(**values | SIGNED | columns)


def record(**columns: Any) -> RecordRow:
    values: dict[str, Any] = {
        "tenant": TENANT,
        "collection": "people",
        "token": os.urandom(16),
        "generation": 1,
        "seal_epoch": 1,
        "revision": 1,
        "schema_version": 1,
        "format": 1,
        "keyring": "default",
        "key_version": 1,
        "wrapped_dek": b"\0wrapped\xff" + os.urandom(32),
        "sealed_document": b"\x01\x01\0sealed\xff" + os.urandom(64),
        "write_id": os.urandom(8),
        "created_at": NOW,
        "updated_at": NOW,
    }
    return RecordRow(**values | SIGNED | columns)


def index(row: RecordRow, tag: str, *, name: str = "email", unique: bool = True, **columns: Any) -> IndexRow:
    values: dict[str, Any] = {
        "tenant": row.tenant,
        "collection": row.collection,
        "field": name,
        "index_key_id": 2,
        "normaliser": f"{name}/1",
        "tag": tag.encode().ljust(32, b"\0"),
        "slot": b"" if unique else row.token,
        "token": row.token,
    }
    return IndexRow(**values | SIGNED | columns)


def query(tag: str, *, name: str = "email", **columns: Any) -> TagQuery:
    values: dict[str, Any] = {
        "tenant": TENANT,
        "collection": "people",
        "field": name,
        "index_key_id": 2,
        "normaliser": f"{name}/1",
        "tag": tag.encode().ljust(32, b"\0"),
    }
    return TagQuery(**values | columns)


def key_of(row: RecordRow) -> RecordKey:
    return RecordKey(row.tenant, row.collection, row.token)


def new_write(row: RecordRow, *index_rows: IndexRow, **options: Any) -> RecordWrite:
    return RecordWrite(
        record=row, index=index_rows, entry=entry(collection=row.collection, token=row.token), **options
    )


def next_generation(row: RecordRow, **columns: Any) -> RecordRow:
    changed = record(
        token=row.token,
        tenant=row.tenant,
        collection=row.collection,
        generation=row.generation + 1,
        revision=row.revision + 1,
    )
    return replace(changed, **columns)


def as_history(row: RecordRow) -> RecordHistoryRow:
    columns = {name: getattr(row, name) for name in row_columns(RecordRow)}
    return RecordHistoryRow(**columns)


def tombstone(row: RecordRow) -> RecordRow:
    return replace(
        row,
        revision=row.revision + 1,
        wrapped_dek=None,
        sealed_document=None,
        erased_at=NOW,
        erased_versions='[["default",1]]',
    )


def receipt(**columns: Any) -> Receipt:
    values: dict[str, Any] = {
        "tenant": TENANT,
        "request_hash": os.urandom(32),
        "position": 0,
        "body_hash": os.urandom(32),
        "status": 201,
        "code": None,
        "collection": "people",
        "token": os.urandom(16),
        "generation": 1,
        "expires_at": NOW + 86_400_000_000,
    }
    return Receipt(**values | columns)


def row_columns(row_type: type[Row]) -> list[str]:
    from dataclasses import fields

    return [column.name for column in fields(row_type) if column.name != "id"]


def same(stored: Row | None, row: Row) -> bool:
    """Whether the stored row is this one, column for column and type for type, the id apart."""
    assert stored is not None
    assert stored.id is not None
    expected = replace(row, id=stored.id)
    return repr(stored) == repr(expected) and stored == expected


def keyring(name: str = "default", *, first_key: int = 1, **columns: Any) -> KeyringParts:
    ring = KeyringRow(
        tenant=TENANT, name=name, provider="disk", provider_key="records", created_at=NOW, **SIGNED
    )
    version = KeyVersionRow(
        tenant=TENANT,
        keyring=name,
        version=1,
        provider="disk",
        provider_key="records",
        provider_version=3,
        algorithm="A256KWP",
        state=columns.get("state", KeyState.ACTIVE.value),
        compromised=0,
        created_at=NOW,
        activated_at=NOW,
        **SIGNED,
    )
    stored = [
        StoredKeyRow(
            tenant=TENANT,
            key_id=first_key + offset,
            keyring=name,
            purpose=purpose.value,
            version=1,
            state=columns.get("index_state", KeyState.ACTIVE.value),
            format=1,
            key_version=1,
            wrapped_dek=os.urandom(40),
            sealed_key=os.urandom(62),
            created_at=NOW,
            **SIGNED,
        )
        for offset, purpose in enumerate((KeyPurpose.MAC, KeyPurpose.INDEX))
    ]
    return KeyringParts(ring, version, stored)


@dataclass(frozen=True, slots=True)
class KeyringParts:
    ring: KeyringRow
    version: KeyVersionRow
    stored: list[StoredKeyRow] = field(default_factory=list)

    def create(self, bench: Bench) -> None:
        bench.stores.keys.create_keyring(self.ring, self.version, self.stored, entry(action="vault.init"))


def collection(name: str = "people", **columns: Any) -> CollectionRow:
    values: dict[str, Any] = {
        "tenant": TENANT,
        "name": name,
        "schema_version": 1,
        "keyring": "default",
        "revision": 1,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return CollectionRow(**values | SIGNED | columns)


def definition(name: str = "people", version: int = 1) -> CollectionSchemaRow:
    return CollectionSchemaRow(
        tenant=TENANT,
        collection=name,
        version=version,
        schema_json='{"title":"Zoë ☃"}',
        settings_json="{}",
        created_at=NOW,
        **SIGNED,
    )


def principal(name: str = "admin") -> PrincipalRow:
    return PrincipalRow(tenant=TENANT, name=name, role="administrator", created_at=NOW, **SIGNED)


def credential(name: str = "admin", **columns: Any) -> CredentialRow:
    values: dict[str, Any] = {
        "tenant": TENANT,
        "credential_id": os.urandom(8),
        "principal": name,
        "secret_sha256": os.urandom(32),
        "created_at": NOW,
    }
    return CredentialRow(**values | SIGNED | columns)
