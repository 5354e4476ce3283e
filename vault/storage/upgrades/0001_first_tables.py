"""The first tables. Frozen: a later release adds a file, it never edits this one."""

from peewee import BigIntegerField, BlobField, IntegerField, Model, TextField

from vault.storage.fields import IdField, KeyBytesField, NameField
from vault.storage.steps import make_tables


def up(migrator, db):
    """Create every table of release 0.1."""

    class Record(Model):
        id = IdField()
        tenant = NameField()
        mac_key_id = BigIntegerField()
        mac = KeyBytesField()
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
            database = db
            legacy_table_names = False
            table_name = "record"
            indexes = (
                (("tenant", "collection", "token"), True),
                (("keyring", "key_version"), False),
            )

    class RecordHistory(Model):
        id = IdField()
        tenant = NameField()
        mac_key_id = BigIntegerField()
        mac = KeyBytesField()
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
            database = db
            legacy_table_names = False
            table_name = "record_history"
            indexes = (
                (("tenant", "collection", "token", "generation"), True),
                (("keyring", "key_version"), False),
            )

    class IndexEntry(Model):
        id = IdField()
        tenant = NameField()
        mac_key_id = BigIntegerField()
        mac = KeyBytesField()
        collection = NameField()
        field = NameField()
        index_key_id = BigIntegerField()
        normaliser = NameField()
        tag = KeyBytesField()
        slot = KeyBytesField()
        token = KeyBytesField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "index_entry"
            indexes = (
                (("tenant", "collection", "field", "index_key_id", "normaliser", "tag", "slot"), True),
                (("tenant", "collection", "token"), False),
            )

    class Collection(Model):
        id = IdField()
        tenant = NameField()
        mac_key_id = BigIntegerField()
        mac = KeyBytesField()
        name = NameField()
        schema_version = BigIntegerField()
        keyring = NameField()
        revision = BigIntegerField()
        created_at = BigIntegerField()
        updated_at = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "collection"
            indexes = ((("tenant", "name"), True),)

    class CollectionSchema(Model):
        id = IdField()
        tenant = NameField()
        mac_key_id = BigIntegerField()
        mac = KeyBytesField()
        collection = NameField()
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
        id = IdField()
        tenant = NameField()
        mac_key_id = BigIntegerField()
        mac = KeyBytesField()
        name = NameField()
        provider = NameField()
        provider_key = TextField()
        created_at = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "keyring"
            indexes = ((("tenant", "name"), True),)

    class KeyVersion(Model):
        id = IdField()
        tenant = NameField()
        mac_key_id = BigIntegerField()
        mac = KeyBytesField()
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

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "key_version"
            indexes = ((("tenant", "keyring", "version"), True),)

    class StoredKey(Model):
        id = IdField()
        tenant = NameField()
        mac_key_id = BigIntegerField()
        mac = KeyBytesField()
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
            database = db
            legacy_table_names = False
            table_name = "stored_key"
            indexes = (
                (("key_id",), True),
                (("tenant", "keyring", "purpose", "version"), True),
            )

    class Principal(Model):
        id = IdField()
        tenant = NameField()
        mac_key_id = BigIntegerField()
        mac = KeyBytesField()
        name = NameField()
        role = NameField()
        created_at = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "principal"
            indexes = ((("tenant", "name"), True),)

    class Credential(Model):
        id = IdField()
        tenant = NameField()
        mac_key_id = BigIntegerField()
        mac = KeyBytesField()
        credential_id = KeyBytesField()
        principal = NameField()
        secret_sha256 = KeyBytesField()
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
        id = IdField()
        tenant = NameField()
        mac_key_id = BigIntegerField()
        mac = KeyBytesField()
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
            database = db
            legacy_table_names = False
            table_name = "audit_entry"
            indexes = (
                (("entry_id",), True),
                (("tenant", "token"), False),
                (("tenant", "time"), False),
            )

    class RefusalTally(Model):
        address = NameField()
        reason = NameField()
        minute = BigIntegerField()
        count = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "refusal_tally"
            indexes = ((("address", "reason", "minute"), True),)

    make_tables(
        db,
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
        ],
    )
