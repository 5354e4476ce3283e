"""Record tokens: public references, never credentials."""

from __future__ import annotations

import os
import uuid

from vault.core.errors import RecordNotFoundError

TOKEN_BYTES = 16
WRITE_ID_BYTES = 8


def mint_token() -> bytes:
    """A random UUID (version 4, RFC 9562) from the operating system's generator, as 16 bytes."""
    return uuid.uuid4().bytes


def mint_write_id() -> bytes:
    """Eight random bytes that name one write; the ETag shows them, so an ETag never repeats after a restore."""
    return os.urandom(WRITE_ID_BYTES)


def parse_token(text: str) -> bytes:
    """Read a token as it stands in a URL.

    Raises:
        RecordNotFoundError: it is not a UUID in its canonical form, so no record can have it.
    """
    try:
        token = uuid.UUID(text)
    except ValueError:
        token = None
    if token is None or str(token) != text.lower():
        raise RecordNotFoundError("There is no record with this token in the collection.")
    return token.bytes


def token_text(token: bytes) -> str:
    """Write a token as its callers know it."""
    return str(uuid.UUID(bytes=token))
