"""The tables as this release knows them. How a database gets here is in ``upgrades/``.

Column names are those of the row types in ``vault.core.rows`` (a test compares them): they are part of each row's
MAC. Integers are 64 bits wide, times are UTC microseconds, names are text, everything random or encrypted is bytes.
"""

from __future__ import annotations

from typing import Any

from peewee import BigIntegerField, BlobField, IntegerField, Model, TextField
from playhouse.sqlite_ext import AutoIncrementField

from vault.core import rows


class Authenticated(Model):
    """What every MACed table has."""

    # AUTOINCREMENT: an id is never used twice, so a job's cursor never meets a new row behind itself.
    id = AutoIncrementField()
    tenant = TextField()
    mac_key_id = BigIntegerField()
    mac = BlobField()

    class Meta:
        legacy_table_names = False  # table and index names come from table_name, not from the class


class RecordTable(Authenticated):
    collection = TextField()
    token = BlobField()
    generation = BigIntegerField()
    seal_epoch = BigIntegerField()
    revision = BigIntegerField()
    schema_version = BigIntegerField()
    format = IntegerField()
    keyring = TextField()
    key_version = BigIntegerField()
    wrapped_dek = BlobField(null=True)
    sealed_document = BlobField(null=True)
    write_id = BlobField()
    created_at = BigIntegerField()
    updated_at = BigIntegerField()
    expires_at = BigIntegerField(null=True)
    erased_at = BigIntegerField(null=True)
    erased_versions = TextField(null=True)
    final_at = BigIntegerField(null=True)

    class Meta:
        table_name = rows.RecordRow.TABLE
        indexes = (
            (("tenant", "collection", "token"), True),
            (("keyring", "key_version"), False),
            (("erased_at", "expires_at"), False),
        )


class RecordHistoryTable(RecordTable):
    class Meta:
        table_name = rows.RecordHistoryRow.TABLE
        indexes = (
            (("tenant", "collection", "token", "generation"), True),
            (("keyring", "key_version"), False),
        )


class IndexTable(Authenticated):
    collection = TextField()
    field = TextField()
    index_key_id = BigIntegerField()
    normaliser = TextField()
    tag = BlobField()
    slot = BlobField()
    token = BlobField()

    class Meta:
        table_name = rows.IndexRow.TABLE
        indexes = (
            # The one place where uniqueness is decided: two racing writers cannot both win.
            (("tenant", "collection", "field", "index_key_id", "normaliser", "tag", "slot"), True),
            (("tenant", "collection", "token"), False),
        )


class CollectionTable(Authenticated):
    name = TextField()
    schema_version = BigIntegerField()
    keyring = TextField()
    revision = BigIntegerField()
    created_at = BigIntegerField()
    updated_at = BigIntegerField()

    class Meta:
        table_name = rows.CollectionRow.TABLE
        indexes = ((("tenant", "name"), True),)


class CollectionSchemaTable(Authenticated):
    collection = TextField()
    version = BigIntegerField()
    schema_json = TextField()
    settings_json = TextField()
    created_at = BigIntegerField()

    class Meta:
        table_name = rows.CollectionSchemaRow.TABLE
        indexes = ((("tenant", "collection", "version"), True),)


class KeyringTable(Authenticated):
    name = TextField()
    provider = TextField()
    provider_key = TextField()
    created_at = BigIntegerField()

    class Meta:
        table_name = rows.KeyringRow.TABLE
        indexes = ((("tenant", "name"), True),)


class KeyVersionTable(Authenticated):
    keyring = TextField()
    version = BigIntegerField()
    provider = TextField()
    provider_key = TextField()
    provider_version = BigIntegerField()
    algorithm = TextField()
    state = TextField()
    compromised = IntegerField()
    created_at = BigIntegerField()
    activated_at = BigIntegerField(null=True)
    deactivated_at = BigIntegerField(null=True)
    retired_at = BigIntegerField(null=True)
    destroyed_at = BigIntegerField(null=True)
    adopted_at = BigIntegerField(null=True)

    class Meta:
        table_name = rows.KeyVersionRow.TABLE
        indexes = ((("tenant", "keyring", "version"), True),)


class StoredKeyTable(Authenticated):
    key_id = BigIntegerField()
    keyring = TextField()
    purpose = TextField()
    version = BigIntegerField()
    state = TextField()
    format = IntegerField()
    key_version = BigIntegerField()
    wrapped_dek = BlobField()
    sealed_key = BlobField()
    created_at = BigIntegerField()

    class Meta:
        table_name = rows.StoredKeyRow.TABLE
        indexes = ((("key_id",), True), (("tenant", "keyring", "purpose", "version"), True))


class PrincipalTable(Authenticated):
    name = TextField()
    role = TextField()
    created_at = BigIntegerField()

    class Meta:
        table_name = rows.PrincipalRow.TABLE
        indexes = ((("tenant", "name"), True),)


