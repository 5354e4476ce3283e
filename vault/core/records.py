"""Writing records: create, replace, patch.

Each attempt mints a new data key; what the database finds stale is computed again from the start, so no data key
ever makes a second seal.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from vault.audit.events import Action, AuditEvent, Result
from vault.core.collections import Definition
from vault.core.content import Content
from vault.core.documents import Document, check_limits, dump_json, merge_patch
from vault.core.errors import (
    DuplicateValueError,
    UnavailableError,
    UnprocessableError,
    Violation,
)
from vault.core.masking import restores_mask
from vault.core.pointers import json_pointer
from vault.core.policy import Caller
from vault.core.ports import DuplicateIndexError, RecordKey, RecordWrite, StaleWriteError
from vault.core.record_access import MAX_ATTEMPTS, RecordAccess
from vault.core.record_rules import (
    IfMatch,
    check_if_match,
    check_live,
    check_region,
    is_expired,
)
from vault.core.record_seal import RecordDraft, RecordSealer, document_sha256, indexed_values
from vault.core.rows import RecordHistoryRow, RecordRow
from vault.core.schema import normalised_index_values
from vault.core.tokens import mint_token
from vault.core.tombstones import erase_event, tombstone
from vault.core.trail import event_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NewDocument:
    """What a create or replace brings.

    Attributes:
        data: the document.
        expires_at: UTC microseconds, or None to keep it until it is erased.
        region: for telephone numbers without ``+``; None takes the collection's default.
    """

    data: Any
    expires_at: int | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class _NextState:
    content: Content
    expires_at: int | None


class Records:
    """Creates and changes records.

    Args:
        access: the way to the records.
    """

    def __init__(self, access: RecordAccess) -> None:
        self._access = access
        self._sealer = RecordSealer(access.keyrings)

    def create(self, caller: Caller, collection: str, document: NewDocument) -> RecordRow:
        """Store a new record and return its row.

        Raises:
            UnprocessableError: schema, normaliser, region or purpose.
            DuplicateValueError: a unique value is taken.
        """
        return self._until_fresh(caller, collection, lambda: self._create(caller, collection, document))

    def replace(
        self, caller: Caller, key: RecordKey, document: NewDocument, *, if_match: IfMatch | None
    ) -> RecordRow:
        """Store the next generation of a record and return its row.

        Raises:
            UnprocessableError: schema, normaliser, region, purpose, or a mask that would overwrite its value.
            DuplicateValueError: a unique value is taken.
            PreconditionFailedError: the record is not in a state that ``if_match`` names.
        """

        def next_state(_row: RecordRow, _current: Content, definition: Definition) -> _NextState:
            return _NextState(
                _content(document, definition), _future(document.expires_at, self._access.clock())
            )

        return self._change(caller, key, next_state, if_match)

    def patch(self, caller: Caller, key: RecordKey, patch: Any, *, if_match: IfMatch | None) -> RecordRow:
        """Merge a patch (RFC 7396) into a record's document, store the next generation and return its row.

        Raises:
            UnprocessableError: as for :meth:`replace`.
            DuplicateValueError: a unique value is taken.
            PreconditionFailedError: the record is not in a state that ``if_match`` names.
        """
        check_limits(patch)

        def next_state(row: RecordRow, current: Content, _definition: Definition) -> _NextState:
            merged = _object(merge_patch(current.data, patch))
            return _NextState(Content(merged, current.region), row.expires_at)

        return self._change(caller, key, next_state, if_match)

    def _create(self, caller: Caller, collection: str, document: NewDocument) -> RecordRow:
        definition = self._access.definition_for(caller, Action.RECORD_CREATE, collection)
        now = self._access.clock()
        content = _validated(_content(document, definition), definition)
        draft = RecordDraft(
            token=mint_token(),
            generation=1,
            content=content,
            created_at=now,
            updated_at=now,
            expires_at=_future(document.expires_at, now),
        )
        row, index = self._sealer.seal(draft, definition)
        event = _write_event(caller, Action.RECORD_CREATE, row, definition.loggable(content.data))
        self._access.store.create(RecordWrite(record=row, index=index, entry=self._access.trail.entry(event)))
        return row

    def _change(
        self,
        caller: Caller,
        key: RecordKey,
        next_state: Callable[[RecordRow, Content, Definition], _NextState],
        if_match: IfMatch | None,
    ) -> RecordRow:
        def attempt() -> RecordRow:
            definition = self._access.definition_for(caller, Action.RECORD_UPDATE, key.collection)
            previous = self._live(key)
            check_if_match(previous, if_match, definition)
            current = self._sealer.open(previous)
            state = next_state(previous, current, definition)
            return self._store_next(caller, previous, current, state, definition)

        return self._until_fresh(caller, key.collection, attempt)

    def _store_next(
        self, caller: Caller, previous: RecordRow, current: Content, state: _NextState, definition: Definition
    ) -> RecordRow:
        # Before the schema and its normalisers: a masked e-mail is no e-mail, and the caller should hear why.
        _check_no_mask_restored(current, state.content, definition)
        content = _validated(state.content, definition, previous=current)
        draft = RecordDraft(
            token=previous.token,
            generation=previous.generation + 1,
            content=content,
            created_at=previous.created_at,
            updated_at=self._access.clock(),
            expires_at=state.expires_at,
            revision=previous.revision + 1,
        )
        row, index = self._sealer.seal(draft, definition)
        changed = _changed_names(current.data, state.content.data)
        event = _write_event(caller, Action.RECORD_UPDATE, row, definition.loggable(changed))
        write = RecordWrite(
            record=row,
            index=index,
            entry=self._access.trail.entry(event),
            history_limit=definition.settings.history,
            history=self._as_history(previous) if definition.settings.history else None,
        )
        self._access.store.replace(write, previous=previous)
        return row

    def _live(self, key: RecordKey) -> RecordRow:
        row = self._access.found(key)
        check_live(row, self._access.clock())
        return row

    def _as_history(self, row: RecordRow) -> RecordHistoryRow:
        columns = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
        kept = RecordHistoryRow(**columns | {"id": None})
        return self._access.keyrings.authenticator(row.tenant, row.keyring).sign(kept)

    def _erase_expired(self, caller: Caller, collection: str, tokens: Iterable[bytes]) -> bool:
        """Erase those of these records whose time is over: a value that nobody can read must not stay taken."""
        erased = False
        for token in set(tokens):
            row = self._access.store.find(RecordKey(caller.tenant, collection, token))
            if row is None or row.erased_at is not None or not is_expired(row, self._access.clock()):
                continue
            self._access.check(row)
            event = erase_event(caller, row, reason="expired")
            ring = self._access.keyrings.get(row.tenant, row.keyring)
            # Somebody else may have erased it meanwhile; either way the write is worth another try.
            with contextlib.suppress(StaleWriteError):
                self._access.store.erase(
                    tombstone(row, ring, self._access.clock()),
                    previous=row,
                    entry=self._access.trail.entry(event),
                )
            erased = True
        return erased

    def _until_fresh(self, caller: Caller, collection: str, attempt: Callable[[], T]) -> T:
        for _ in range(MAX_ATTEMPTS):
            try:
                return attempt()
            except DuplicateIndexError as error:
                if not self._erase_expired(caller, collection, error.holders.values()):
                    raise DuplicateValueError(tuple(error.holders)) from error
            except StaleWriteError as stale:
                if stale.cause == "keys":
                    self._access.keyrings.load()
        raise UnavailableError(
            f"The write was overtaken {MAX_ATTEMPTS} times by changes of keys, schema or record; nothing was written.",
            code="contended",
        )


def _object(data: Any) -> Document:
    if not isinstance(data, dict):
        raise UnprocessableError(
            "The document is a JSON object.",
            code="schema-violation",
            violations=[Violation("", "type", "object")],
        )
    return data


def _content(document: NewDocument, definition: Definition) -> Content:
    data = _object(document.data)
    region = definition.settings.default_region if document.region is None else document.region
    check_region(region)
    return Content(data, region)


def _validated(content: Content, definition: Definition, *, previous: Content | None = None) -> Content:
    """Check a document against its collection, and add the normalised values of its indexed fields.

    A field that a change leaves as it was keeps its normalised value: its rules were met when it was written, and
    a numbering plan that has changed since must not stand in the way of changing another field.
    """
    check_limits(content.data)
    definition.schema.validate(content.data, strict=definition.settings.strict)
    kept = _kept_values(content, definition, previous) if previous else {}
    fresh = {name: value for name, value in content.data.items() if name not in kept}
    normalised = normalised_index_values(definition.schema, fresh, region=content.region)
    made = {
        field.name: {field.normaliser.id: normalised[field.name]}
        for field in definition.schema.indexed
        if field.name in normalised
    }
    return replace(content, index=kept | made)


def _kept_values(content: Content, definition: Definition, previous: Content) -> dict[str, Mapping[str, str]]:
    if content.region != previous.region:
        return {}
    return {
        field.name: {field.normaliser.id: normalised}
        for field, normalised in indexed_values(previous, definition)
        if content.data.get(field.name) == previous.data.get(field.name)
    }


def _check_no_mask_restored(current: Content, new: Content, definition: Definition) -> None:
    masked = restores_mask(current.data, new.data, definition.schema.masks)
    if masked:
        names = [name if name in definition.schema.declared else "*other" for name in masked]
        raise UnprocessableError(
            "This would write a mask over the value that it hides. Leave the field out of a PATCH, or read it with "
            "reveal=plain first.",
            code="masked-value",
            violations=[Violation(json_pointer([name]), "masked-value") for name in names],
        )


def _changed_names(old: dict[str, Any], new: dict[str, Any]) -> set[str]:
    # As JSON: Python alone would take true for 1, and such a change for none.
    return {
        name
        for name in old.keys() | new.keys()
        if name not in old or name not in new or dump_json(old[name]) != dump_json(new[name])
    }


def _future(expires_at: int | None, now: int) -> int | None:
    if expires_at is not None and expires_at <= now:
        raise UnprocessableError(
            "The expiry is in the past.", code="expires-at", violations=[Violation("/expires_at", "past")]
        )
    return expires_at


def _write_event(caller: Caller, action: Action, row: RecordRow, names: tuple[str, ...]) -> AuditEvent:
    return event_of(
        caller,
        action,
        Result.DONE,
        collection=row.collection,
        token=row.token,
        generation=row.generation,
        seal_epoch=row.seal_epoch,
        document_sha256=document_sha256(row),
        fields=names,
    )
