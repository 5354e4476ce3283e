"""Databases as earlier releases left them, made from one of this release."""

from __future__ import annotations

_ADDED_BY_0003 = {
    "key_version": ["adopted_at"],
    "process": ["administers", "epoch_seen", "proved", "cached_data_keys", "cached_until"],
    "job": ["keyring", "key_version", "requested_by"],
}
UNDO_0003 = (
    *(f"ALTER TABLE {table} DROP COLUMN {name}" for table, names in _ADDED_BY_0003.items() for name in names),
    "DROP TABLE vault_epoch",
    "DELETE FROM schema_history WHERE name = '0003_keys_at_work'",
)
"""SQL that takes a SQLite database back to release 0.2."""

_DROP_0002 = (
    *(f"DROP TABLE {name}" for name in ("idempotency_key", "process", "job", "job_lease")),
    "DELETE FROM schema_history WHERE name = '0002_move_in'",
)
UNDO_0002 = {
    "postgresql": (*_DROP_0002, "DROP INDEX record_erased_at_expires_at"),
    "mariadb": (*_DROP_0002, "DROP INDEX record_erased_at_expires_at ON record"),
}
"""SQL that takes a server's database back from release 0.2 to 0.1, by scheme."""
