"""JSON as it must be for a vault: exact, and never silently another document than the one that was meant."""

from __future__ import annotations

import json
import re
import secrets
from decimal import Decimal
from typing import Any

import jiter


def decode(text: bytes, *, exact_numbers: bool = False) -> Any:
    """Read JSON with every integer exact, refusing duplicate keys and NaN.

    Args:
        text: UTF-8 JSON.
        exact_numbers: fractions become ``Decimal`` with every digit they were written with, instead of ``float``.

    Raises:
        ValueError: not JSON; the message holds a position, nothing of the text.

    Security: jiter's default keeps short strings in a cache for the life of the process, where personal values
        would outlive every use of them; only keys are cached here.
    """
    try:
        return jiter.from_json(
            text,
            allow_inf_nan=False,
            cache_mode="keys",
            catch_duplicate_keys=True,
            float_mode="decimal" if exact_numbers else "float",
        )
    except ValueError as error:
        # jiter quotes a duplicate key, and a key can be personal: only the kind and the place go on.
        kind = "it has a key twice" if "duplicate key" in str(error) else "it is not valid JSON"
        place = re.search(r"line \d+ column \d+", str(error))
        raise ValueError(f"{kind}, at {place[0]}" if place else kind) from None


def encode(document: Any) -> bytes:
    """Write JSON with every number exact: integers of any size, and ``Decimal`` digit by digit.

    Raises:
        ValueError: NaN, an infinity, half a surrogate pair, or nesting that is too deep.
        TypeError: something that JSON has no form for; names its type, not its value.
    """
    # json can only print a Decimal as a string. It goes through as one that starts with 128 fresh random bits,
    # which no text of the document can contain, and loses mark and quotes afterwards.
    mark = secrets.token_hex(16)
    marked = False

    def number(value: object) -> str:
        nonlocal marked
        if not isinstance(value, Decimal):
            raise TypeError(f"JSON has no form for a {type(value).__name__}")
        if not value.is_finite():
            raise ValueError("JSON has no form for NaN or an infinity")
        marked = True
        return f"{mark}{value}"

    try:
        text = json.dumps(
            document, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=number
        )
    except RecursionError:
        raise ValueError("the document is nested too deeply") from None
    if marked:
        text = re.sub(f'"{mark}([^"]*)"', r"\1", text)
    try:
        return text.encode()
    except UnicodeEncodeError:
        # The original error carries the whole document in its `object`.
        raise ValueError("a text holds half a surrogate pair, which UTF-8 cannot write") from None
