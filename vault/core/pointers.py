"""JSON pointers (RFC 6901), built from segments."""

from __future__ import annotations

from collections.abc import Iterable

OTHER_NAME = "*other"
"""Stands for a name that the schema does not declare: a name somebody sent can be personal, too."""


def json_pointer(segments: Iterable[str | int]) -> str:
    """Return the pointer that these segments make; the empty string, the whole document, for none.

    Args:
        segments: member names and array indexes, unescaped, outermost first.

    Source: RFC 6901 section 3.
    """
    return "".join("/" + str(segment).replace("~", "~0").replace("/", "~1") for segment in segments)
