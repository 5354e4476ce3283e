"""Idempotency keys, processes, jobs with their leases, and the index that finds expired records. Frozen."""

from peewee import BigIntegerField, BlobField, IntegerField, Model, TextField
from playhouse.sqlite_ext import AutoIncrementField


def up(migrator, db):
    """Create the tables of release 0.2."""

    class IdempotencyKey(Model):
        id = AutoIncrementField()
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
            database = db
            legacy_table_names = False
            table_name = "idempotency_key"
            indexes = ((("tenant", "request_hash", "position"), True), (("token",), False))

    class Process(Model):
        id = AutoIncrementField()
        boot_id = BlobField()
        host = TextField()
        pid = BigIntegerField()
        role = TextField()
        release = TextField()
        started_at = BigIntegerField()
        heartbeat_at = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "process"
            indexes = ((("boot_id",), True),)

    class Job(Model):
        id = AutoIncrementField()
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

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "job"
            indexes = ((("name",), True),)

    class JobLease(Model):
        id = AutoIncrementField()
        name = TextField()
        owner = BlobField()
        epoch = BigIntegerField()
        expires_at = BigIntegerField()

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "job_lease"
            indexes = ((("name",), True),)

    db.create_tables([IdempotencyKey, Process, Job, JobLease])

    class Record(Model):
        erased_at = BigIntegerField(null=True)
        expires_at = BigIntegerField(null=True)

        class Meta:
            database = db
            legacy_table_names = False
            table_name = "record"

    db.execute(Record.index(Record.erased_at, Record.expires_at))
