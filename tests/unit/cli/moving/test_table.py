from __future__ import annotations

import csv
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.cli.moving.columns import Wishes, table_shape
from vault.cli.moving.table import Table
from vault.core.documents import dump_json

SCHEMA: dict[str, Any] = {
    "properties": {
        "email": {"type": "string"},
        "age": {"type": ["integer", "null"]},
        "paid": {"type": "boolean"},
        "address": {
            "properties": {"street": {"type": "string"}, "geo": {"properties": {"lat": {"type": "number"}}}}
        },
        "tags": {"type": "array"},
        "dotted.name": {"type": "string"},
        "self": {"$ref": "#"},
    }
}
METADATA = {"token": "t", "generation": 1, "created_at": "c", "updated_at": "u", "expires_at": None}
NAMES = st.sampled_from(
    [
        "email",
        "age",
        "paid",
        "address",
        "street",
        "geo",
        "lat",
        "tags",
        "dotted.name",
        "self",
        "",
        "x",
        "data",
    ]
)
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["", "5", "true", "[1]", "=1+1"])
    | st.decimals(allow_nan=False, allow_infinity=False, places=2)
)  # fmt: skip
DOCUMENTS = st.dictionaries(
    NAMES,
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=6,
    ),
    min_size=1,
    max_size=6,
)


def table(fields: list[str] | None = None, *, is_masked: bool = False, is_spreadsheet: bool = False) -> Table:
    return Table(SCHEMA, fields, is_masked=is_masked, is_spreadsheet=is_spreadsheet)


def cells(line: str) -> list[str]:
    (row,) = csv.reader([line], strict=True)
    return row


def row(made: Table, data: Any, **more: Any) -> dict[str, str]:
    return dict(zip(cells(made.heading()), cells(made.row(METADATA | more | {"data": data})), strict=True))


def test_declared_fields_have_columns_and_the_rest_has_one() -> None:
    data = {
        "email": "a@b.example", "age": None, "paid": True, "tags": [1], "nick": "Al", "dotted.name": "d",
        "address": {"street": "Main", "geo": {"lat": Decimal("1.50")}, "floor": 3}, "self": {"age": 5},
    }  # fmt: skip
    found = row(table(), data)
    assert {name: cell for name, cell in found.items() if cell} == {
        "token": "t", "generation": "1", "created_at": "c", "updated_at": "u", "data.email": "a@b.example",
        "data.paid": "true", "data.tags": "[1]", "data.address.street": "Main", "data.address.geo.lat": "1.50",
        "data.self.age": "5", "data": '{"age":null,"nick":"Al","dotted.name":"d","address":{"floor":3}}',
    }  # fmt: skip
    assert len([name for name in found if name.startswith("data.self")]) < 100


@given(data=DOCUMENTS)
def test_what_is_exported_is_what_is_imported(data: dict[str, Any]) -> None:
    made = table()
    wishes = Wishes(mapping={}, dropped=frozenset(), key=None, region=None, is_envelope=True)
    make = table_shape(cells(made.heading()), SCHEMA, is_strict=False, wishes=wishes)
    line = made.row(METADATA | {"data": data})
    (read,) = csv.reader(line.splitlines(keepends=True), strict=True)
    again, expires_at, _, _ = make(read)
    assert expires_at is None
    assert sorted_json(again) == sorted_json(data)


def sorted_json(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((name, sorted_json(member)) for name, member in value.items())
    if isinstance(value, list):
        return [sorted_json(member) for member in value]
    return dump_json(value)


def test_some_fields_only() -> None:
    found = row(table(["address", "nick"]), {"address": {"street": "Main"}, "nick": "Al"})
    assert [name for name in found if name.startswith("data.")] == [
        "data.address.street", "data.address.geo.lat", "data.nick",
    ]  # fmt: skip
    assert (found["data.nick"], found["data"]) == ("Al", "")


def test_masks_stand_where_their_values_would() -> None:
    found = row(
        table(is_masked=True), {"email": "a***", "age": "***", "tags": "***"}, masked=["/email", "/age"]
    )
    assert (found["masked"], found["data.email"], found["data.age"], found["data.tags"]) == (
        "/email /age", "a***", "***", "***",
    )  # fmt: skip
    assert found["data"] == ""


@pytest.mark.parametrize("value", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3", "\tx", "\rx"])
def test_formulas_are_counted_or_guarded(value: str) -> None:
    plain = table()
    assert row(plain, {"email": value})["data.email"] == value
    assert plain.formulas == 1
    guarded = table(is_spreadsheet=True)
    assert row(guarded, {"email": value})["data.email"] == "'" + value
    assert guarded.formulas == 0


@pytest.mark.parametrize("value", ["+49 30 1234", "-5.25", "a=b", "x"])
def test_what_is_no_formula_is_not_counted(value: str) -> None:
    plain = table()
    row(plain, {"email": value})
    assert plain.formulas == 0
