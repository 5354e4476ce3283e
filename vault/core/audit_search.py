"""Searching the access log, by the person concerned too."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from vault.audit.entry import read_entry
from vault.audit.events import Action, AuditEvent, Result
from vault.core.audit_ports import AuditCriteria, AuditStore
from vault.core.collections import Collections
from vault.core.errors import IntegrityError, UnprocessableError, Violation
from vault.core.keyrings import Keyrings
from vault.core.policy import Caller, authorize
from vault.core.ports import Page, RecordStore
from vault.core.reading import Reading
from vault.core.rows import AuditRow
from vault.core.trail import AuditTrail, event_of

MAX_RECORDS_OF_PERSON = 1_000
"""How many records may share the value by which a person is searched for."""


@dataclass(frozen=True, slots=True)
class Person:
    """Whose records' entries to find; the value is resolved through the live index and never stored."""

    collection: str
    field: str
    value: Any
    region: str | None = None


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry that was found: its row and what its canonical bytes say."""

    row: AuditRow
    event: AuditEvent


class AuditSearch:
    """Searches the log; every search leaves an entry itself.

    Args:
        store: the log.
        records: resolves a person to tokens.
        reading: makes the tag of a value.
        collections: their definitions.
        keyrings: checks the rows.
        trail: where searches are audited.
    """

    def __init__(
        self,
        store: AuditStore,
        records: RecordStore,
        reading: Reading,
        collections: Collections,
        keyrings: Keyrings,
        trail: AuditTrail,
    ) -> None:
        self._store = store
        self._records = records
        self._reading = reading
        self._collections = collections
        self._keyrings = keyrings
        self._trail = trail

    def search(
        self, caller: Caller, criteria: AuditCriteria, *, person: Person | None, page: Page
    ) -> list[FoundEntry]:
        """Find entries, newest first.

        Raises:
            UnprocessableError: the person's field is not indexed, or the value cannot be normalised.
            IntegrityError: an entry, or an index row of the person, is not what the vault wrote.
        """
        authorize(caller, Action.AUDIT_SEARCH)
        self._trail.close_tallies()
        if person is not None:
            criteria = replace(criteria, tokens=self._tokens_of(caller, person, criteria.tokens))
        subject = {"collection": person.collection, "lookup_field": person.field} if person else {}
        entry = self._trail.entry(event_of(caller, Action.AUDIT_SEARCH, Result.DONE, **subject))
        return [self._checked(row) for row in self._store.search(criteria, page=page, entry=entry)]

    def _tokens_of(
        self, caller: Caller, person: Person, wanted: tuple[bytes, ...] | None
    ) -> tuple[bytes, ...]:
        definition = self._collections.current(caller.tenant, person.collection)
        query = self._reading.tag_query(definition, person.field, person.value, person.region)
        rows = self._records.index_rows_with(query)
        for row in rows:
            # A row that was pointed at another record would show the log of somebody else.
            self._keyrings.authenticator(row.tenant, definition.row.keyring).check(row)
        if len(rows) > MAX_RECORDS_OF_PERSON:
            raise UnprocessableError(
                f"More than {MAX_RECORDS_OF_PERSON:,} records have this value: it does not name a person. Search by "
                "collection or token instead.",
                code="person",
                violations=[Violation("/person/value", "too-common")],
            )
        return tuple(row.token for row in rows if wanted is None or row.token in wanted)

    def _checked(self, row: AuditRow) -> FoundEntry:
        self._keyrings.authenticator(row.tenant).check(row)
        try:
            event, _ = read_entry(row.canonical)
        except ValueError as error:
            raise IntegrityError("audit-entry", where=row.where()) from error
        return FoundEntry(row, event)
