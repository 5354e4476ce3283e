"""The vault epoch, what processes say of their keys, requests for key versions, and versions found unasked. Frozen."""

from peewee import BigIntegerField, Model, TextField
from playhouse.migrate import migrate
from playhouse.sqlite_ext import AutoIncrementField


def up(migrator, db):
    """Add to the tables of release 0.2; every new column of an old row is NULL."""

    class VaultEpoch(Model):
        id = AutoIncrementField()
        value = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "vault_epoch"

    db.create_tables([VaultEpoch])
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
        "job": {"keyring": TextField, "key_version": BigIntegerField, "requested_by": TextField},
    }
    migrate(
        *(
            migrator.add_column(table, name, field(null=True))
            for table, added in columns.items()
            for name, field in added.items()
        )
    )
