"""The tables as this release knows them. How a database gets here is in ``upgrades/``.

Column names are those of the row types in ``vault.core.rows`` (a test compares them): they are part of each row's
MAC. Integers are 64 bits wide, times are UTC microseconds, names are text, everything random or encrypted is bytes.
"""

from __future__ import annotations

from typing import Any

from peewee import BigIntegerField, BlobField, IntegerField, Model, TextField

from vault.core import rows
from vault.storage.fields import IdField, KeyBytesField, NameField


class Authenticated(Model):
    """What every MACed table has."""

    # AUTOINCREMENT: an id is never used twice, so a job's cursor never meets a new row behind itself.
    id = IdField()
    tenant = NameField()
    mac_key_id = BigIntegerField()
    mac = KeyBytesField()

    class Meta:
        legacy_table_names = False  # table and index names come from table_name, not from the class


class RecordTable(Authenticated):
    collection = NameField()
    token = KeyBytesField()
    generation = BigIntegerField()
    seal_epoch = BigIntegerField()
    revision = BigIntegerField()
    schema_version = BigIntegerField()
    format = IntegerField()
    keyring = NameField()
    key_version = BigIntegerField()
    wrapped_dek = BlobField(null=True)
    sealed_document = BlobField(null=True)
    write_id = KeyBytesField()
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
    collection = NameField()
    field = NameField()
    index_key_id = BigIntegerField()
    normaliser = NameField()
    tag = KeyBytesField()
    slot = KeyBytesField()
    token = KeyBytesField()

    class Meta:
        table_name = rows.IndexRow.TABLE
        indexes = (
            # The one place where uniqueness is decided: two racing writers cannot both win.
            (("tenant", "collection", "field", "index_key_id", "normaliser", "tag", "slot"), True),
            (("tenant", "collection", "token"), False),
        )


class CollectionTable(Authenticated):
    name = NameField()
    schema_version = BigIntegerField()
    keyring = NameField()
    revision = BigIntegerField()
    created_at = BigIntegerField()
    updated_at = BigIntegerField()

    class Meta:
        table_name = rows.CollectionRow.TABLE
        indexes = ((("tenant", "name"), True),)


class CollectionSchemaTable(Authenticated):
    collection = NameField()
    version = BigIntegerField()
    schema_json = TextField()
    settings_json = TextField()
    created_at = BigIntegerField()

    class Meta:
        table_name = rows.CollectionSchemaRow.TABLE
        indexes = ((("tenant", "collection", "version"), True),)


class KeyringTable(Authenticated):
    name = NameField()
    provider = NameField()
    provider_key = TextField()
    created_at = BigIntegerField()

    class Meta:
        table_name = rows.KeyringRow.TABLE
        indexes = ((("tenant", "name"), True),)


class KeyVersionTable(Authenticated):
    keyring = NameField()
    version = BigIntegerField()
    provider = NameField()
    provider_key = TextField()
    provider_version = BigIntegerField()
    algorithm = NameField()
    state = NameField()
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
    keyring = NameField()
    purpose = NameField()
    version = BigIntegerField()
    state = NameField()
    format = IntegerField()
    key_version = BigIntegerField()
    wrapped_dek = BlobField()
    sealed_key = BlobField()
    created_at = BigIntegerField()

    class Meta:
        table_name = rows.StoredKeyRow.TABLE
        indexes = ((("key_id",), True), (("tenant", "keyring", "purpose", "version"), True))


class PrincipalTable(Authenticated):
    name = NameField()
    role = NameField()
    created_at = BigIntegerField()

    class Meta:
        table_name = rows.PrincipalRow.TABLE
        indexes = ((("tenant", "name"), True),)


class CredentialTable(Authenticated):
    credential_id = KeyBytesField()
    principal = NameField()
    secret_sha256 = KeyBytesField()
    created_at = BigIntegerField()
    expires_at = BigIntegerField(null=True)
    revoked_at = BigIntegerField(null=True)

    class Meta:
        table_name = rows.CredentialRow.TABLE
        indexes = ((("secret_sha256",), True), (("tenant", "principal"), False))


class AuditTable(Authenticated):
    entry_id = KeyBytesField()
    time = BigIntegerField()
    principal = NameField(null=True)
    action = NameField()
    result = NameField()
    reason = TextField(null=True)
    collection = NameField(null=True)
    token = KeyBytesField(null=True)
    purpose = NameField(null=True)
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

    id = IdField()

    class Meta:
        legacy_table_names = False


class RefusalTallyTable(Model):
    """Unauthenticated requests of the running minute."""

    address = NameField()
    reason = NameField()
    minute = BigIntegerField()
    count = BigIntegerField()

    class Meta:
        legacy_table_names = False
        table_name = "refusal_tally"
        indexes = ((("address", "reason", "minute"), True),)


class IdempotencyTable(Trusted):
    """What became of each operation of a request that carried an Idempotency-Key; never a value."""

    tenant = NameField()
    request_hash = KeyBytesField()
    position = BigIntegerField()
    body_hash = KeyBytesField(null=True)
    status = IntegerField()
    code = NameField(null=True)
    collection = NameField()
    token = KeyBytesField(null=True)
    generation = BigIntegerField(null=True)
    expires_at = BigIntegerField()

    class Meta:
        table_name = "idempotency_key"
        indexes = ((("tenant", "request_hash", "position"), True), (("token",), False))


class ProcessTable(Trusted):
    """The processes that work on this database, and when each was last alive."""

    boot_id = KeyBytesField()
    host = TextField()
    pid = BigIntegerField()
    role = NameField()
    release = NameField()
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

    name = NameField()
    tenant = NameField()
    operation = NameField()
    state = NameField()
    position = BigIntegerField()
    done = BigIntegerField()
    failed = BigIntegerField()
    error = TextField(null=True)
    created_at = BigIntegerField()
    updated_at = BigIntegerField()
    revision = BigIntegerField()
    keyring = NameField(null=True)
    key_version = BigIntegerField(null=True)
    requested_by = NameField(null=True)

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

    name = NameField()
    owner = KeyBytesField()
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
