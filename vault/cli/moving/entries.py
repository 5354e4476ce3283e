"""Records to be: what a row of the file became, or why it became nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from vault.cli.moving.rows import Broken, Row
from vault.core.documents import MAX_DOCUMENT_BYTES, check_limits, dump_json
from vault.core.errors import UnprocessableError


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a line was not imported: a place and a rule, never a value.

    Attributes:
        pointer: into the document; empty for all of it.
        rule: the code of the rule.
    """

    pointer: str
    rule: str


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to be created.

    Attributes:
        size: bytes of ``data`` as JSON.
    """

    data: dict[str, Any] = field(repr=False)
    expires_at: datetime | None
    region: str | None
    size: int


@dataclass(frozen=True, slots=True)
class Entry:
    """What became of one row.

    Attributes:
        key: the customer's own key of the row, if it is asked for.
        record: None if it was refused here.
    """

    line: int
    last_line: int
    key: str = field(repr=False, default="")
    record: NewRecord | None = None
    refusals: tuple[Refusal, ...] = ()


class RefusedError(Exception):
    """A row that cannot be sent, and why."""

    def __init__(self, *refusals: Refusal) -> None:
        super().__init__("refused")
        self.refusals = refusals


Shape: TypeAlias = Callable[[Any], tuple[dict[str, Any], datetime | None, str | None, str]]
"""Makes data, expiry, region and the customer's key of a row's content; raises ``RefusedError``."""


def entry_of(row: Row, shape: Shape) -> Entry:
    """Make of a row what can be sent, or say why not; every rule that the server does not need to decide is here."""
    if isinstance(row.content, Broken):
        return Entry(row.line, row.last_line, refusals=(Refusal("", row.content.rule),))
    try:
        data, expires_at, region, key = shape(row.content)
        size = _checked_size(data)
    except RefusedError as refused:
        return Entry(row.line, row.last_line, refusals=refused.refusals)
    return Entry(row.line, row.last_line, key, NewRecord(data, expires_at, region, size))


def _checked_size(data: dict[str, Any]) -> int:
    try:
        check_limits(data)
        size = len(dump_json(data))
    except UnprocessableError as error:
        rule = error.violations[0].code if error.violations else error.code
        raise RefusedError(Refusal("", rule)) from None
    except TypeError:
        raise RefusedError(Refusal("", "invalid-unicode")) from None
    if size > MAX_DOCUMENT_BYTES:
        raise RefusedError(Refusal("", "too-large"))
    return size


def moment_of(text: str) -> datetime:
    """Return the time that a text names; UTC if it names no offset.

    Raises:
        RefusedError: it names none.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise RefusedError(Refusal("/expires_at", "date-time")) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
