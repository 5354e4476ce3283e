"""Reading records: by token and by look-up. The entry is committed before plaintext exists in an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from cryptography.hazmat.primitives import constant_time

from vault.audit.events import Action, AuditEvent, Result
from vault.core.collections import Collections, Definition
from vault.core.content import Content
from vault.core.documents import Document
from vault.core.errors import IntegrityError, UnavailableError, UnprocessableError, VaultError, Violation
from vault.core.keyrings import Keyrings
from vault.core.masking import mask_document
from vault.core.normalise import NormaliseError, is_region
from vault.core.policy import Caller, authorize
from vault.core.ports import Clock, Page, RecordKey, RecordStore, TagQuery
from vault.core.record_rules import check_live, check_purpose_stated, check_row, not_found
from vault.core.record_seal import RecordSealer, document_sha256
from vault.core.rows import AuditRow, IndexRow, RecordRow
from vault.core.schema import IndexedField
from vault.core.trail import AuditTrail, event_of


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
        self._sealer = RecordSealer(keyrings)

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
        authorize(caller, Action.RECORD_READ)
        definition = self._collections.current(caller.tenant, key.collection)
        check_purpose_stated(caller, definition)

        def entry_for(current: RecordRow, wanted: RecordRow | None) -> AuditRow:
            check_row(current, self._keyrings)
            check_live(current, self._clock())
            if wanted is None:
                raise not_found()
            if wanted is not current:
                check_row(wanted, self._keyrings)
            return self._trail.entry(_release(caller, Action.RECORD_READ, wanted, definition, view))

        row = self._store.read_for(key, generation=generation, entry_for=entry_for)
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
        authorize(caller, Action.RECORD_LOOKUP)
        definition = self._collections.current(caller.tenant, collection)
        check_purpose_stated(caller, definition)
        query = self.tag_query(definition, lookup.field, lookup.value, lookup.region)

        def entries_for(found: Sequence[tuple[IndexRow, RecordRow]]) -> list[AuditRow]:
            for index_row, row in found:
                check_row(row, self._keyrings)
                self._keyrings.authenticator(row.tenant, row.keyring).check(index_row)
            events = [
                _release(caller, Action.RECORD_LOOKUP, row, definition, lookup.view) for _, row in found
            ] or [_found_nothing(caller, collection, lookup.field)]
            return [self._trail.entry(event) for event in events]

        found = self._store.lookup_for(query, now=self._clock(), page=lookup.page, entries_for=entries_for)
        rows = [row for _, row in found]
        try:
            return [self._checked_find(row, definition, query, lookup.view) for row in rows]
        except (IntegrityError, UnavailableError) as error:
            self._failed_after_release(caller, Action.RECORD_LOOKUP, rows, error)

    def list_page(self, caller: Caller, collection: str, *, page: Page) -> list[RecordRow]:
        """List live, unexpired records in the order of their creation; their documents stay sealed.

        Raises:
            CollectionNotFoundError: there is no such collection.
            IntegrityError: a row is not what the vault wrote.
        """
        authorize(caller, Action.RECORD_LIST)
        definition = self._collections.current(caller.tenant, collection)
        check_purpose_stated(caller, definition)
        entry = self._trail.entry(event_of(caller, Action.RECORD_LIST, Result.DONE, collection=collection))
        rows = self._store.list_page(caller.tenant, collection, now=self._clock(), page=page, entry=entry)
        for row in rows:
            check_row(row, self._keyrings)
        return rows

    def tag_query(self, definition: Definition, field: str, value: Any, region: str | None) -> TagQuery:
        """The tag of a value as a look-up sends it.

        Raises:
            UnprocessableError: the field is not indexed, or the value cannot be normalised.
        """
        indexed = _indexed_field(definition, field)
        ring = self._keyrings.get(definition.row.tenant, definition.row.keyring)
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
        # A valid index row that was pointed at another record shows here: its value has another tag.
        try:
            value = content.data.get(query.field)
            found = self.tag_query(definition, query.field, value, content.region)
        except UnprocessableError as error:
            raise IntegrityError("index-binding", where=row.where()) from error
        if not constant_time.bytes_eq(found.tag, query.tag):
            raise IntegrityError("index-binding", where=row.where())
        return _shown(row, content, definition, view)

    def _failed_after_release(
        self, caller: Caller, action: Action, rows: Sequence[RecordRow], error: VaultError
    ) -> NoReturn:
        details = {"reason": error.code}
        events = [
            event_of(caller, action, Result.FAILED, collection=row.collection, token=row.token, **details)
            for row in rows
        ]
        self._trail.append(*events)
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
    return event_of(caller, Action.RECORD_LOOKUP, Result.NOT_FOUND, collection=collection, fields=(field,))


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
    if region is not None and not is_region(region):
        raise UnprocessableError(
            "The region is a two-letter code such as DE.",
            code="region",
            violations=[Violation("/region", "region")],
        )
    try:
        return field.normaliser.normalise(value, region=region)
    except NormaliseError as error:
        raise UnprocessableError(
            "The value cannot be looked up in this field.",
            code="lookup-value",
            violations=[Violation("/value", error.code, error.detail)],
        ) from None
