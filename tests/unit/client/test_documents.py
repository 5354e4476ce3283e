from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.client.documents import decode, encode

_numbers = (
    st.integers()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.floats(allow_nan=False, allow_infinity=False)
)
_texts = st.text(st.characters(exclude_categories=["Cs"]))
_documents = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner) | st.dictionaries(_texts, inner),
    max_leaves=20,
)


def _as_decimals(value: Any) -> Any:
    match value:
        case bool() | None | str() | int():
            return value
        case float():
            return Decimal(repr(value))
        case Decimal():
            # A Decimal without fraction or exponent is printed as an integer, and read as one.
            return int(str(value)) if str(value).lstrip("-").isdigit() else value
        case list():
            return [_as_decimals(member) for member in value]
        case _:
            return {name: _as_decimals(member) for name, member in value.items()}


@given(_documents)
def test_what_is_written_is_read_again_with_every_digit(document: Any) -> None:
    assert decode(encode(document), exact_numbers=True) == _as_decimals(document)


@given(_documents)
def test_other_readers_agree(document: Any) -> None:
    json.loads(encode(document))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b'{"canary":1,"canary":2}',
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b'["\xff"]',
        b"[" * 100_000,
        b'{"canary"',
    ],
)
def test_what_is_no_json_is_refused_and_not_repeated(text: bytes) -> None:
    with pytest.raises(ValueError, match="it ") as caught:
        decode(text)
    assert "canary" not in repr(caught.value)
    assert caught.value.__suppress_context__


def _nested(depth: int) -> Any:
    document = []
    for _ in range(depth):
        document = [document]
    return document


@pytest.mark.parametrize(
    "document",
    [
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        Decimal("Infinity"),
        "\udc80",
        {"\ud800": 1},
        _nested(100_000),
    ],
)
def test_what_json_cannot_say_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match=r"JSON|surrogate|nested") as caught:
        encode([document])
    assert not isinstance(caught.value, UnicodeError)


def test_a_type_that_json_has_no_form_for_is_named_not_shown() -> None:
    with pytest.raises(TypeError, match="bytes") as caught:
        encode({"a": b"canary"})
    assert "canary" not in str(caught.value)


def test_personal_values_are_not_cached() -> None:
    first, second = (decode(b'["ada@example.com"]')[0] for _ in range(2))
    assert first is not second
