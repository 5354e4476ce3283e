"""Reading a request: bytes in, plain values out, each thing that is wrong named with its place."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from vault.api.turns import waiting
from vault.core.clock import from_text
from vault.core.documents import MAX_DOCUMENT_BYTES, parse_json
from vault.core.errors import (
    MalformedBodyError,
    TooLargeError,
    UnprocessableError,
    UnsupportedMediaTypeError,
    Violation,
)
from vault.core.ports import Page
from vault.core.reading import Lookup
from vault.core.record_rules import IfMatch
from vault.core.releases import View
from vault.core.tokens import WRITE_ID_BYTES

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
MAX_BODY_BYTES = MAX_DOCUMENT_BYTES + 65_536
"""Longest body: a document of the greatest size, and room for the members and white space around it."""
MAX_BULK_BODY_BYTES = 16 * 1_048_576
"""Longest body of a batch."""
MAX_DISCARDED_BYTES = 16 * MAX_DOCUMENT_BYTES
"""How much more of a body that is too long is read and thrown away, so that its sender can hear the answer."""
_CHUNK_BYTES = 65_536
MAX_LIMIT = 1_000
_MAX_GENERATION = 2**63 - 1
DEFAULT_LIMIT = 100
# No row id is over 2^63 - 1, and SQLite takes no greater number.
_CURSOR = re.compile(r"[0-7][0-9a-f]{15}", re.ASCII)
_ETAG = re.compile(rf"[0-9a-f]{{{2 * WRITE_ID_BYTES}}}", re.ASCII)


def read_body(content_type: str = JSON, *, max_bytes: int = MAX_BODY_BYTES) -> Any:
    """Read the request's body as JSON.

    Raises:
        UnsupportedMediaTypeError: another content type, or a content encoding.
        TooLargeError: over ``max_bytes``.
        MalformedBodyError: not JSON, with duplicate names, or cut off by the end of the connection.
    """
    if request.mimetype != content_type:
        raise UnsupportedMediaTypeError(f"Send this with Content-Type: {content_type}")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UnsupportedMediaTypeError("Send the body without a content encoding.")
    with waiting():
        body = _read_bytes(max_bytes)
    if body is None:
        raise too_large(max_bytes)
    if len(body) < (request.content_length or 0):
        # The connection ended early. White space could be all that is missing, but nobody hears the answer.
        detail = "The body is shorter than its Content-Length."
        raise MalformedBodyError(detail, violations=[Violation("", "unexpected-end", detail)])
    return parse_json(body)


def _read_bytes(max_bytes: int) -> bytes | None:
    """Return the body, or None if it is over ``max_bytes``."""
    request.max_content_length = max_bytes + 1
    try:
        body: bytes | None = request.get_data(cache=False)
    except RequestEntityTooLarge:
        body = None
    # Werkzeug cuts a body without Content-Length silently at its limit, which is one byte more than ours.
    if body is not None and len(body) <= max_bytes:
        return body
    # Somebody who is still sending when the connection ends gets a reset in place of the answer that says why.
    rest = request.environ["wsgi.input"]
    for _ in range(MAX_DISCARDED_BYTES // _CHUNK_BYTES):
        if not rest.read(_CHUNK_BYTES):
            break
    return None


def too_large(max_bytes: int = MAX_BODY_BYTES) -> TooLargeError:
    """The refusal of a body that is too long."""
    return TooLargeError(f"A body has at most {max_bytes:,} bytes here.")


def check_query(allowed: Collection[str]) -> None:
    """Refuse query parameters that the route does not know: a misspelt one would be silently without effect.

    Raises:
        UnprocessableError: ``query``; a parameter is unknown or stands twice.
    """
    names = list(request.args)
    wrong = [
        Violation(f"/{name}", "repeated")
        for name in names
        if name in allowed and len(request.args.getlist(name)) > 1
    ]
    if any(name not in allowed for name in names):
        known = ", ".join(sorted(allowed)) or "none"
        wrong.append(Violation("/*other", "unknown", f"query parameters of this route: {known}"))
    if wrong:
        raise UnprocessableError(
            "The query is not one that this route takes.", code="query", violations=wrong
        )


def read_members(body: Any, allowed: Collection[str], required: Collection[str] = ()) -> dict[str, Any]:
    """Return the body as an object with known members only.

    Raises:
        UnprocessableError: ``body-members``; not an object, a member is unknown or missing.
    """
    if not isinstance(body, dict):
        raise _members(Violation("", "type", "the body is a JSON object"))
    wrong = []
    if not body.keys() <= set(allowed):
        wrong.append(Violation("/*other", "unknown", "allowed: " + ", ".join(allowed)))
    wrong += [Violation(f"/{name}", "required") for name in required if name not in body]
    if wrong:
        raise _members(*wrong)
    return body


def _members(*violations: Violation) -> UnprocessableError:
    return UnprocessableError(
        "The body does not have the members it should.", code="body-members", violations=violations
    )


def text_member(body: dict[str, Any], name: str) -> str | None:
    """Read a member that is a string or null."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise _members(Violation(f"/{name}", "type", "a string"))
    return value


