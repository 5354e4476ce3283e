"""What may be sent: each argument is checked before it can end in a URL or a header, and so in somebody's log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID, uuid4

from vault.client.errors import Misconfigured

Reveal = Literal["masked", "plain"]

_PURPOSE = re.compile(r"[a-z0-9._:-]{1,64}", re.ASCII)
_COLLECTION = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_KEY = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)


def collection_path(name: str) -> str:
    """Return the path of a collection whose name has the right form."""
    # Checked here, as the token is: whatever is passed by mistake must not end in a URL, and so in logs.
    if not _COLLECTION.fullmatch(name):
        raise ValueError("a collection's name is made of a-z, 0-9 and _, and starts with a letter")
    return f"/v1/collections/{name}"


def records_path(collection: str) -> str:
    """Return the path of a collection's records."""
    return f"{collection_path(collection)}/records"


def record_path(collection: str, token: UUID | str) -> str:
    """Return the path of a record."""
    return f"{records_path(collection)}/{checked_token(token)}"


def checked_token(token: UUID | str) -> UUID:
    """Return the token as UUID; the error for another text does not repeat it."""
    if isinstance(token, UUID):
        return token
    try:
        return UUID(token)
    except ValueError:
        raise ValueError("a token is a UUID; to find a record by a value, use lookup") from None


def checked_purpose(purpose: str) -> str:
    """Return the purpose if it has the right form."""
    if not _PURPOSE.fullmatch(purpose):
        raise Misconfigured(
            "A purpose is made of a-z, 0-9, ., _, : and -, at most 64 of them.", code="purpose-malformed"
        )
    return purpose


def new_key() -> str:
    """Return an ``Idempotency-Key`` that no other request has."""
    return str(uuid4())


def checked_key(key: str) -> str:
    """Return the ``Idempotency-Key`` if it has the right form; a line break would start a header of its own."""
    if not _KEY.fullmatch(key):
        raise ValueError("an idempotency key is made of 1 to 128 visible ASCII characters, without spaces")
    return key


def names_of(fields: Iterable[str] | None) -> list[str] | None:
    """Return field names as a list; a single text is one name."""
    if fields is None:
        return None
    return [fields] if isinstance(fields, str) else [*fields]


def joined(fields: Iterable[str] | None) -> str | None:
    """Return field names as the query parameter ``fields`` wants them."""
    names = names_of(fields)
    if names is None:
        return None
    if any("," in name for name in names):
        raise ValueError("a field whose name holds a comma cannot be asked for by name")
    return ",".join(names)


def record_body(data: Mapping[str, Any], expires_at: datetime | None, region: str | None) -> dict[str, Any]:
    """Return the body of a create or replace."""
    return {"data": dict(data), "expires_at": rfc3339(expires_at)} | given(region=region)


def given(**members: Any) -> dict[str, Any]:
    """Return the members that are not None."""
    return {name: value for name, value in members.items() if value is not None}


def rfc3339(moment: datetime | None) -> str | None:
    """Return an aware time in UTC, as REST writes it."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError("a time must say its offset from UTC: datetime.now(UTC), not datetime.now()")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
