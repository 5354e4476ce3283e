"""From what a caller sends to what may be sealed: every rule of a write that needs no key and no database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from vault.core.collections import Definition
from vault.core.content import Content
from vault.core.documents import Document, check_limits, dump_json, merge_patch
from vault.core.errors import UnprocessableError, Violation
from vault.core.masking import restores_mask
from vault.core.pointers import json_pointer
from vault.core.record_rules import check_region
from vault.core.record_seal import RecordDraft, indexed_values
from vault.core.rows import RecordRow
from vault.core.schema import normalised_index_values
from vault.core.tokens import mint_token


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
class Patch:
    """What a patch brings: a merge patch (RFC 7396) for the document."""

    changes: Any


Change = NewDocument | Patch


@dataclass(frozen=True, slots=True)
class Drafted:
    """A draft and what its entry says.

    Attributes:
        draft: ready to be sealed.
        names: the fields that are written, as the log may hold them.
    """

    draft: RecordDraft
    names: tuple[str, ...]


def draft_new(document: NewDocument, definition: Definition, now: int) -> Drafted:
    """Draft a new record.

    Raises:
        UnprocessableError: schema, normaliser, region or expiry.
        TooLargeError: the document is over its limit.
    """
    content = _validated(_content(document, definition), definition)
    draft = RecordDraft(
        token=mint_token(),
        generation=1,
        content=content,
        plaintext=content.to_bytes(),
        created_at=now,
        updated_at=now,
        expires_at=_future(document.expires_at, now),
    )
    return Drafted(draft, definition.loggable(content.data))


def draft_change(
    change: Change, previous: RecordRow, current: Content, definition: Definition, now: int
) -> Drafted:
    """Draft the next generation of a record.

    Raises:
        UnprocessableError: schema, normaliser, region, expiry, or a mask that would overwrite its value.
        TooLargeError: the document is over its limit.
    """
    if isinstance(change, Patch):
        check_limits(change.changes)
        new = Content(_object(merge_patch(current.data, change.changes)), current.region)
        expires_at = previous.expires_at
    else:
        new = _content(change, definition)
        expires_at = _future(change.expires_at, now)
    # Before the schema and its normalisers: a masked e-mail is no e-mail, and the caller should hear why.
    _check_no_mask_restored(current, new, definition)
    content = _validated(new, definition, previous=current)
    draft = RecordDraft(
        token=previous.token,
        generation=previous.generation + 1,
        content=content,
        plaintext=content.to_bytes(),
        created_at=previous.created_at,
        updated_at=now,
        expires_at=expires_at,
        revision=previous.revision + 1,
    )
    return Drafted(draft, definition.loggable(_changed_names(current.data, content.data)))


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