def flag_member(body: dict[str, Any], name: str) -> bool:
    """Read a member that is true or false, false if it is left out."""
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise _members(Violation(f"/{name}", "type", "true or false"))
    return value


def list_member(body: dict[str, Any], name: str, *, at_most: int) -> list[Any]:
    """Read a member that is a list of 1 to ``at_most`` things."""
    value = body.get(name)
    if not isinstance(value, list):
        raise _members(Violation(f"/{name}", "type", "a list"))
    if not 1 <= len(value) <= at_most:
        raise _members(Violation(f"/{name}", "range", f"1 to {at_most:,} items"))
    return value


def generation_member(body: dict[str, Any]) -> int | None:
    """Read a member that is a whole number from 1, or null."""
    value = body.get("generation")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _MAX_GENERATION:
        raise _members(Violation("/generation", "range", "a whole number from 1"))
    return value


def if_match_member(body: dict[str, Any]) -> IfMatch | None:
    """Read a member that is an ETag or ``*``, or null; a tag that is none of ours matches nothing."""
    text = text_member(body, "if_match")
    if text is None:
        return None
    write_id = _write_id(text[1:-1]) if text[:1] == text[-1:] == '"' else None
    return IfMatch(frozenset() if write_id is None else frozenset([write_id]), any_state=text == "*")


def time_member(body: dict[str, Any], name: str) -> int | None:
    """Read a member that is an RFC 3339 time or null, as UTC microseconds."""
    text = text_member(body, name)
    if text is None:
        return None
    try:
        return from_text(text)
    except ValueError:
        raise _members(Violation(f"/{name}", "time", "a time such as 2027-01-31T12:00:00Z")) from None


def limit_of(value: Any) -> int:
    """Read a page limit: 1 to :data:`MAX_LIMIT`, from a query text or a JSON member."""
    if value is None:
        return DEFAULT_LIMIT
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(MAX_LIMIT)):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_LIMIT:
        raise _members(Violation("/limit", "range", f"a whole number from 1 to {MAX_LIMIT:,}"))
    return value


def cursor_of(value: Any) -> int:
    """Read a cursor that an earlier page gave; None starts at the beginning."""
    if value is None:
        return 0
    if not isinstance(value, str) or _CURSOR.fullmatch(value) is None:
        raise _members(Violation("/cursor", "cursor", "the next_cursor of the page before"))
    return int(value, 16)


def cursor_text(row_id: int | None) -> str:
    """Write the cursor that continues after this row."""
    return (row_id or 0).to_bytes(8, "big").hex()


def names_of(value: Any) -> frozenset[str] | None:
    """Read a choice of fields: a comma-separated query text or a JSON list of strings; None for all."""
    if value is None:
        return None
    names = value.split(",") if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise _members(Violation("/fields", "type", "names of top-level fields"))
    return frozenset(names)


def is_plain(value: Any) -> bool:
    """Read ``reveal``: ``masked`` (the default) or ``plain``."""
    if value not in (None, "masked", "plain"):
        raise _members(Violation("/reveal", "enum", "masked or plain"))
    return bool(value == "plain")


def lookup_of(body: dict[str, Any]) -> Lookup:
    """Read a look-up, which stands alone or in a batch."""
    return Lookup(
        page=Page(limit_of(body.get("limit")), cursor_of(body.get("cursor"))),
        field=text_member(body, "field") or "",
        value=body["value"],
        region=text_member(body, "region"),
        view=View(is_plain(body.get("reveal")), names_of(body.get("fields"))),
    )


def etag_text(write_id: bytes) -> str:
    """Write a record's ETag."""
    return f'"{write_id.hex()}"'


def if_match() -> IfMatch | None:
    """Read ``If-Match``; a header whose tags are none of ours matches nothing."""
    header = request.headers.get("If-Match")
    if header is None:
        return None
    tags = request.if_match
    write_ids = (_write_id(tag) for tag in tags.as_set())
    return IfMatch(frozenset(item for item in write_ids if item is not None), any_state=tags.star_tag)


def _write_id(tag: str | None) -> bytes | None:
    # werkzeug reads the empty tag "" as None.
    return bytes.fromhex(tag) if tag is not None and _ETAG.fullmatch(tag) else None