class CredentialTable(Authenticated):
    credential_id = BlobField()
    principal = TextField()
    secret_sha256 = BlobField()
    created_at = BigIntegerField()
    expires_at = BigIntegerField(null=True)
    revoked_at = BigIntegerField(null=True)

    class Meta:
        table_name = rows.CredentialRow.TABLE
        indexes = ((("secret_sha256",), True), (("tenant", "principal"), False))


class AuditTable(Authenticated):
    entry_id = BlobField()
    time = BigIntegerField()
    principal = TextField(null=True)
    action = TextField()
    result = TextField()
    reason = TextField(null=True)
    collection = TextField(null=True)
    token = BlobField(null=True)
    purpose = TextField(null=True)
    canonical = BlobField()

    class Meta:
        table_name = rows.AuditRow.TABLE
        indexes = (
            (("entry_id",), True),
            (("tenant", "token"), False),
            (("tenant", "time"), False),
        )


class Trusted(Model):
    """What every table has whose rows carry no MAC: they are trusted to the database, as the threat model lists."""

    id = AutoIncrementField()

    class Meta:
        legacy_table_names = False


class RefusalTallyTable(Model):
    """Unauthenticated requests of the running minute."""

    address = TextField()
    reason = TextField()
    minute = BigIntegerField()
    count = BigIntegerField()

    class Meta:
        legacy_table_names = False
        table_name = "refusal_tally"
        indexes = ((("address", "reason", "minute"), True),)


class IdempotencyTable(Trusted):
    """What became of each operation of a request that carried an Idempotency-Key; never a value."""

    tenant = TextField()
    request_hash = BlobField()
    position = BigIntegerField()
    body_hash = BlobField(null=True)
    status = IntegerField()
    code = TextField(null=True)
    collection = TextField()
    token = BlobField(null=True)
    generation = BigIntegerField(null=True)
    expires_at = BigIntegerField()

    class Meta:
        table_name = "idempotency_key"
        indexes = ((("tenant", "request_hash", "position"), True), (("token",), False))


class ProcessTable(Trusted):
    """The processes that work on this database, and when each was last alive."""

    boot_id = BlobField()
    host = TextField()
    pid = BigIntegerField()
    role = TextField()
    release = TextField()
    started_at = BigIntegerField()
    heartbeat_at = BigIntegerField()
    administers = BigIntegerField(null=True)
    epoch_seen = BigIntegerField(null=True)
    proved = TextField(null=True)
    cached_data_keys = BigIntegerField(null=True)
    cached_until = BigIntegerField(null=True)

    class Meta:
        table_name = "process"
        indexes = ((("boot_id",), True),)


class JobTable(Trusted):
    """How far each background job has come. Every change compares and sets on (id, revision)."""

    name = TextField()
    tenant = TextField()
    operation = TextField()
    state = TextField()
    position = BigIntegerField()
    done = BigIntegerField()
    failed = BigIntegerField()
    error = TextField(null=True)
    created_at = BigIntegerField()
    updated_at = BigIntegerField()
    revision = BigIntegerField()
    keyring = TextField(null=True)
    key_version = BigIntegerField(null=True)
    requested_by = TextField(null=True)

    class Meta:
        table_name = "job"
        indexes = ((("name",), True),)


class VaultEpochTable(Trusted):
    """One row: raised by every change of what processes keep in memory, so that they look again."""

    value = BigIntegerField()

    class Meta:
        table_name = "vault_epoch"


class JobLeaseTable(Trusted):
    """Which process may work on a job, and until when. The epoch rises with every new owner."""

    name = TextField()
    owner = BlobField()
    epoch = BigIntegerField()
    expires_at = BigIntegerField()

    class Meta:
        table_name = "job_lease"
        indexes = ((("name",), True),)


TABLE_OF: dict[type[rows.Row], Any] = {
    rows.RecordRow: RecordTable,
    rows.RecordHistoryRow: RecordHistoryTable,
    rows.IndexRow: IndexTable,
    rows.CollectionRow: CollectionTable,
    rows.CollectionSchemaRow: CollectionSchemaTable,
    rows.KeyringRow: KeyringTable,
    rows.KeyVersionRow: KeyVersionTable,
    rows.StoredKeyRow: StoredKeyTable,
    rows.PrincipalRow: PrincipalTable,
    rows.CredentialRow: CredentialTable,
    rows.AuditRow: AuditTable,
}
"""Which table holds which row type."""

MODELS: tuple[Any, ...] = (
    *TABLE_OF.values(),
    RefusalTallyTable,
    IdempotencyTable,
    ProcessTable,
    JobTable,
    JobLeaseTable,
    VaultEpochTable,
)
