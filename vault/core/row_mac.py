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
from vault.core.encoding import Field, encode_fields
from vault.core.errors import IntegrityError
from vault.core.rows import Row

MAC_BYTES = 32
_LABEL = "strongroom/row-mac/v1"
_OUTSIDE_THE_MAC = frozenset({"id", "mac"})
_SIGN_OFFSET = 2**63
_COLUMNS: dict[type[Row], tuple[str, ...]] = {}

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
        named = dataclasses.replace(row, mac_key_id=self.current)
        return dataclasses.replace(named, mac=self._mac(named))

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
    """Encode a row for its MAC: table, then name, type and value of every column that is not NULL."""
    fields: list[Field] = [row.TABLE]
    for name in _authenticated_columns(type(row)):
        value: object = getattr(row, name)
        if value is not None:
            fields += _column(name, value)
    return encode_fields(_LABEL, *fields)


def _column(name: str, value: object) -> tuple[str, str, Field]:
    if isinstance(value, int):
        # Shifted so that a negative number, which only a tampered row can hold, encodes instead of failing.
        return name, "i", value + _SIGN_OFFSET
    if isinstance(value, bytes):
        return name, "b", value
    if isinstance(value, str):
        return name, "t", value
    raise TypeError(f"column {name}: rows hold integers, text, bytes and NULL")


def _authenticated_columns(row_type: type[Row]) -> tuple[str, ...]:
    columns = _COLUMNS.get(row_type)
    if columns is None:
        names = (field.name for field in dataclasses.fields(row_type))
        columns = _COLUMNS[row_type] = tuple(sorted(name for name in names if name not in _OUTSIDE_THE_MAC))
    return columns
