"""The stored form of a data key that a transit engine wrapped, and the engine's own form of it.

The engine writes ``vault:vN:BASE64``; inside the base64 are nonce, ciphertext and tag. Stored is one byte that names
this form, then those bytes. N is not stored twice: it is the version that stands beside the blob. To open one by hand::

    printf 'vault:v%s:%s' VERSION "$(tail -c +2 blob | base64 -w0)"

Frozen: another form gets another first byte, and this one is read for ever.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from keyproviders.errors import (
    KeyProviderError,
    ProviderMisconfiguredError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import ItemResult, SecretBytes, WrappedKey
from keyproviders.software import LONGEST_BYTES, SHORTEST_BYTES

__all__ = [
    "ALGORITHM",
    "ciphertext_of",
    "plaintext_length",
    "read_plaintext",
    "read_wrapped",
    "rejected",
    "to_base64",
    "why_not_of_this_form",
]

ALGORITHM = "transit-aes256-gcm96"
"""How a data key is wrapped: by AES-256-GCM in the engine, without associated data."""

_FORM = b"\x01"
_NONCE_AND_TAG_BYTES = 12 + 16
_AROUND_BYTES = len(_FORM) + _NONCE_AND_TAG_BYTES
_BLOB_BYTES = range(_AROUND_BYTES + SHORTEST_BYTES, _AROUND_BYTES + LONGEST_BYTES + 1)
_CIPHERTEXT = re.compile(r"vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]+={0,2})", re.ASCII)


def why_not_of_this_form(wrapped: WrappedKey, *, provider: str) -> WrappedKeyRejectedError | None:
    """Reject what no engine wrapped, without asking one."""
    if wrapped.algorithm != ALGORITHM:
        return rejected(wrapped.key, wrapped.version, f"it is not wrapped by {ALGORITHM}", provider=provider)
    if not wrapped.blob.startswith(_FORM) or len(wrapped.blob) not in _BLOB_BYTES:
        return rejected(wrapped.key, wrapped.version, "it was changed", provider=provider)
    return None


def plaintext_length(wrapped: WrappedKey) -> int:
    """Return how long the key inside is."""
    return len(wrapped.blob) - _AROUND_BYTES


def ciphertext_of(wrapped: WrappedKey) -> str:
    """Write a wrapped key as the engine wants it, under the version that the wrapped key names."""
    return f"vault:v{wrapped.version}:{to_base64(wrapped.blob[len(_FORM) :])}"


def read_wrapped(
    result: Mapping[str, Any], *, key: str, version: int, length: int, provider: str
) -> ItemResult[WrappedKey]:
    """Take a wrapped key from the engine's answer, if it is one of the named version.

    Args:
        result: the item of the answer.
        key: that was asked to wrap.
        version: that was named.
        length: of the key inside.
        provider: to report errors under.
    """
    match = _CIPHERTEXT.fullmatch(str(result.get("ciphertext")))
    material = _from_base64(match[2]) if match else None
    if match is None or material is None or len(material) != length + _NONCE_AND_TAG_BYTES:
        return _nonsense("a wrap without a wrapped key", provider)
    if int(match[1]) != version or result.get("key_version", version) != version:
        # Stored under the named version it would never open again.
        return ProviderMisconfiguredError(
            f"the transit server of provider {provider!r} wrapped under another version of {key!r} than the one that "
            "was named; it has to know key_version for each item of a batch",
            provider=provider,
        )
    return WrappedKey(key, version, ALGORITHM, _FORM + material)


def read_plaintext(result: Mapping[str, Any], *, length: int, provider: str) -> ItemResult[SecretBytes]:
    """Take an opened key of this length from the engine's answer."""
    material = _from_base64(result.get("plaintext"))
    if material is None or len(material) != length:
        return _nonsense("an unwrap without the key", provider)
    return SecretBytes(material)


def rejected(key: str, version: int, reason: str, *, provider: str) -> WrappedKeyRejectedError:
    """Say that a wrapped key does not open."""
    return WrappedKeyRejectedError(
        f"a key wrapped by version {version} of {key!r} does not open: {reason}", provider=provider
    )


def to_base64(material: bytes) -> str:
    """Write bytes for JSON."""
    return base64.b64encode(material).decode()


def _from_base64(text: object) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except binascii.Error:
        return None


def _nonsense(what: str, provider: str) -> KeyProviderError:
    return ProviderUnavailableError(
        f"the transit server of provider {provider!r} answered {what}", provider=provider
    )
