"""Time as the vault keeps it: integer UTC microseconds."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

MICROSECONDS = 1_000_000
MINUTE = 60 * MICROSECONDS
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def system_clock() -> int:
    """Now, in integer UTC microseconds."""
    return time.time_ns() // 1000


def to_text(moment: int) -> str:
    """Write a moment as RFC 3339 in UTC with microseconds."""
    return (_EPOCH + timedelta(microseconds=moment)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_text(text: str) -> int:
    """Read an RFC 3339 moment; an offset is converted to UTC.

    Raises:
        ValueError: not RFC 3339, without an offset, or outside the years 1 to 9999.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or "T" not in text.upper():
        raise ValueError("a time needs a date, a time and an offset, for example 2027-01-31T12:00:00Z")
    try:
        return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except OverflowError as error:
        raise ValueError("the time is outside the years 1 to 9999") from error
