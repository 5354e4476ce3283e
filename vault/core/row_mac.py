"""Row MACs: a row that was changed, moved or invented outside the vault does not pass.

Frozen format v1. The message is the canonical encoding of the label, the table's name, and for each column that
is not NULL, in the order of the column names: name, one type letter, value. A NULL column is left out, so an
upgrade can add a nullable column without signing every old row again.

Source: FIPS 198-1 (HMAC), docs/formats/row-mac.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from cryptography.hazmat.primitives import constant_time, hashes, hmac

from keyproviders.interface import SecretBytes
from vault.core.encoding import encode_fields
from vault.core.errors import IntegrityError
from vault.core.rows import Row

MAC_BYTES = 32
_LABEL = "strongroom/row-mac/v1"
_OUTSIDE_THE_MAC = frozenset({"id", "mac"})
_SIGN_OFFSET = 2**63
_LAYOUTS: dict[type[Row], _Layout] = {}

R = TypeVar("R", bound=Row)


class RowAuthenticator:
    """Signs rows with the current MAC key and checks rows against the key that they name.

    Args:
        keys: MAC keys by their global id, 32 bytes each.
        current: the id of the key that signs.
    """

    def __init__(self, keys: Mapping[int, SecretBytes], current: int) -> None:
        self._primed = {key_id: hmac.HMAC(key.reveal(), hashes.SHA256()) for key_id, key in keys.items()}
        self.current = current

    def sign(self, row: R) -> R:
        """Return the row with ``mac_key_id`` and ``mac`` filled in."""
        signed = dataclasses.replace(row, mac_key_id=self.current)
        # Nobody else has seen this copy yet; a second replace() would cost more than the MAC.
        object.__setattr__(signed, "mac", self._mac(signed))
        return signed

    def check(self, row: Row) -> None:
        """Raise unless the row is exactly as it was signed.

        Raises:
            IntegrityError: ``row-mac``; the row, its MAC or its key id was changed.
        """
        try:
            genuine = row.mac_key_id in self._primed and constant_time.bytes_eq(self._mac(row), row.mac)
        except (TypeError, UnicodeEncodeError, OverflowError):
            # SQLite columns take any type: text that is no UTF-8, or a float where an integer was written.
            genuine = False
        if not genuine:
            raise IntegrityError("row-mac", where=row.where())

    def _mac(self, row: Row) -> bytes:
        context = self._primed[row.mac_key_id].copy()
        context.update(row_message(row))
        return context.finalize()


def row_message(row: Row) -> bytes:
    """Encode a row for its MAC: table, then name, type and value of every column that is not NULL.

    The same bytes as ``encode_fields(label, table, name, type, value, ...)``, put together from prepared pieces:
    every request makes and checks several rows, and most of each message never changes.
    """
    layout = _layout(type(row))
    parts = [layout.start]
    for name, prefixes in layout.columns:
        value: object = getattr(row, name)
        if value is None:
            continue
        if isinstance(value, int):
            # Shifted so that a negative number, which only a tampered row can hold, encodes instead of failing.
            parts += (prefixes.integer, (value + _SIGN_OFFSET).to_bytes(8, "big"))
        elif isinstance(value, bytes):
            parts += (prefixes.octets, len(value).to_bytes(4, "big"), value)
        elif isinstance(value, str):
            encoded = value.encode()
            parts += (prefixes.text, len(encoded).to_bytes(4, "big"), encoded)
        else:
            raise TypeError(f"column {name}: rows hold integers, text, bytes and NULL")
    return b"".join(parts)


@dataclasses.dataclass(frozen=True, slots=True)
class _Prefixes:
    """A column's name and type letter, encoded, for each type that its value can have."""

    integer: bytes
    octets: bytes
    text: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class _Layout:
    start: bytes
    columns: tuple[tuple[str, _Prefixes], ...]


def _layout(row_type: type[Row]) -> _Layout:
    layout = _LAYOUTS.get(row_type)
    if layout is None:
        names = sorted(
            field.name for field in dataclasses.fields(row_type) if field.name not in _OUTSIDE_THE_MAC
        )
        columns = tuple((name, _prefixes(name)) for name in names)
        layout = _LAYOUTS[row_type] = _Layout(encode_fields(_LABEL, row_type.TABLE), columns)
    return layout


def _prefixes(name: str) -> _Prefixes:
    # encode_fields is a plain concatenation of its elements, so pieces can be encoded apart.
    length_of_integer = (8).to_bytes(4, "big")
    return _Prefixes(
        integer=encode_fields(name, "i") + length_of_integer,
        octets=encode_fields(name, "b"),
        text=encode_fields(name, "t"),
    )
