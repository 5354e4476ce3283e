from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from vault.cli.moving.documents import json_shape
from vault.cli.moving.entries import Entry, NewRecord, Refusal, entry_of
from vault.cli.moving.rows import Broken, Row
from vault.core.documents import MAX_DOCUMENT_BYTES


def entry(
    line: Any, *, is_envelope: bool = False, region: str | None = None, key: str | None = None
) -> Entry:
    return entry_of(Row(7, 7, line), json_shape(is_envelope=is_envelope, region=region, key=key))


def test_a_line_is_the_document() -> None:
    found = entry('{"id":"K7","n":1180591620717411303424,"p":1.10}', region="DE", key="id")
    assert found.key == "K7"
    assert found.record == NewRecord({"id": "K7", "n": 2**70, "p": Decimal("1.10")}, None, "DE", 47)
    assert "K7" not in repr(found)


def test_an_envelope_is_opened() -> None:
    text = (
        '{"token":"t","generation":2,"created_at":"x","updated_at":"x","expires_at":"2030-01-01T02:00:00+02:00",'
        '"region":"FR","masked":[],"data":{"a":{"b":5}}}'
    )
    found = entry(text, is_envelope=True, region="DE", key="data.a.b")
    assert found == Entry(7, 7, "5", NewRecord({"a": {"b": 5}}, datetime(2030, 1, 1, tzinfo=UTC), "FR", 13))
    assert entry('{"data":{}}', is_envelope=True, region="DE").record == NewRecord({}, None, "DE", 2)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("[1]", "type"),
        ("5", "type"),
        ('{"a":1', "unexpected-end"),
        ('{"a":1}{', "trailing-data"),
        ('{"a":1,"a":2}', "duplicate-key"),
        ('{"a":NaN}', "invalid-number"),
        ('{"a":"\\ud800"}', "invalid-unicode"),
        ("x,y", "invalid-json"),
        ('{"a":' + "[" * 40 + "]" * 40 + "}", "depth"),
        ('{"' + "n" * 257 + '":1}', "name-length"),
        ('{"a":1e5000}', "number"),
        ('{"a":[' + "1," * 10_000 + "1]}", "members"),
        ('{"a":"' + "x" * MAX_DOCUMENT_BYTES + '"}', "too-large"),
        (Broken("too-large"), "too-large"),
    ],
)
def test_broken_lines_are_refused_with_a_rule(line: Any, rule: str) -> None:
    assert entry(line) == Entry(7, 7, refusals=(Refusal("", rule),))


@pytest.mark.parametrize(
    ("line", "pointer", "rule"),
    [
        ('{"email":"a"}', "/*other", "unknown-member"),
        ("{}", "/data", "required"),
        ('{"data":[]}', "/data", "type"),
        ('{"data":{},"region":5}', "/region", "type"),
        ('{"data":{},"expires_at":5}', "/expires_at", "type"),
        ('{"data":{},"expires_at":"soon"}', "/expires_at", "date-time"),
        ('{"data":{},"masked":["/email"]}', "", "masked-value"),
    ],
)
def test_broken_envelopes_are_refused_with_a_place(line: str, pointer: str, rule: str) -> None:
    assert entry(line, is_envelope=True).refusals == (Refusal(pointer, rule),)


@pytest.mark.parametrize("line", ['{"a":{"b":[]}}', '{"a":5}', "{}", '{"a":{"b":null}}'])
def test_a_key_that_is_not_there_is_empty(line: str) -> None:
    assert entry(line, key="a.b").key == ""
