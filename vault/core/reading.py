"""Reading records: by token and by look-up. The entry is committed before plaintext exists in an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vault.audit.events import Action, Result
from vault.core.collections import Definition
from vault.core.errors import UnprocessableError, VaultError, Violation
from vault.core.normalise import NormaliseError
from vault.core.policy import Caller
from vault.core.ports import Page, RecordKey, TagQuery
from vault.core.record_access import RecordAccess, not_found
from vault.core.record_rules import check_region
from vault.core.releases import Release, Releases, ShownRecord, View
from vault.core.rows import AuditRow, IndexRow, RecordRow
from vault.core.schema import IndexedField
from vault.core.trail import event_of


@dataclass(frozen=True, slots=True)
class Lookup:
    """A look-up by value; the value is never stored or logged.

    Attributes:
        field: an indexed field.
        value: as a user would write it.
        region: for telephone numbers without ``+``; None takes the collection's default.
        view: what to show of what is found.
        page: which slice.
    """

    field: str
    value: Any
    region: str | None
    view: View
    page: Page


class Reading:
    """Reads records.

    Args:
        access: the way to the records.
    """

    def __init__(self, access: RecordAccess) -> None:
        self._access = access
        self._releases = Releases(access)

    def read(
        self, caller: Caller, key: RecordKey, *, view: View, generation: int | None = None
    ) -> ShownRecord:
        """Show one record.

        Args:
            caller: who asks.
            key: which record.
            view: how much of it.
            generation: an earlier one, if the collection keeps them; None for the current one.

        Raises:
            RecordNotFoundError: no such record, or the generation is not kept.
            RecordErasedError: it was erased.
            RecordExpiredError: its time is over.
        """
        definition = self._access.definition_for(caller, Action.RECORD_READ, key.collection)

        def entry_for(current: RecordRow, wanted: RecordRow | None) -> AuditRow:
            _, entry = self._releases.read_entry(caller, definition, view, current=current, wanted=wanted)
            return entry

        row = self._access.store.read_for(key, generation=generation, entry_for=entry_for)
        if row is None:
            raise not_found()
        (shown,) = self._show(caller, [Release(Action.RECORD_READ, row, definition, view)])
        return shown

    def lookup(self, caller: Caller, collection: str, lookup: Lookup) -> list[ShownRecord]:
        """Show the live records whose field has this value; none is an empty list.

        Raises:
            UnprocessableError: the field is not indexed, or the value cannot be normalised.
        """
        definition = self._access.definition_for(caller, Action.RECORD_LOOKUP, collection)
        query = self.tag_query(definition, lookup.field, lookup.value, lookup.region)

        def entries_for(found: Sequence[tuple[IndexRow, RecordRow]]) -> list[AuditRow]:
            return self._releases.lookup_entries(
                caller, definition, lookup.view, field=lookup.field, found=found
            )

        found = self._access.store.lookup_for(
            query, now=self._access.clock(), page=lookup.page, entries_for=entries_for
        )
        return self._show(
            caller,
            [Release(Action.RECORD_LOOKUP, row, definition, lookup.view, query) for _, row in found],
        )

    def _show(self, caller: Caller, releases: Sequence[Release]) -> list[ShownRecord]:
        results = self._releases.show(releases)
        error = next((result for result in results if isinstance(result, VaultError)), None)
        if error is not None:
            self._releases.failed(caller, releases, error)
            raise error
        return [result for result in results if not isinstance(result, VaultError)]

    def list_page(self, caller: Caller, collection: str, *, page: Page) -> list[RecordRow]:
        """List live, unexpired records in the order of their creation; their documents stay sealed.

        Raises:
            CollectionNotFoundError: there is no such collection.
            IntegrityError: a row is not what the vault wrote.
        """
        self._access.definition_for(caller, Action.RECORD_LIST, collection)
        entry = self._access.trail.entry(
            event_of(caller, Action.RECORD_LIST, Result.DONE, collection=collection)
        )
        rows = self._access.store.list_page(
            caller.tenant, collection, now=self._access.clock(), page=page, entry=entry
        )
        for row in rows:
            self._access.check(row)
        return rows

    def tag_query(self, definition: Definition, field: str, value: Any, region: str | None) -> TagQuery:
        """The tag of a value as a look-up sends it.

        Raises:
            UnprocessableError: the field is not indexed, or the value cannot be normalised.
        """
        indexed = _indexed_field(definition, field)
        ring = self._access.keyrings.get(definition.row.tenant, definition.row.keyring)
        name = definition.index_name(indexed)
        return TagQuery(
            tenant=name.tenant,
            collection=name.collection,
            field=name.field,
            index_key_id=ring.index.key_id,
            normaliser=name.normaliser,
            tag=ring.index.tag(
                name, _normalised(indexed, value, region or definition.settings.default_region)
            ),
        )


def _indexed_field(definition: Definition, field: str) -> IndexedField:
    for indexed in definition.schema.indexed:
        if indexed.name == field:
            return indexed
    names = ", ".join(indexed.name for indexed in definition.schema.indexed) or "none"
    raise UnprocessableError(
        f"The field is not indexed; indexed fields of this collection: {names}.",
        code="not-indexed",
        violations=[Violation("/field", "not-indexed")],
    )


def _normalised(field: IndexedField, value: Any, region: str | None) -> str:
    if not isinstance(value, str):
        raise UnprocessableError(
            "The value is a string.", code="lookup-value", violations=[Violation("/value", "type", "string")]
        )
    check_region(region)
    try:
        return field.normaliser.normalise(value, region=region)
    except NormaliseError as error:
        raise UnprocessableError(
            "The value cannot be looked up in this field.",
            code="lookup-value",
            violations=[Violation("/value", error.code, error.detail)],
        ) from None
