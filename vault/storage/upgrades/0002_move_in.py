"""Idempotency keys, processes, jobs with their leases, and the index that finds expired records. Frozen."""

from peewee import BigIntegerField, IntegerField, Model, TextField

from vault.storage.fields import IdField, KeyBytesField, NameField
from vault.storage.steps import make_index, make_tables


def up(migrator, db):
    """Create the tables of release 0.2."""

    class IdempotencyKey(Model):
        id = IdField()
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
            database = db
            legacy_table_names = False
            table_name = "idempotency_key"
            indexes = ((("tenant", "request_hash", "position"), True), (("token",), False))

    class Process(Model):
        id = IdField()
        boot_id = KeyBytesField()
        host = TextField()
        pid = BigIntegerField()
        role = NameField()
        release = NameField()
        started_at = BigIntegerField()
        heartbeat_at = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "process"
            indexes = ((("boot_id",), True),)

    class Job(Model):
        id = IdField()
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

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "job"
            indexes = ((("name",), True),)

    class JobLease(Model):
        id = IdField()
        name = NameField()
        owner = KeyBytesField()
        epoch = BigIntegerField()
        expires_at = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "job_lease"
            indexes = ((("name",), True),)

    make_tables(db, [IdempotencyKey, Process, Job, JobLease])

    class Record(Model):
        erased_at = BigIntegerField(null=True)
        expires_at = BigIntegerField(null=True)

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "record"

    make_index(db, Record, Record.index(Record.erased_at, Record.expires_at))
