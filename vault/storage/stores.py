"""All stores over one engine, opened together."""

from __future__ import annotations

from dataclasses import dataclass

from vault.storage.audit import SqlAuditStore
from vault.storage.collections import SqlCollectionStore
from vault.storage.credentials import SqlCredentialStore
from vault.storage.engine import Engine
from vault.storage.epoch import SqlEpochStore
from vault.storage.expiry import SqlExpiryStore
from vault.storage.forgetting import SqlForgettingStore
from vault.storage.inspection import SqlInspector
from vault.storage.jobs import SqlJobStore
from vault.storage.keys import SqlKeyStore
from vault.storage.processes import SqlProcessStore
from vault.storage.receipts import SqlReceiptStore
from vault.storage.records import SqlRecordStore
from vault.storage.replica import Replica
from vault.storage.rotations import SqlRotationStore
from vault.storage.tables import MODELS


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of one database."""

    records: SqlRecordStore
    collections: SqlCollectionStore
    keys: SqlKeyStore
    credentials: SqlCredentialStore
    audit: SqlAuditStore
    inspector: SqlInspector
    receipts: SqlReceiptStore
    jobs: SqlJobStore
    expiry: SqlExpiryStore
    forgetting: SqlForgettingStore
    processes: SqlProcessStore
    epoch: SqlEpochStore
    rotations: SqlRotationStore


def open_stores(engine: Engine, replica: Replica | None = None) -> Stores:
    """Build every store's SQL for this engine; searches of the access log are asked of the replica first."""
    # peewee models find their SQL dialect through a database; the statements are run through the engine.
    engine.database.bind(MODELS, bind_refs=False, bind_backrefs=False)
    return Stores(
        records=SqlRecordStore(engine),
        collections=SqlCollectionStore(engine),
        keys=SqlKeyStore(engine),
        credentials=SqlCredentialStore(engine),
        audit=SqlAuditStore(engine, replica),
        inspector=SqlInspector(engine),
        receipts=SqlReceiptStore(engine),
        jobs=SqlJobStore(engine),
        expiry=SqlExpiryStore(engine),
        forgetting=SqlForgettingStore(engine),
        processes=SqlProcessStore(engine),
        epoch=SqlEpochStore(engine),
        rotations=SqlRotationStore(engine),
    )
