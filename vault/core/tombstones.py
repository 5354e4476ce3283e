"""What remains of an erased record, and the entry that says so."""

from __future__ import annotations

from dataclasses import replace

from vault.audit.events import Action, AuditEvent, Result
from vault.core.documents import dump_json
from vault.core.keyring_loading import Keyring
from vault.core.policy import Caller
from vault.core.rows import KeyState, RecordRow
from vault.core.trail import event_of


def tombstone(row: RecordRow, ring: Keyring, now: int) -> RecordRow:
    """Make the signed tombstone of a record: no data key, no document, and who could still open a backup of it."""
    # A backup may hold an older generation under an older version: name every version that could open one.
    opened_by = [
        [row.keyring, version.version]
        for version in ring.versions.values()
        if version.version <= row.key_version and version.state != KeyState.DESTROYED
    ]
    remains = replace(
        row,
        revision=row.revision + 1,
        wrapped_dek=None,
        sealed_document=None,
        erased_at=now,
        erased_versions=dump_json(opened_by).decode(),
    )
    return ring.authenticator.sign(remains)


def erase_event(caller: Caller, row: RecordRow, *, reason: str | None = None) -> AuditEvent:
    """The event of erasing a record.

    Args:
        caller: whose request it was.
        row: the record before it was erased.
        reason: ``expired`` if a write erased it because its time was over; None if the caller asked for it.
    """
    return event_of(
        caller,
        Action.RECORD_ERASE,
        Result.DONE,
        reason=reason,
        collection=row.collection,
        token=row.token,
        generation=row.generation,
        seal_epoch=row.seal_epoch,
    )
