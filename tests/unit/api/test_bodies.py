from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st

from vault.api.bodies import (
    MAX_LIMIT,
    cursor_of,
    cursor_text,
    etag_text,
    if_match,
    is_plain,
    limit_of,
    names_of,
    read_body,
    read_members,
    time_member,
)
from vault.core.clock import to_text
from vault.core.errors import MalformedBodyError, UnprocessableError
from vault.core.record_rules import IfMatch

APP = Flask(__name__)
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
# What a header can hold when it comes from a WSGI server: latin-1 without line ends.
HEADER = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60)


def matched(header: str | None) -> IfMatch | None:
    headers = {} if header is None else {"If-Match": header}
    with APP.test_request_context(headers=headers):
        return if_match()


@given(st.binary(min_size=8, max_size=8))
def test_an_etag_matches_its_write(write_id: bytes) -> None:
    assert matched(etag_text(write_id)) == IfMatch(frozenset({write_id}))


@given(st.lists(st.binary(min_size=8, max_size=8), min_size=1, max_size=4, unique=True))
def test_several_etags_match_their_writes(write_ids: list[bytes]) -> None:
    header = ", ".join(etag_text(write_id) for write_id in write_ids)
    assert matched(header) == IfMatch(frozenset(write_ids))


@given(HEADER)
def test_an_arbitrary_if_match_is_read_without_an_error(header: str) -> None:
    match = matched(header)
    assert match is not None
    assert all(len(write_id) == 8 for write_id in match.write_ids)
    if "*" not in header:
        assert not match.any_state


@pytest.mark.parametrize(
    "header",
    ["", '""', '"x"', '"00"', '"000000000000000"', '"00000000000000000"', 'W/"zz"', ",", '"', '"\xff"'],
)
def test_tags_that_are_none_of_ours_match_nothing(header: str) -> None:
    assert matched(header) == IfMatch(frozenset())


def test_no_if_match_and_any() -> None:
    assert matched(None) is None
    assert matched("*") == IfMatch(frozenset(), any_state=True)


def refused_as(error: UnprocessableError, pointer: str, code: str) -> None:
    assert error.code == "body-members"
    assert [(each.pointer, each.code) for each in error.violations] == [(pointer, code)]


@given(st.integers(0, 2**63 - 1))
def test_a_cursor_survives_its_text(row_id: int) -> None:
    assert cursor_of(cursor_text(row_id)) == row_id


@given(JSON_VALUE)
def test_an_arbitrary_cursor_is_read_or_refused(value: Any) -> None:
    try:
        row_id = cursor_of(value)
    except UnprocessableError as error:
        refused_as(error, "/cursor", "cursor")
    else:
        assert 0 <= row_id < 2**63
        assert value is None or cursor_text(row_id) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        "0" * 15,
        "0" * 17,
        "f" * 16,
        "8" + "0" * 15,
        "00 00 00 00 00 0",
        "0x00000000000000",
        "+000000000000001",
        "000000000000000G",
        "00000000000000_1",
        "000000000000000\n",
        "\N{ARABIC-INDIC DIGIT ZERO}" * 16,
        "A" * 16,
        1,
        True,
        [],
        b"0" * 16,
    ],
)
def test_other_cursors_are_refused(value: Any) -> None:
    with pytest.raises(UnprocessableError) as refused:
        cursor_of(value)
    refused_as(refused.value, "/cursor", "cursor")


@given(JSON_VALUE)
def test_an_arbitrary_limit_is_read_or_refused(value: Any) -> None:
    try:
        limit = limit_of(value)
    except UnprocessableError as error:
        refused_as(error, "/limit", "range")
    else:
        assert 1 <= limit <= MAX_LIMIT


@pytest.mark.parametrize(
    ("value", "limit"), [(None, 100), (1, 1), ("1", 1), ("0001", 1), (1000, 1000), ("1000", 1000)]
)
def test_limits(value: Any, limit: int) -> None:
    assert limit_of(value) == limit


@pytest.mark.parametrize(
    "value", [0, -1, 1001, "0", "1001", "00001", "", "1.0", "٣", "²", True, 1.0, [], "-1"]
)
def test_other_limits_are_refused(value: Any) -> None:
    with pytest.raises(UnprocessableError) as refused:
        limit_of(value)
    refused_as(refused.value, "/limit", "range")


@given(JSON_VALUE)
def test_arbitrary_names_and_reveal_are_read_or_refused(value: Any) -> None:
    for read, pointer, code in ((names_of, "/fields", "type"), (is_plain, "/reveal", "enum")):
        try:
            read(value)
        except UnprocessableError as error:
            refused_as(error, pointer, code)


@given(st.text(max_size=40))
def test_an_arbitrary_time_is_read_or_refused(text: str) -> None:
    try:
        moment = time_member({"expires_at": text}, "expires_at")
    except UnprocessableError as error:
        refused_as(error, "/expires_at", "time")
    else:
        assert moment is not None
        assert to_text(moment)


@given(JSON_VALUE)
def test_an_arbitrary_body_is_read_or_refused_without_its_names(body: Any) -> None:
    try:
        assert read_members(body, ("data",), ("data",)) is body
    except UnprocessableError as error:
        refused = error
    else:
        assert body.keys() == {"data"}
        return
    assert refused.code == "body-members"
    assert {each.pointer for each in refused.violations} <= {"", "/*other", "/data"}


def test_a_body_that_the_connection_cut_off_is_refused_though_its_beginning_is_json() -> None:
    environ = {"wsgi.input": BytesIO(b'{"data":{}}'), "wsgi.input_terminated": True, "CONTENT_LENGTH": "500"}
    with (
        APP.test_request_context(method="POST", content_type="application/json", environ_overrides=environ),
        pytest.raises(MalformedBodyError) as refusal,
    ):
        read_body()

    assert refusal.value.violations[0].code == "unexpected-end"
