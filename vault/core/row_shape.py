"""Whether a row holds what its columns are for: SQLite columns take any type, whatever the table says."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from vault.core.errors import IntegrityError
from vault.core.rows import Row

_END_OF_INTEGERS = 2**63


def check_shape(row: Row) -> None:
    """Raise unless every column holds its type, so that a row can be used before its MAC is checked.

    The rows of the keys need this: the MAC of a MAC key's row can only be checked with the key that it holds.

    Raises:
        IntegrityError: ``row-shape``; a column holds another type, text that is no UTF-8, or an integer that no
            genuine row has.
    """
    hints = get_type_hints(type(row))
    if not all(_fits(getattr(row, field.name), hints[field.name]) for field in dataclasses.fields(row)):
        raise IntegrityError("row-shape", where=row.where())


def _fits(value: object, hint: Any) -> bool:
    if not isinstance(value, hint):
        return False
    if isinstance(value, int):
        return 0 <= value < _END_OF_INTEGERS
    return not isinstance(value, str) or _is_utf8(value)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
