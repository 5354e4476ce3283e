"""Erasing records whose time is over: the same tombstone and entry as any erasure, in nobody's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vault.audit.events import Action, AuditEvent, Result
from vault.core.errors import IntegrityError
from vault.core.job_ports import Progress, Turn
from vault.core.keyring_loading import Keyring
from vault.core.keyrings import Keyrings
from vault.core.record_rules import is_expired
from vault.core.rows import AuditRow, RecordRow
from vault.core.tombstones import tombstone
from vault.core.trail import AuditTrail

EXPIRED = "expired"
"""The reason in the entries of such erasures."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands among the expired ones: in the order of the end of its time, then of its id."""

    expires_at: int = 0
    id: int = 0


START = Place()
"""Before every record."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """One prepared erasure.

    Attributes:
        tombstone: takes the place of the row with its id, if that is still at the revision before; signed.
        entry: the audit entry, signed.
    """

    tombstone: RecordRow
    entry: AuditRow


class ExpiryStore(Protocol):
    """Finds and erases records whose time is over."""

    def due(self, now: int, *, after: Place, limit: int) -> list[Place]:
        """The places of records that expired and are not erased, behind a place."""
        ...

    def find(self, place: Place) -> RecordRow | None:
        """The record at a place."""
        ...

    def erase(self, erasures: Sequence[Erasure], *, turn: Turn, progress: Progress) -> Turn:
        """Commit a batch of erasures with their entries and the job's progress, all or none.

        A record that has changed since it was read is left out: the write that changed it counts.

        Raises:
            LeaseLostError: the turn is over; nothing was erased.
        """
        ...


class Expiry:
    """Prepares erasures.

    Args:
        keyrings: check rows and sign what remains.
        trail: makes the entries.
    """

    def __init__(self, keyrings: Keyrings, trail: AuditTrail) -> None:
        self._keyrings = keyrings
        self._trail = trail

    def erasure_of(self, row: RecordRow, now: int) -> Erasure | None:
        """Prepare the erasure of a record, or None if its time is not over or it was erased already.

        Raises:
            IntegrityError: the row is not what the vault wrote; it must not be touched.
            UnavailableError: its key version is new to this process, and the provider cannot be reached.
        """
        ring = self._ring_of(row)
        ring.authenticator.check(row)
        if row.erased_at is not None or not is_expired(row, now):
            return None
        if row.key_version not in ring.versions:
            # Rotated since this process loaded its keys: the tombstone names every version that opens a backup.
            self._keyrings.load()
            ring = self._ring_of(row)
        event = AuditEvent(
            action=Action.RECORD_ERASE,
            result=Result.DONE,
            tenant=row.tenant,
            reason=EXPIRED,
            collection=row.collection,
            token=row.token,
            generation=row.generation,
            seal_epoch=row.seal_epoch,
        )
        return Erasure(tombstone(row, ring, now), self._trail.entry(event))

    def _ring_of(self, row: RecordRow) -> Keyring:
        try:
            return self._keyrings.get(row.tenant, row.keyring)
        except IntegrityError as error:
            # No keyring of this name: the row is what is wrong, so the row is named.
            raise IntegrityError(error.finding, where=row.where()) from error
