"""Reading records: by token and by look-up. The entry is committed before plaintext exists in an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from cryptography.hazmat.primitives import constant_time

from vault.audit.events import Action, AuditEvent, Result
from vault.core.collections import Definition
from vault.core.content import Content
from vault.core.documents import Document
from vault.core.errors import (
    IntegrityError,
    RecordNotFoundError,
    UnavailableError,
    UnprocessableError,
    VaultError,
    Violation,
)
from vault.core.masking import mask_document
from vault.core.normalise import NormaliseError
from vault.core.policy import Caller
from vault.core.ports import Page, RecordKey, TagQuery
from vault.core.record_access import RecordAccess, not_found
from vault.core.record_rules import check_live, check_region
from vault.core.record_seal import RecordSealer, document_sha256, indexed_values
from vault.core.rows import AuditRow, IndexRow, RecordRow
from vault.core.schema import IndexedField
from vault.core.trail import event_of


@dataclass(frozen=True, slots=True)
class View:
    """How much of a document an answer shows.

    Attributes:
        plain: unmasked.
        fields: only these top-level fields; None for all.
    """

    plain: bool = False
    fields: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class ShownRecord:
    """A record as an answer shows it.

    Attributes:
        row: its metadata.
        data: the document, masked or plain, with the fields asked for.
        masked: JSON pointers of the fields that are masked.
        view: what was asked for.
    """

    row: RecordRow
    data: Document
    masked: list[str]
    view: View


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
        self._sealer = RecordSealer(access.keyrings)

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
            self._access.check(current)
            check_live(current, self._access.clock())
            if wanted is None:
                raise RecordNotFoundError("This generation of the record is not kept.")
            if wanted is not current:
                self._access.check(wanted)
            return self._access.trail.entry(_release(caller, Action.RECORD_READ, wanted, definition, view))

        row = self._access.store.read_for(key, generation=generation, entry_for=entry_for)
        if row is None:
            raise not_found()
        try:
            return _shown(row, self._sealer.open(row), definition, view)
        except (IntegrityError, UnavailableError) as error:
            self._failed_after_release(caller, Action.RECORD_READ, [row], error)

    def lookup(self, caller: Caller, collection: str, lookup: Lookup) -> list[ShownRecord]:
        """Show the live records whose field has this value; none is an empty list.

        Raises:
            UnprocessableError: the field is not indexed, or the value cannot be normalised.
        """
        definition = self._access.definition_for(caller, Action.RECORD_LOOKUP, collection)
        query = self.tag_query(definition, lookup.field, lookup.value, lookup.region)

        def entries_for(found: Sequence[tuple[IndexRow, RecordRow]]) -> list[AuditRow]:
            for index_row, row in found:
                self._access.check(row)
                self._access.keyrings.authenticator(row.tenant, row.keyring).check(index_row)
            events = [
                replace(
                    _release(caller, Action.RECORD_LOOKUP, row, definition, lookup.view),
                    lookup_field=lookup.field,
                )
                for _, row in found
            ] or [_found_nothing(caller, collection, lookup.field)]
            return [self._access.trail.entry(event) for event in events]

        found = self._access.store.lookup_for(
            query, now=self._access.clock(), page=lookup.page, entries_for=entries_for
        )
        rows = [row for _, row in found]
        try:
            return [self._checked_find(row, definition, query, lookup.view) for row in rows]
        except (IntegrityError, UnavailableError) as error:
            self._failed_after_release(caller, Action.RECORD_LOOKUP, rows, error, lookup_field=lookup.field)

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

    def _checked_find(
        self, row: RecordRow, definition: Definition, query: TagQuery, view: View
    ) -> ShownRecord:
        content = self._sealer.open(row)
        # An index row that was pointed at another record shows here: that record's own value has another tag.
        ring = self._access.keyrings.get(row.tenant, row.keyring)
        own_tags = (
            ring.index.tag(definition.index_name(field), normalised)
            for field, normalised in indexed_values(content, definition)
            if field.name == query.field
        )
        if not any(constant_time.bytes_eq(tag, query.tag) for tag in own_tags):
            raise IntegrityError("index-binding", where=row.where())
        return _shown(row, content, definition, view)

    def _failed_after_release(
        self,
        caller: Caller,
        action: Action,
        rows: Sequence[RecordRow],
        error: VaultError,
        *,
        lookup_field: str | None = None,
    ) -> NoReturn:
        events = [
            event_of(
                caller,
                action,
                Result.FAILED,
                reason=error.code,
                collection=row.collection,
                token=row.token,
                generation=row.generation,
                seal_epoch=row.seal_epoch,
                lookup_field=lookup_field,
            )
            for row in rows
        ]
        self._access.trail.append(*events)
        error.is_audited = True
        raise error


def _release(
    caller: Caller, action: Action, row: RecordRow, definition: Definition, view: View
) -> AuditEvent:
    return event_of(
        caller,
        action,
        Result.RELEASED,
        collection=row.collection,
        token=row.token,
        generation=row.generation,
        seal_epoch=row.seal_epoch,
        document_sha256=document_sha256(row),
        fields=definition.loggable(view.fields or ()),
        reveal="plain" if view.plain else "masked",
    )


def _found_nothing(caller: Caller, collection: str, field: str) -> AuditEvent:
    return event_of(caller, Action.RECORD_LOOKUP, Result.NOT_FOUND, collection=collection, lookup_field=field)


def _shown(row: RecordRow, content: Content, definition: Definition, view: View) -> ShownRecord:
    if not view.plain:
        data, masked = mask_document(content.data, definition.schema.masks, fields=view.fields)
        return ShownRecord(row, data, masked, view)
    wanted = view.fields
    data = content.data if wanted is None else {name: v for name, v in content.data.items() if name in wanted}
    return ShownRecord(row, data, [], view)


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
