import copy
from decimal import Decimal
from typing import Any

import pytest

from vault.core.default_collections import USERS_SCHEMA
from vault.core.schema_change import breaking_changes

OLD: dict[str, Any] = {
    "type": "object",
    "required": ["a", "b"],
    "properties": {
        "a": {"type": "string", "x-index": "unique", "x-normalize": "email", "x-mask": "email"},
        "b": {"type": "object", "properties": {"title": {"type": "string"}, "n": {"minimum": 1}}},
        "c": {"enum": [1, {"title": "data"}]},
        "d": {"anyOf": [{"type": "string", "title": "one"}, {"items": {"description": "x"}}]},
    },
}


def changed(**properties: Any) -> dict[str, Any]:
    return {**OLD, "properties": {**OLD["properties"], **properties}}


def found(new: dict[str, Any], old: dict[str, Any] = OLD) -> list[tuple[str, str]]:
    before = copy.deepcopy((old, new))
    violations = breaking_changes(old, new)
    assert (old, new) == before
    return [(violation.pointer, violation.code) for violation in violations]


@pytest.mark.parametrize(
    "new",
    [
        OLD,
        changed(e={"type": "string", "x-mask": "none"}, f=True),
        {**OLD, "required": ["a"]},
        {**OLD, "required": ["b", "a"]},
        {key: value for key, value in OLD.items() if key != "required"},
        {**OLD, "title": "new", "description": "x", "$comment": "y", "examples": [1], "deprecated": True},
        {**OLD, "$schema": "https://json-schema.org/draft/2020-12/schema"},
        changed(a={"type": "string", "x-index": "unique", "x-normalize": "email"}),
        changed(c={"enum": [1, {"title": "data"}], "x-mask": "none", "default": 1, "readOnly": True}),
        changed(d={"anyOf": [{"type": "string"}, {"items": {"description": "y", "writeOnly": True}}]}),
        changed(
            b={
                "type": "object",
                "properties": {"title": {"type": "string"}, "n": {"minimum": Decimal("1.0")}},
            }
        ),
    ],
)
def test_additive(new: dict[str, Any]) -> None:
    assert found(new) == []


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({**OLD, "required": ["a", "b", "c"]}, [("/required", "breaking-change")]),
        ({**changed(e={}), "required": ["a", "b", "e"]}, [("/required", "breaking-change")]),
        ({**OLD, "additionalProperties": False}, [("/additionalProperties", "breaking-change")]),
        ({**OLD, "$defs": {"x": {}}}, [("/$defs", "breaking-change")]),
        (
            changed(b={"type": "object", "properties": {"n": {"minimum": 1}}}),
            [("/properties/b", "breaking-change")],
        ),
        (changed(c={"enum": [1, {"title": "other"}]}), [("/properties/c", "breaking-change")]),
        (changed(c={"enum": [True, {"title": "data"}]}), [("/properties/c", "breaking-change")]),
        (changed(c={}), [("/properties/c", "breaking-change")]),
        (changed(d={"anyOf": [{"type": "string"}]}), [("/properties/d", "breaking-change")]),
        (changed(d={"anyOf": [{"type": "null"}, {"items": {}}]}), [("/properties/d", "breaking-change")]),
        (changed(e={"type": "string", "x-index": "lookup"}), [("/properties/e/x-index", "index-change")]),
        (
            changed(a={"type": "string", "x-index": "lookup", "x-normalize": "email"}),
            [("/properties/a/x-index", "index-change")],
        ),
        (
            changed(
                a={"type": "string", "x-index": "unique", "x-normalize": "login", "x-index-leak": "accepted"}
            ),
            [("/properties/a/x-normalize", "index-change"), ("/properties/a/x-index-leak", "index-change")],
        ),
        (
            changed(a=True),
            [
                ("/properties/a/x-index", "index-change"),
                ("/properties/a/x-normalize", "index-change"),
                ("/properties/a", "breaking-change"),
            ],
        ),
    ],
)
def test_breaking(new: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert found(new) == expected


def test_removing_an_indexed_property_is_an_index_change() -> None:
    new = copy.deepcopy(USERS_SCHEMA)
    del new["properties"]["login"]
    assert found(new, USERS_SCHEMA) == [
        ("/properties/login/x-index", "index-change"),
        ("/properties/login/x-normalize", "index-change"),
        ("/properties/login", "breaking-change"),
    ]


def test_a_property_called_like_an_annotation_is_a_property() -> None:
    old = {"type": "object", "properties": {"title": {"type": "string"}}}
    assert found({"type": "object", "properties": {"title": {"type": "number"}}}, old) == [
        ("/properties/title", "breaking-change"),
    ]
