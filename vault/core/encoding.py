"""The one way in which several values become one byte string that cannot be read in two ways.

Frozen: associated data, key-derivation inputs and row MACs are made of it. To change anything, introduce a new
label (``.../v2``) at the call site and keep this function for the old one.
"""

from __future__ import annotations

import struct

Field = str | bytes | int

MAX_INTEGER = 2**64 - 1


def encode_fields(label: str, *fields: Field) -> bytes:
    """Encode a label and fields so that different inputs always give different bytes.

    Each element is a 4-byte big-endian length followed by that many bytes: text as UTF-8, an integer as 8 bytes
    unsigned big-endian, bytes as they are. The label comes first and fixes how many fields follow and of what
    type, so no type marks are needed.

    Args:
        label: a purpose such as ``strongroom/sealed-record/v1``.
        fields: text, bytes, or integers from 0 to 2^64 - 1.

    Raises:
        OverflowError: an integer is negative or too large.

    Security: without the length prefix ("ab", "c") and ("a", "bc") would authenticate the same.
    Source: docs/formats/encoding.md.
    """
    return b"".join(map(_element, (label, *fields)))


def _element(field: Field) -> bytes:
    if isinstance(field, str):
        content = field.encode()
    elif isinstance(field, int):
        content = field.to_bytes(8, "big")
    else:
        content = field
    return struct.pack(">I", len(content)) + content
