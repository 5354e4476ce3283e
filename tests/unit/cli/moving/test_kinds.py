from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.cli.moving.kinds import Kind, cell_of, kind_of, subschema, value_of
from vault.core.documents import dump_json

SCHEMA = {
    "$defs": {"money": {"type": "number"}, "loop": {"$ref": "#/$defs/loop"}, "a/b": {"type": "boolean"}},
    "properties": {
        "address": {"type": "object", "properties": {"zip": {"type": "integer"}, "more": {"$ref": "#"}}},
        "price": {"$ref": "#/$defs/money"},
        "odd": {"$ref": "#/$defs/a~1b"},
        "loop": {"$ref": "#/$defs/loop"},
        "lost": {"$ref": "#/$defs/nothing"},
        "any": True,
    },
}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.decimals(allow_nan=False, allow_infinity=False, places=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (("address", "zip"), "integer"),
        (("address",), "json"),
        (("address", "more", "price"), "number"),
        (("price",), "number"),
        (("odd",), "boolean"),
        (("loop",), "string"),
        (("lost",), "string"),
        (("any",), "string"),
    ],
)
def test_the_schema_decides(path: tuple[str, ...], kind: Kind) -> None:
    declared = subschema(SCHEMA, path)
    assert declared is not None
    assert kind_of(declared) == kind


@pytest.mark.parametrize(
    "path", [("nothing",), ("address", "street"), ("any", "x"), ("lost", "x"), ("price", "x")]
)
def test_what_it_does_not_declare_is_told_apart(path: tuple[str, ...]) -> None:
    assert subschema(SCHEMA, path) is None


@pytest.mark.parametrize(
    ("types", "kind"),
    [
        (["string", "null"], "string"),
        (["integer", "null"], "integer"),
        (["integer", "string"], "string"),
        (["boolean"], "boolean"),
        (["null", "array"], "json"),
        ("null", "string"),
        (None, "string"),
    ],
)
def test_text_wins_where_it_is_allowed(types: Any, kind: Kind) -> None:
    assert kind_of({"type": types}) == kind
    assert kind_of(None) == "string"


@pytest.mark.parametrize(
    ("cell", "kind", "value"),
    [
        (" a ", "string", " a "),
        ("007", "string", "007"),
        (" 007 ", "integer", 7),
        ("-12", "integer", -12),
        ("1180591620717411303424", "integer", 2**70),
        ("1.10", "number", Decimal("1.10")),
        ("5", "number", 5),
        ("-1e3", "number", Decimal("-1e3")),
        ("TRUE", "boolean", True),
        ("no", "boolean", False),
        ("0", "boolean", False),
        ('["a", 1.50]', "json", ["a", Decimal("1.50")]),
    ],
)
def test_cells_become_values(cell: str, kind: Kind, value: Any) -> None:
    found = value_of(cell, kind)
    assert (type(found), found) == (type(value), value)


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("1.0", "integer"), ("1,000", "integer"), ("x", "integer"), ("٣", "integer"), ("1" * 1001, "integer"),
        ("1,5", "number"), ("NaN", "number"), ("Infinity", "number"), (".5", "number"), ("1e99999", "number"),
        ("ja", "boolean"), ("2", "boolean"), ("{", "json"), ('{"a":1,"a":2}', "json"),
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused_without_being_told(cell: str, kind: Kind) -> None:
    with pytest.raises(ValueError, match="not") as caught:
        value_of(cell, kind)
    assert cell not in str(caught.value) or len(cell) < 3


@given(value=VALUES, kind=st.sampled_from(["string", "integer", "number", "boolean", "json"]))
def test_a_cell_that_is_written_comes_back_as_it_was(value: Any, kind: Kind) -> None:
    cell = cell_of(value, kind)
    if cell is not None:
        assert dump_json(value_of(cell, kind)) == dump_json(value)
        assert cell


def test_each_kind_has_cells() -> None:
    assert cell_of("x", "string") == "x"
    assert cell_of("", "string") is None
    assert cell_of(5, "string") is None
    assert cell_of(5, "integer") == "5"
    assert cell_of("5", "integer") is None
    yes = True
    assert cell_of(yes, "integer") is None
    assert cell_of(1, "boolean") is None
    assert cell_of(Decimal("1.0"), "integer") is None
    assert cell_of(None, "string") is None
    assert cell_of({"a": []}, "json") == '{"a":[]}'
    assert cell_of(object(), "json") is None
