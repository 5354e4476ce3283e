from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.core.context import RecordContext, StoredKeyContext
from vault.core.encoding import encode_fields

TEXT = st.text(max_size=20)
FIELD = {str: TEXT, bytes: st.binary(max_size=20), int: st.integers(0, 2**64 - 1)}
KINDS = st.lists(st.sampled_from([str, bytes, int]), max_size=6)
COUNT = st.integers(0, 2**63 - 1)


@st.composite
def two_lists_of_one_label(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    # A label fixes how many fields follow, and of what type.
    kinds = draw(KINDS)
    return [draw(FIELD[kind]) for kind in kinds], [draw(FIELD[kind]) for kind in kinds]


@given(two_lists_of_one_label())
def test_two_lists_of_one_label_never_encode_alike(lists: tuple[list[Any], list[Any]]) -> None:
    first, second = lists
    assert (encode_fields("l", *first) == encode_fields("l", *second)) == (first == second)


@given(st.lists(TEXT, max_size=6), st.lists(TEXT, max_size=6))
def test_lists_of_texts_of_any_number_never_encode_alike(first: list[str], second: list[str]) -> None:
    assert (encode_fields(*["l", *first]) == encode_fields(*["l", *second])) == (first == second)


@given(st.text(alphabet="ab\x00", max_size=8), st.integers(0, 8), st.integers(0, 8))
def test_where_the_border_lies_counts(text: str, one: int, other: int) -> None:
    first, second = (text[:one], text[one:]), (text[:other], text[other:])
    assert (encode_fields("l", *first) == encode_fields("l", *second)) == (first == second)


@given(TEXT, TEXT, st.lists(TEXT, max_size=3))
def test_labels_never_share_bytes(label: str, other: str, fields: list[str]) -> None:
    assert (encode_fields(label, *fields) == encode_fields(other, *fields)) == (label == other)


@pytest.mark.parametrize("number", [-1, -(2**63), 2**64])
def test_integers_outside_64_bits_are_refused(number: int) -> None:
    with pytest.raises(OverflowError):
        encode_fields("l", number)


RECORD = st.builds(
    RecordContext,
    tenant=TEXT,
    collection=TEXT,
    token=st.binary(min_size=16, max_size=16),
    generation=COUNT,
    seal_epoch=COUNT,
    schema_version=COUNT,
)
STORED_KEY = st.builds(
    StoredKeyContext,
    purpose=st.sampled_from(["index", "mac", "signing"]),
    tenant=TEXT,
    keyring=TEXT,
    key_id=COUNT,
    version=COUNT,
)


@pytest.mark.parametrize("contexts", [RECORD, STORED_KEY], ids=["record", "stored key"])
def test_every_field_of_a_context_is_bound(contexts: st.SearchStrategy[Any]) -> None:
    @given(contexts, contexts)
    def check(context: Any, other: Any) -> None:
        assert (context.associated_data() == other.associated_data()) == (context == other)
        for field in dataclasses.fields(context):
            changed = dataclasses.replace(context, **{field.name: getattr(other, field.name)})
            assert (changed.associated_data() == context.associated_data()) == (changed == context)

    check()


@given(RECORD, STORED_KEY)
def test_contexts_of_two_kinds_never_meet(record: RecordContext, key: StoredKeyContext) -> None:
    assert record.associated_data() != key.associated_data()
