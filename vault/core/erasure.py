"""Erasing records, and saying honestly what that did.

*Done*: the wrapped data key, the document, its history and its index rows are gone from the live database.
*Final*: no backup can bring the data key back, because every key version that could open it is gone. Until key
versions can be retired and destroyed, no erasure is final, and the state says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from vault.audit.events import Action, Result
from vault.core.documents import parse_json
from vault.core.errors import ConflictError, UnavailableError
from vault.core.policy import Caller, authorize
from vault.core.ports import RecordKey, StaleWriteError
from vault.core.record_access import MAX_ATTEMPTS, RecordAccess
from vault.core.record_rules import (
    IfMatch,
    check_if_match,
    check_not_erased,
)
from vault.core.rows import RecordRow
from vault.core.tombstones import erase_event, tombstone
from vault.core.trail import event_of


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
        access: the way to the records.
    """

    def __init__(self, access: RecordAccess) -> None:
        self._access = access

    def erase(self, caller: Caller, key: RecordKey, *, if_match: IfMatch | None) -> None:
        """Erase a record, expired or not.

        Raises:
            RecordNotFoundError: no such record.
            RecordErasedError: it was erased before.
            PreconditionFailedError: the record is not in a state that ``if_match`` names.
        """
        definition = self._access.definition_for(caller, Action.RECORD_ERASE, key.collection)
        for _ in range(MAX_ATTEMPTS):
            previous = self._access.found(key)
            check_not_erased(previous)
            check_if_match(previous, if_match, definition)
            ring = self._access.keyrings.get(previous.tenant, previous.keyring)
            remains = tombstone(previous, ring, self._access.clock())
            entry = self._access.trail.entry(erase_event(caller, previous))
            try:
                self._access.store.erase(remains, previous=previous, entry=entry)
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
        self._access.collections.current(caller.tenant, key.collection)
        row = self._access.found(key)
        if row.erased_at is None or row.erased_versions is None:
            raise ConflictError("The record was not erased.", code="not-erased")
        self._access.trail.append(
            event_of(caller, Action.ERASURE_READ, Result.DONE, collection=key.collection, token=key.token)
        )
        opened_by = [(keyring, version) for keyring, version in parse_json(row.erased_versions.encode())]
        return ErasureState(row=row, opened_by=opened_by)
