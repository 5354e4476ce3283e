"""The operations of a batch, as frozen values.

Personal values are left out of every ``repr``; a token is checked at once, because it is shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from dataclasses import field as attribute
from datetime import datetime
from typing import Any
from uuid import UUID

from vault.client.arguments import Reveal, checked_token, given, names_of, rfc3339


@dataclass(frozen=True, slots=True)
class Create:
    """Store a record.

    Attributes:
        data: the document.
        expires_at: an aware time from which on the record answers ``Gone``.
        region: the country (``DE``) that phone numbers without one belong to.
    """

    data: Mapping[str, Any] = attribute(repr=False)
    expires_at: datetime | None = None
    region: str | None = None

    def document(self) -> dict[str, Any]:
        """Return what is sent."""
        return {"op": "create", "data": dict(self.data)} | given(
            expires_at=rfc3339(self.expires_at), region=self.region
        )


@dataclass(frozen=True, slots=True)
class Get:
    """Read a record, masked unless ``reveal="plain"``.

    Attributes:
        fields: the names of the fields to return; all if None.
        generation: an earlier one, where the collection keeps history; the newest if None.
    """

    token: UUID | str
    reveal: Reveal = "masked"
    fields: Iterable[str] | None = None
    generation: int | None = None

    def __post_init__(self) -> None:
        checked_token(self.token)

    def document(self) -> dict[str, Any]:
        """Return what is sent."""
        return {"op": "get", "token": str(checked_token(self.token)), "reveal": self.reveal} | given(
            fields=names_of(self.fields), generation=self.generation
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Change a record: put new ``data`` in its place, or ``patch`` some fields of it; exactly one of both.

    Attributes:
        data: the whole new document; what ``expires_at`` does not renew is lifted.
        patch: an RFC 7396 merge patch, in which None removes a field.
        expires_at: with ``data`` only.
        region: with ``data`` only.
        if_match: the ``etag`` of the state that is to be changed.

    Raises:
        ValueError: both or neither, or what does not go with ``patch``.
    """

    token: UUID | str = attribute(kw_only=False)
    data: Mapping[str, Any] | None = attribute(default=None, repr=False)
    patch: Mapping[str, Any] | None = attribute(default=None, repr=False)
    expires_at: datetime | None = None
    region: str | None = None
    if_match: str | None = None

    def __post_init__(self) -> None:
        checked_token(self.token)
        if (self.data is None) == (self.patch is None):
            raise ValueError("an update has either data, the whole document, or patch, the changes to it")
        if self.patch is not None and (self.expires_at is not None or self.region is not None):
            raise ValueError("expires_at and region go with data; a patch leaves both as they are")

    def document(self) -> dict[str, Any]:
        """Return what is sent."""
        return {"op": "update", "token": str(checked_token(self.token))} | given(
            data=None if self.data is None else dict(self.data),
            patch=None if self.patch is None else dict(self.patch),
            expires_at=rfc3339(self.expires_at),
            region=self.region,
            if_match=self.if_match,
        )


@dataclass(frozen=True, slots=True)
class Erase:
    """Erase a record for good.

    Attributes:
        if_match: the ``etag`` of the state that is to be erased.
    """

    token: UUID | str
    if_match: str | None = None

    def __post_init__(self) -> None:
        checked_token(self.token)

    def document(self) -> dict[str, Any]:
        """Return what is sent."""
        return {"op": "erase", "token": str(checked_token(self.token))} | given(if_match=self.if_match)


@dataclass(frozen=True, slots=True)
class Lookup:
    """Find the records whose indexed field equals a value; none is no error.

    Attributes:
        value: what to look for.
        limit: the most records to return, 1 to 1,000; 100 if None.
        cursor: the ``next_cursor`` of an earlier page.
    """

    field: str
    value: str = attribute(repr=False)
    region: str | None = None
    reveal: Reveal = "masked"
    fields: Iterable[str] | None = None
    limit: int | None = None
    cursor: str | None = None

    def document(self) -> dict[str, Any]:
        """Return what is sent."""
        return {"op": "lookup", "field": self.field, "value": self.value, "reveal": self.reveal} | given(
            region=self.region, fields=names_of(self.fields), limit=self.limit, cursor=self.cursor
        )


Operation = Create | Get | Update | Erase | Lookup
READS = (Get, Lookup)
