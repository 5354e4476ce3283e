"""Erasing records, and saying honestly what that did.

*Done*: the wrapped data key, the document, its history and its index rows are gone from the live database.
*Final*: no backup can bring the data key back, because every key version that could open it is gone. Until key
versions can be retired and destroyed, no erasure is final, and the state says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from vault.audit.events import Action, Result
from vault.core.collections import Collections
from vault.core.documents import parse_json
from vault.core.errors import ConflictError, UnavailableError
from vault.core.keyrings import Keyrings
from vault.core.policy import Caller, authorize
from vault.core.ports import Clock, RecordKey, RecordStore, StaleWriteError
from vault.core.record_rules import (
    IfMatch,
    check_if_match,
    check_not_erased,
    check_purpose_stated,
    check_row,
    not_found,
)
from vault.core.records import MAX_ATTEMPTS
from vault.core.rows import RecordRow
from vault.core.tombstones import erase_event, tombstone
from vault.core.trail import AuditTrail, event_of


@dataclass(frozen=True, slots=True)
class ErasureState:
    """What became of a record.

    Attributes:
        row: the tombstone.
        opened_by: (keyring, version) of every key version that could open the record in a backup.
    """

    row: RecordRow
    opened_by: list[tuple[str, int]]

    @property
    def is_final(self) -> bool:
        """Whether no backup can bring the record back."""
        return self.row.final_at is not None


class Erasures:
    """Erases records.

    Args:
        store: where records live.
        collections: their definitions.
        keyrings: their keys.
        trail: where it is audited.
        clock: tells the time.
    """

    def __init__(
        self,
        store: RecordStore,
        collections: Collections,
        keyrings: Keyrings,
        trail: AuditTrail,
        clock: Clock,
    ) -> None:
        self._store = store
        self._collections = collections
        self._keyrings = keyrings
        self._trail = trail
        self._clock = clock

    def erase(self, caller: Caller, key: RecordKey, *, if_match: IfMatch | None) -> None:
        """Erase a record, expired or not.

        Raises:
            RecordNotFoundError: no such record.
            RecordErasedError: it was erased before.
            PreconditionFailedError: the record is not in a state that ``if_match`` names.
        """
        authorize(caller, Action.RECORD_ERASE)
        definition = self._collections.current(caller.tenant, key.collection)
        check_purpose_stated(caller, definition)
        for _ in range(MAX_ATTEMPTS):
            previous = self._found(key)
            check_not_erased(previous)
            check_if_match(previous, if_match, definition)
            ring = self._keyrings.get(previous.tenant, previous.keyring)
            remains = tombstone(previous, ring, self._clock())
            entry = self._trail.entry(erase_event(caller, previous))
            try:
                self._store.erase(remains, previous=previous, entry=entry)
            except StaleWriteError:
                continue
            return
        raise UnavailableError("The record is being changed by others; nothing was erased.", code="contended")

    def state(self, caller: Caller, key: RecordKey) -> ErasureState:
        """Say what became of an erased record.

        Raises:
            RecordNotFoundError: no such record.
            ConflictError: it was not erased.
        """
        authorize(caller, Action.ERASURE_READ)
        self._collections.current(caller.tenant, key.collection)
        row = self._found(key)
        if row.erased_at is None or row.erased_versions is None:
            raise ConflictError("The record was not erased.", code="not-erased")
        self._trail.append(
            event_of(caller, Action.ERASURE_READ, Result.DONE, collection=key.collection, token=key.token)
        )
        opened_by = [(keyring, version) for keyring, version in parse_json(row.erased_versions.encode())]
        return ErasureState(row=row, opened_by=opened_by)

    def _found(self, key: RecordKey) -> RecordRow:
        row = self._store.find(key)
        if row is None:
            raise not_found()
        check_row(row, self._keyrings)
        return row
