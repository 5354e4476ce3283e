"""The vault epoch, what processes say of their keys, requests for key versions, and versions found unasked. Frozen."""

from peewee import BigIntegerField, Model, TextField

from vault.storage.fields import IdField, NameField
from vault.storage.steps import add_columns, make_tables


def up(migrator, db):
    """Add to the tables of release 0.2; every new column of an old row is NULL."""

    class VaultEpoch(Model):
        id = IdField()
        value = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "vault_epoch"

    make_tables(db, [VaultEpoch])
    if not VaultEpoch.select().exists():
        VaultEpoch.insert(value=1).execute()
    columns = {
        "key_version": {"adopted_at": BigIntegerField},
        "process": {
            "administers": BigIntegerField,
            "epoch_seen": BigIntegerField,
            "proved": TextField,
            "cached_data_keys": BigIntegerField,
            "cached_until": BigIntegerField,
        },
        "job": {"keyring": NameField, "key_version": BigIntegerField, "requested_by": NameField},
    }
    for table, added in columns.items():
        add_columns(migrator, table, added)
