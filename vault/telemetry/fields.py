"""What a line of the log may hold: fields by name, and for each the form of its value.

A field that is not listed here stays out of the log, and so does a value of another form: a sentence, an address or a
name cannot get in by mistake. To add a field is to promise that no value which somebody sent can stand in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Value: TypeAlias = str | int | float | bool
MAX_TEXT = 2_000
"""Characters of the longest value."""

_ANY_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}", re.ASCII)
_EVENT = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)


def _form(pattern: str) -> Callable[[object], Value | None]:
    matches = re.compile(pattern, re.ASCII).fullmatch

    def checked(value: object) -> Value | None:
        if isinstance(value, str) and matches(value):
            return value
        return None

    return checked


def _number(value: object) -> Value | None:
    if isinstance(value, int | float):
        return value
    return None


def plain_text(value: object) -> Value | None:
    """Text that our own code puts together: kept to visible ASCII and :data:`MAX_TEXT` characters."""
    if not isinstance(value, str):
        return None
    if not (value.isascii() and value.isprintable()):
        value = "".join(each if " " <= each <= "~" else "?" for each in value)
    return value[:MAX_TEXT]


_WORD = _form(r"[A-Za-z0-9_.-]{1,64}")
_NAME = _form(r"[a-z][a-z0-9_]{0,62}")

FIELDS: Mapping[str, Callable[[object], Value | None]] = {
    # of a request
    "request_id": _form(r"[0-9a-f]{32}"),
    "route": _form(r"[A-Za-z0-9_.{}/-]{1,120}"),
    "method": _form(r"[A-Z]{3,7}|other"),
    "status": _number,
    "milliseconds": _number,
    "code": _WORD,
    "collection": _NAME,
    # of an error: types and places, never its message
    "error": _WORD,
    "finding": _WORD,
    "where": plain_text,
    "places": plain_text,
    # of the key door and the database
    "provider": _NAME,
    "operation": _WORD,
    "outcome": _WORD,
    "reason": _WORD,
    "keyring": _NAME,
    "version": _number,
    "count": _number,
    # of jobs and processes
    "job": _WORD,
    "rows": _number,
    "failed": _number,
    "seconds": _number,
    "pid": _number,
    "role": _WORD,
    "worker": _number,
    "workers": _number,
    "release": _WORD,
    "address": _form(r"[0-9a-fA-F.:\[\]]{2,60}"),
}
"""Every field beside ``time``, ``level``, ``logger``, ``event`` and ``dropped``, which every line can have."""


def allowed(fields: Mapping[str, Any]) -> tuple[dict[str, Value], list[str]]:
    """Part fields into those that may stand in the log, and the names of the others.

    A name that does not look like one of our own stands as ``*other``: it could be what somebody sent.
    """
    kept: dict[str, Value] = {}
    dropped: list[str] = []
    for name, value in fields.items():
        if value is None:
            continue
        form = FIELDS.get(name)
        checked = None if form is None else form(value)
        if checked is None:
            dropped.append(name if _ANY_NAME.fullmatch(name) else "*other")
        else:
            kept[name] = checked
    return kept, dropped


def is_event(text: object) -> bool:
    """Whether this is a name that our code gives an event, and no text that was put together."""
    return isinstance(text, str) and _EVENT.fullmatch(text) is not None
