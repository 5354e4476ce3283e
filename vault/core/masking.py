"""Masks: what a reader sees who may not see plain values.

A mask shows at most what its kind names, and never how long the value is. A top-level field is masked as one; a field
that declares no mask is masked whole. Null stays null: whether a field has a value is not hidden.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from vault.core.documents import Document
from vault.core.pointers import json_pointer
from vault.core.schema import MaskKind

WHOLE_MASK = "***"
"""What stands for a value that is hidden whole."""

_LAST4_MIN_CHARACTERS = 8
_PHONE_MIN_DIGITS = 6
# A top-level domain. Anything else after the last dot is no domain, and may be what the mask should hide.
_TOP_LEVEL_DOMAIN = re.compile(r"[^\W\d_]{2,24}|xn--[a-z0-9-]{1,59}", re.IGNORECASE)
# What each kind of mask can look like; a value that hides nothing of these forms does not exist in practice.
_WHOLE_FORM = re.compile(re.escape(WHOLE_MASK))
_MASK_FORMS = {
    MaskKind.EMAIL: re.compile(r"(?:.\*{3}@.\*{3}\..+)|\*{3}", re.DOTALL),
    MaskKind.PHONE: re.compile(r"\*{3}(?:\d\d)?"),
    MaskKind.LAST4: re.compile(r"\*{3}(?:.{4})?", re.DOTALL),
}


def mask_value(value: Any, kind: MaskKind | None) -> Any:
    """Return what a masked answer shows of a value.

    Args:
        value: any JSON value. One that is not a string is masked whole, whatever its kind, except ``none``.
        kind: the field's ``x-mask``; None if it declares none, which masks whole.

    Returns:
        ``j***@e***.com`` for email, ``***67`` for phone, ``***4242`` for last4, ``***`` for all and whatever does
        not have the form that its kind expects; the value itself for ``none``; None for None.
    """
    if value is None or kind is MaskKind.NONE:
        return value
    if not isinstance(value, str):
        return WHOLE_MASK
    match kind:
        case MaskKind.EMAIL:
            return _mask_email(value.strip())
        case MaskKind.PHONE:
            return _mask_phone(value)
        case MaskKind.LAST4:
            return WHOLE_MASK + value[-4:] if len(value) >= _LAST4_MIN_CHARACTERS else WHOLE_MASK
        case _:
            return WHOLE_MASK


def _mask_email(value: str) -> str:
    local_part, _, domain = value.rpartition("@")
    name, _, top_level = domain.rpartition(".")
    if not local_part or not name or not _TOP_LEVEL_DOMAIN.fullmatch(top_level):
        return WHOLE_MASK
    return f"{local_part[0]}***@{name[0]}***.{top_level}"


def _mask_phone(value: str) -> str:
    digits = [character for character in value if character.isdecimal()]
    return WHOLE_MASK + "".join(digits[-2:]) if len(digits) >= _PHONE_MIN_DIGITS else WHOLE_MASK


def mask_document(
    document: Document,
    masks: Mapping[str, MaskKind],
    *,
    fields: Collection[str] | None = None,
) -> tuple[Document, list[str]]:
    """Return a masked copy of a document.

    Args:
        document: the opened record.
        masks: the collection's masks, by top-level field.
        fields: the top-level fields to show at all; None for every one.

    Returns:
        The copy, members in the document's order, and the JSON pointers of the fields that were masked.
    """
    shown = {name: value for name, value in document.items() if fields is None or name in fields}
    masked = [
        json_pointer((name,))
        for name, value in shown.items()
        if value is not None and masks.get(name) is not MaskKind.NONE
    ]
    return {name: mask_value(value, masks.get(name)) for name, value in shown.items()}, masked


def restores_mask(current: Document, new: Document, masks: Mapping[str, MaskKind]) -> list[str]:
    """Return the top-level fields in which a write would put a mask where a value belongs.

    That is what happens when somebody reads a record masked, changes one field and sends all of it back. The record
    may have changed meanwhile, so it is not enough to compare with the mask of today's value: whatever has the form of
    its field's mask, and is not the stored value itself, is taken for one.

    Args:
        current: the record as it is.
        new: the record as it would be.
        masks: the collection's masks.
    """
    return [
        name
        for name, value in new.items()
        if isinstance(value, str) and value != current.get(name) and _is_mask(value, masks.get(name))
    ]


def _is_mask(value: str, kind: MaskKind | None) -> bool:
    form = _MASK_FORMS.get(kind, _WHOLE_FORM) if kind else _WHOLE_FORM
    return kind is not MaskKind.NONE and form.fullmatch(value) is not None
