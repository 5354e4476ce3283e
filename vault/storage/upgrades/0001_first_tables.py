"""The first tables. Frozen: a later release adds a file, it never edits this one."""

from peewee import BigIntegerField, BlobField, IntegerField, Model, TextField
from playhouse.sqlite_ext import AutoIncrementField


def up(migrator, db):
    """Create every table of release 0.1."""

    class Record(Model):
        id = AutoIncrementField()
        tenant = TextField()
        mac_key_id = BigIntegerField()
        mac = BlobField()
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
            database = db
            legacy_table_names = False
            table_name = "record"
            indexes = (
                (("tenant", "collection", "token"), True),
                (("keyring", "key_version"), False),
            )

    class RecordHistory(Model):
        id = AutoIncrementField()
        tenant = TextField()
        mac_key_id = BigIntegerField()
        mac = BlobField()
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
            database = db
            legacy_table_names = False
            table_name = "record_history"
            indexes = (
                (("tenant", "collection", "token", "generation"), True),
                (("keyring", "key_version"), False),
            )

    class IndexEntry(Model):
        id = AutoIncrementField()
        tenant = TextField()
        mac_key_id = BigIntegerField()
        mac = BlobField()
        collection = TextField()
        field = TextField()
        index_key_id = BigIntegerField()
        normaliser = TextField()
        tag = BlobField()
        slot = BlobField()
        token = BlobField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "index_entry"
            indexes = (
                (("tenant", "collection", "field", "index_key_id", "normaliser", "tag", "slot"), True),
                (("tenant", "collection", "token"), False),
            )

    class Collection(Model):
        id = AutoIncrementField()
        tenant = TextField()
        mac_key_id = BigIntegerField()
        mac = BlobField()
        name = TextField()
        schema_version = BigIntegerField()
        keyring = TextField()
        revision = BigIntegerField()
        created_at = BigIntegerField()
        updated_at = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "collection"
            indexes = ((("tenant", "name"), True),)

    class CollectionSchema(Model):
        id = AutoIncrementField()
        tenant = TextField()
        mac_key_id = BigIntegerField()
        mac = BlobField()
        collection = TextField()
        version = BigIntegerField()
        schema_json = TextField()
        settings_json = TextField()
        created_at = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "collection_schema"
            indexes = ((("tenant", "collection", "version"), True),)

    class Keyring(Model):
        id = AutoIncrementField()
        tenant = TextField()
        mac_key_id = BigIntegerField()
        mac = BlobField()
        name = TextField()
        provider = TextField()
        provider_key = TextField()
        created_at = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "keyring"
            indexes = ((("tenant", "name"), True),)

    class KeyVersion(Model):
        id = AutoIncrementField()
        tenant = TextField()
        mac_key_id = BigIntegerField()
        mac = BlobField()
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

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "key_version"
            indexes = ((("tenant", "keyring", "version"), True),)

    class StoredKey(Model):
        id = AutoIncrementField()
        tenant = TextField()
        mac_key_id = BigIntegerField()
        mac = BlobField()
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
            database = db
            legacy_table_names = False
            table_name = "stored_key"
            indexes = (
                (("key_id",), True),
                (("tenant", "keyring", "purpose", "version"), True),
            )

    class Principal(Model):
        id = AutoIncrementField()
        tenant = TextField()
        mac_key_id = BigIntegerField()
        mac = BlobField()
        name = TextField()
        role = TextField()
        created_at = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "principal"
            indexes = ((("tenant", "name"), True),)

    class Credential(Model):
        id = AutoIncrementField()
        tenant = TextField()
        mac_key_id = BigIntegerField()
        mac = BlobField()
        credential_id = BlobField()
        principal = TextField()
        secret_sha256 = BlobField()
        created_at = BigIntegerField()
        expires_at = BigIntegerField(null=True)
        revoked_at = BigIntegerField(null=True)

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "credential"
            indexes = (
                (("secret_sha256",), True),
                (("tenant", "principal"), False),
            )

    class AuditEntry(Model):
        id = AutoIncrementField()
        tenant = TextField()
        mac_key_id = BigIntegerField()
        mac = BlobField()
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
            database = db
            legacy_table_names = False
            table_name = "audit_entry"
            indexes = (
                (("entry_id",), True),
                (("tenant", "token"), False),
                (("tenant", "time"), False),
            )

    class RefusalTally(Model):
        address = TextField()
        reason = TextField()
        minute = BigIntegerField()
        count = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "refusal_tally"
            indexes = ((("address", "reason", "minute"), True),)

    db.create_tables(
        [
            Record,
            RecordHistory,
            IndexEntry,
            Collection,
            CollectionSchema,
            Keyring,
            KeyVersion,
            StoredKey,
            Principal,
            Credential,
            AuditEntry,
            RefusalTally,
        ]
    )
