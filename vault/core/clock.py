"""Time as the vault keeps it: integer UTC microseconds."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

MICROSECONDS = 1_000_000
MINUTE = 60 * MICROSECONDS
_RFC_3339 = re.compile(
    r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})", re.ASCII | re.IGNORECASE
)
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
    # fromisoformat alone takes week dates, missing seconds and other forms of ISO 8601 that RFC 3339 does not have.
    if _RFC_3339.fullmatch(text) is None:
        raise ValueError("a time needs a date, a time and an offset, for example 2027-01-31T12:00:00Z")
    moment = datetime.fromisoformat(text.upper())
    try:
        return (moment.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
    except OverflowError as error:
        raise ValueError("the time is outside the years 1 to 9999") from error
