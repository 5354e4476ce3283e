"""What every way to a record goes through first, and the services that all of them need."""

from __future__ import annotations

from dataclasses import dataclass

from vault.audit.events import Action
from vault.core.collections import Collections, Definition
from vault.core.errors import RecordNotFoundError
from vault.core.keyrings import Keyrings
from vault.core.policy import Caller, authorize
from vault.core.ports import Clock, RecordKey, RecordStore
from vault.core.record_rules import check_purpose_stated
from vault.core.rows import RecordRow
from vault.core.trail import AuditTrail

MAX_ATTEMPTS = 5
"""How often a write that became stale is computed again before it answers 503."""


@dataclass(frozen=True, slots=True)
class RecordAccess:
    """The way to the records.

    Attributes:
        store: where records live.
        collections: their definitions.
        keyrings: their keys.
        trail: where it is audited.
        clock: tells the time.
    """

    store: RecordStore
    collections: Collections
    keyrings: Keyrings
    trail: AuditTrail
    clock: Clock

    def definition_for(self, caller: Caller, action: Action, collection: str) -> Definition:
        """The collection's definition, if the caller may do this to its records and says why where it must.

        Raises:
            NotAuthorizedError: the role does not allow the action.
            CollectionNotFoundError: there is no such collection.
            UnprocessableError: ``purpose-required``; the collection demands a purpose.
        """
        authorize(caller, action)
        definition = self.collections.current(caller.tenant, collection)
        check_purpose_stated(caller, definition)
        return definition

    def found(self, key: RecordKey) -> RecordRow:
        """The record's row, live or not, as the vault wrote it.

        Raises:
            RecordNotFoundError: no such record.
            IntegrityError: the row is not what the vault wrote.
        """
        row = self.store.find(key)
        if row is None:
            raise not_found()
        self.check(row)
        return row

    def check(self, row: RecordRow) -> None:
        """Raise unless the row is as the vault wrote it.

        Raises:
            IntegrityError: ``row-mac``.
        """
        self.keyrings.authenticator(row.tenant, row.keyring).check(row)


def not_found() -> RecordNotFoundError:
    """The answer for every token that the collection does not hold."""
    return RecordNotFoundError("There is no record with this token in the collection.")
