from decimal import Decimal
from typing import Any

import pytest

from vault.core.default_collections import USERS_SCHEMA
from vault.core.documents import dump_json, parse_json
from vault.core.errors import UnprocessableError, Violation
from vault.core.schema import (
    MAX_INDEXED_FIELDS,
    MAX_PATTERN_CHARACTERS,
    MAX_SCHEMA_BYTES,
    MaskKind,
    RecordSchema,
    normalised_index_values,
)
from vault.core.schema_rules import MAX_PATTERNS


def compiled(**properties: Any) -> RecordSchema:
    return RecordSchema.compile({"type": "object", "properties": properties})


def refusal(schema: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(UnprocessableError) as caught:
        RecordSchema.compile(schema)
    assert caught.value.code == "invalid-schema"
    assert caught.value.violations
    return [(violation.pointer, violation.code) for violation in caught.value.violations]


def field_refusal(field: Any, **more: Any) -> list[tuple[str, str]]:
    return refusal({"type": "object", "properties": {"a": field}, **more})


def violations(schema: RecordSchema, document: dict[str, Any], *, strict: bool = False) -> list[Violation]:
    with pytest.raises(UnprocessableError) as caught:
        schema.validate(document, strict=strict)
    assert caught.value.code == "schema-violation"
    return list(caught.value.violations)


def broken(schema: RecordSchema, document: dict[str, Any], *, strict: bool = False) -> list[tuple[str, str]]:
    return [(each.pointer, each.code) for each in violations(schema, document, strict=strict)]


def test_users_come_ready() -> None:
    users = RecordSchema.compile(USERS_SCHEMA)
    assert [(field.name, field.unique, field.normaliser.id) for field in users.indexed] == [
        ("email", True, "email/1"),
        ("phone", True, "phone/1"),
        ("login", True, "login/1"),
    ]
    assert users.masks == {"email": MaskKind.EMAIL, "phone": MaskKind.PHONE, "login": MaskKind.ALL}
    assert users.declared == {"email", "phone", "login"}
    users.validate({"email": "a@b.de", "phone": None, "name": {"first": "Anna"}}, strict=False)


def test_lookup_fields_and_default_normaliser() -> None:
    schema = compiled(
        b={"type": ["null", "string"], "x-index": "lookup", "x-mask": "none"},
        a={"type": "string", "x-index": "unique", "x-normalize": "login"},
        c=True,
    )
    assert [(field.name, field.unique, field.normaliser.id) for field in schema.indexed] == [
        ("b", False, "text/1"),
        ("a", True, "login/1"),
    ]
    assert schema.declared == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, [("/type", "object")]),
        ({"type": "array"}, [("/type", "object")]),
        ({"type": ["object", "null"]}, [("/type", "object")]),
        ({"type": "object", "$schema": "http://json-schema.org/draft-07/schema#"}, [("/$schema", "dialect")]),
        ({"type": "object", "$id": "https://example.com/x"}, [("/$id", "keyword")]),
        ({"type": "object", "x-mask": "all"}, [("/x-mask", "keyword")]),
        ({"type": "objekt"}, [("/type", "meta-schema")]),
        ({"type": "object", "required": "a"}, [("/required", "meta-schema")]),
        (
            {"type": "object", "properties": {"a": {"minLength": -1}}},
            [("/properties/a/minLength", "meta-schema")],
        ),
        (
            {"type": "object", "properties": {"a": {"minLength": Decimal("1.5")}}},
            [("/properties/a/minLength", "meta-schema")],
        ),
        ({"type": "object", "$vocabulary": {"https://example.com/v": True}}, [("/$vocabulary", "keyword")]),
        (
            {"type": "object", "patternProperties": {"^a": {"x-mask": "all"}}},
            [("/patternProperties/^a/x-mask", "keyword")],
        ),
        ({"type": "object", "$defs": {"d": {"x-index": "unique"}}}, [("/$defs/d/x-index", "keyword")]),
        ({"type": "object", "definitions": {"d": {"x-mask": "all"}}}, [("/definitions/d/x-mask", "keyword")]),
        (
            {"type": "object", "dependentSchemas": {"d": {"x-mask": "all"}}},
            [("/dependentSchemas/d/x-mask", "keyword")],
        ),
        (
            {"type": "object", "dependencies": {"d": {"x-mask": "all"}}},
            [("/dependencies/d/x-mask", "keyword")],
        ),
        (
            {"type": "object", "allOf": [{"properties": {"a": {"x-mask": "all"}}}]},
            [("/allOf/0/properties/a/x-mask", "keyword")],
        ),
        ({"type": "object", "properties": {"a b": {}}}, [("/properties/a b", "name")]),
        (
            {"type": "object", "properties": {"a": {"properties": {"x/~": {}}}}},
            [("/properties/a/properties/x~1~0", "name")],
        ),
        ({"type": "object", "properties": {"a" * 65: {}}}, [("/properties/" + "a" * 65, "name")]),
        ({"type": "object", "properties": {"": {}}}, [("/properties/", "name")]),
    ],
)
def test_refused_at_definition(schema: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert refusal(schema) == expected


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ({"x-mask": "stars"}, [("/properties/a/x-mask", "x-mask")]),
        ({"x-mask": True}, [("/properties/a/x-mask", "x-mask")]),
        ({"x-mask": ["all"]}, [("/properties/a/x-mask", "x-mask")]),
        ({"x-msak": "all"}, [("/properties/a/x-msak", "keyword")]),
        ({"properties": {"b": {"x-mask": "all"}}}, [("/properties/a/properties/b/x-mask", "keyword")]),
        ({"items": {"x-mask": "all"}}, [("/properties/a/items/x-mask", "keyword")]),
        ({"anyOf": [{}, {"x-mask": "all"}]}, [("/properties/a/anyOf/1/x-mask", "keyword")]),
        ({"not": {"$id": "x"}}, [("/properties/a/not/$id", "keyword")]),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, [("/properties/a/$schema", "keyword")]),
        ({"x-normalize": "email"}, [("/properties/a/x-normalize", "x-normalize")]),
        ({"x-index-leak": "accepted"}, [("/properties/a/x-index-leak", "x-index-leak")]),
        ({"x-index": "unique"}, [("/properties/a/x-index", "index-type")]),
        (
            {"type": "boolean", "x-index": "unique", "x-index-leak": "accepted"},
            [("/properties/a/x-index", "index-type")],
        ),
        ({"type": "integer", "x-index": "unique"}, [("/properties/a/x-index", "index-type")]),
        ({"type": ["string", "integer"], "x-index": "unique"}, [("/properties/a/x-index", "index-type")]),
        ({"type": "string", "x-index": "always"}, [("/properties/a/x-index", "x-index")]),
        ({"type": "string", "x-index": "lookup", "enum": ["a"]}, [("/properties/a/x-index", "index-leak")]),
        ({"type": "string", "x-index": "lookup", "const": "a"}, [("/properties/a/x-index", "index-leak")]),
        (
            {"type": "string", "x-index": "lookup", "format": "date"},
            [("/properties/a/x-index", "index-leak")],
        ),
        (
            {"type": "string", "x-index": "lookup", "format": "date-time"},
            [("/properties/a/x-index", "index-leak")],
        ),
        (
            {"type": "string", "x-index": "lookup", "format": "time"},
            [("/properties/a/x-index", "index-leak")],
        ),
        (
            {"type": "string", "x-index": "lookup", "allOf": [{"enum": ["a"]}]},
            [("/properties/a/x-index", "index-leak")],
        ),
        ({"$ref": "https://example.com/schema"}, [("/properties/a/$ref", "reference")]),
        ({"$ref": "file:///etc/passwd"}, [("/properties/a/$ref", "reference")]),
        ({"$ref": "other.json#/a"}, [("/properties/a/$ref", "reference")]),
        ({"$dynamicRef": "https://example.com/#x"}, [("/properties/a/$dynamicRef", "reference")]),
        ({"$ref": "#/nowhere"}, [("/properties/a/$ref", "reference")]),
        ({"$ref": "#nowhere"}, [("/properties/a/$ref", "reference")]),
        (
            {"$ref": "#/properties/a/default", "default": {"x-mask": "all"}},
            [("/properties/a/$ref", "reference")],
        ),
        ({"pattern": "(?=a)a"}, [("/properties/a/pattern", "pattern")]),
        ({"pattern": "(a)\\1"}, [("/properties/a/pattern", "pattern")]),
        ({"pattern": "["}, [("/properties/a/pattern", "pattern")]),
        ({"pattern": "a{1000}{1000}"}, [("/properties/a/pattern", "pattern")]),
        (
            {"pattern": "^\\p{L}{1,64}$"},
            [("/properties/a/pattern", "pattern")],
        ),  # 4 MiB; the library allows 10
        ({"patternProperties": {"(?<!b)a": True}}, [("/properties/a/patternProperties/(?<!b)a", "pattern")]),
    ],
)
def test_refused_in_a_field(field: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert field_refusal(field) == expected


def test_an_index_leak_that_is_referred_to_is_seen_and_can_be_accepted() -> None:
    field = {"type": "string", "x-index": "lookup", "$ref": "#/$defs/colour"}
    defs = {"colour": {"enum": ["red", "blue"]}}
    assert field_refusal(field, **{"$defs": defs}) == [("/properties/a/x-index", "index-leak")]
    RecordSchema.compile(
        {"type": "object", "properties": {"a": {**field, "x-index-leak": "accepted"}}, "$defs": defs}
    )


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({"a": {"$ref": "#"}}, {}),
        ({"a": {"$ref": "#/properties/b"}, "b": {"items": {"$ref": "#/properties/a"}}}, {}),
        ({"a": {"$ref": "#/$defs/a"}}, {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}),
        ({"a": {"$dynamicRef": "#loop"}}, {"$dynamicAnchor": "loop"}),
    ],
)
def test_recursive_schemas_are_refused(fields: dict[str, Any], more: dict[str, Any]) -> None:
    assert [code for _, code in refusal({"type": "object", "properties": fields, **more})] == ["recursive"]


def chain(length: int, width: int) -> dict[str, Any]:
    links = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{i + 1}"}] * width} for i in range(length)}
    return {"type": "object", "$defs": {**links, f"a{length}": True}, "$ref": "#/$defs/a0"}


@pytest.mark.parametrize(("length", "width"), [(12, 2), (40, 2), (80, 1), (500, 1)])
def test_references_that_multiply_or_pile_up_are_refused(length: int, width: int) -> None:
    assert {code for _, code in refusal(chain(length, width))} == {"expansion"}


def test_a_definition_counts_where_it_is_used() -> None:
    # 8,190 visits by way of the reference; counted again where it is defined it would be over the limit.
    RecordSchema.compile(chain(11, 2)).validate({}, strict=False)


def test_references_inside_the_document_work() -> None:
    schema = RecordSchema.compile(
        {
            "type": "object",
            "properties": {
                "home": {"$ref": "#/$defs/address~1x%20y"},
                "office": {"$ref": "#place", "x-mask": "none"},
            },
            "$defs": {"address/x y": {"$anchor": "place", "properties": {"city": {"type": "string"}}}},
        },
    )
    schema.validate({"home": {"city": "Berlin"}, "office": {"city": "Bonn"}}, strict=True)
    assert broken(schema, {"home": {"city": 1}, "office": {"city": 2}}) == [
        ("/home/city", "type"),
        ("/office/city", "type"),
    ]


def test_a_reference_to_a_field_with_our_keywords_is_refused() -> None:
    # The mask would not come along, and the reader of the schema would think that it does.
    fields = {"a": {"type": "string", "x-mask": "all"}, "b": {"$ref": "#/properties/a"}}
    assert refusal({"type": "object", "properties": fields}) == [("/properties/b/$ref", "reference")]


def test_an_anchor_stands_once() -> None:
    fields = {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}
    assert [code for _, code in refusal({"type": "object", "properties": fields})] == ["reference"]


def test_names_and_data_are_not_taken_for_keywords() -> None:
    schema = compiled(
        **{
            "x-mask": {"type": "string"},
            "x-other": {"x-mask": "none"},
            "enum": {"enum": [{"x-mask": 1, "$ref": "http://example.com", "$id": "x"}]},
            "a": {"const": {"x-foo": 1}, "default": {"x-index": 1}, "examples": [{"$vocabulary": {}}]},
            "d": {"dependentRequired": {"$id": ["x-mask"]}, "dependentSchemas": {"$ref": True}},
        }
    )
    assert schema.masks == {"x-other": MaskKind.NONE}
    assert schema.indexed == ()


def test_limits_of_a_schema() -> None:
    index = {"type": "string", "x-index": "lookup"}
    fields = {f"f{i}": index for i in range(MAX_INDEXED_FIELDS)}
    assert len(compiled(**fields).indexed) == MAX_INDEXED_FIELDS
    assert refusal({"type": "object", "properties": {**fields, "more": index}}) == [
        ("/properties", "indexed-fields")
    ]
    assert field_refusal({"description": "x" * MAX_SCHEMA_BYTES}) == [("", "schema-size")]
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"not": deep}
    assert field_refusal(deep) == [("", "depth")]
    patterns = {f"f{i}": {"pattern": "a"} for i in range(MAX_PATTERNS)}
    compiled(**patterns)
    assert refusal({"type": "object", "properties": {**patterns, "more": {"pattern": "a"}}}) == [
        ("", "patterns")
    ]


def test_the_longest_schema_counts_bytes() -> None:
    empty = {"type": "object", "description": ""}
    room = MAX_SCHEMA_BYTES - len(dump_json(empty))
    RecordSchema.compile({**empty, "description": "x" * room})
    assert refusal({**empty, "description": "ü" * room}) == [("", "schema-size")]


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "(.*a){20}$"])
def test_runaway_patterns_do_not_run_away(pattern: str) -> None:
    # A backtracking engine needs 2^4,000 steps for the first of these.
    schema = compiled(a={"type": "string", "pattern": pattern})
    assert broken(schema, {"a": "a" * 4_000 + "!"}) == [("/a", "pattern")]


def test_violations_name_pointer_and_keyword_and_nothing_that_was_sent() -> None:
    schema = RecordSchema.compile(
        {
            "type": "object",
            "required": ["name", "undeclared"],
            "properties": {
                "name": {"type": "string"},
                "age": {"type": "integer", "minimum": 18},
                "born": {"type": "string", "format": "date"},
                "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "uniqueItems": True},
                "home": {
                    "type": "object",
                    "properties": {"city": {"const": "Bonn"}},
                    "additionalProperties": False,
                },
                "map": {"additionalProperties": {"type": "string"}},
                "keys": {"propertyNames": {"maxLength": 2}},
                "rest": {"unevaluatedProperties": False},
                "never": False,
                "any": {"anyOf": [{"type": "string"}, {"enum": [5]}]},
                "zip": {"pattern": "^[0-9]{5}$"},
            },
        },
    )
    found = violations(
        schema,
        {
            "age": 17,
            "born": "geheim",
            "tags": ["abc", "geheim", "geheim"],
            "home": {"city": "geheim", "geheim": 1, "geheim2": 2},
            "map": {"geheim": 4711, "geheim2": 4711, "city": 4711},
            "keys": {"geheim": 1, "geheim2": 2},
            "rest": {"geheim": 1},
            "never": "geheim",
            "any": 4711,
            "zip": "geheim",
        },
    )
    assert {(each.pointer, each.code) for each in found} == {
        ("/name", "required"),
        ("/*other", "required"),
        ("/age", "minimum"),
        ("/born", "format"),
        ("/tags", "uniqueItems"),
        ("/tags/1", "maxLength"),
        ("/tags/2", "maxLength"),
        ("/home/city", "const"),
        ("/home/*other", "additionalProperties"),
        ("/map/*other", "type"),
        ("/map/city", "type"),
        ("/keys/*other", "propertyNames"),
        ("/rest/*other", "unevaluatedProperties"),
        ("/never", "not-allowed"),
        ("/any", "anyOf"),
        ("/zip", "pattern"),
    }
    assert len(found) == len(set(found))
    assert "geheim" not in repr(found)
    assert "4711" not in repr(found)
    assert Violation("/age", "minimum", "Must be at least 18.") in found


def test_at_most_fifty_violations() -> None:
    schema = compiled(a={"items": {"type": "string"}})
    assert len(violations(schema, {"a": [1] * 5000})) == 50
    assert len(violations(schema, {"a": [1] * 5000, "b": 1}, strict=True)) == 50


def test_strict_collections_refuse_undeclared_fields() -> None:
    schema = compiled(a={})
    schema.validate({"a": 1, "geheim": 2}, strict=False)
    schema.validate({"a": 1}, strict=True)
    schema.validate({}, strict=True)
    assert broken(schema, {"geheim": 2, "more": 3}, strict=True) == [("/*other", "undeclared-field")]


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (b'{"type":"integer"}', b"18446744073709551617", b"18446744073709551617.5"),
        (b'{"type":"integer"}', b"1.0", b"1.00000000000000000000000001"),
        (b'{"maximum":99999999999999999999}', b"99999999999999999999", b"100000000000000000000"),
        (b'{"maximum":99999999999999999999.5}', b"99999999999999999999.4", b"99999999999999999999.6"),
        (b'{"maximum":0.3}', b"0.3", b"0.30000000000000000000001"),
        (b'{"minimum":18446744073709551617}', b"18446744073709551617", b"18446744073709551616"),
        (b'{"exclusiveMinimum":0}', b"1e-400", b"0e-400"),
        (b'{"multipleOf":0.01}', b"1.11", b"1.111"),
        (b'{"multipleOf":3}', b"3000000000000000000000000000000", b"3000000000000000000000000000001"),
        (b'{"enum":[18446744073709551617]}', b"18446744073709551617", b"18446744073709551616"),
        (b'{"const":1.0}', b"1", b"1.0000000000000000000001"),
        (b'{"uniqueItems":true}', b"[18446744073709551617,18446744073709551616]", b"[1.0,1]"),
        (b'{"minLength":2.0}', b'"ab"', b'"a"'),
        (b'{"maximum":1e1000}', b"1e1000", b"1.1e1000"),
    ],
)
def test_numbers_are_exact_in_schema_and_document(rule: bytes, good: bytes, bad: bytes) -> None:
    schema = RecordSchema.compile(parse_json(b'{"type":"object","properties":{"a":' + rule + b"}}"))
    schema.validate(parse_json(b'{"a":' + good + b"}"), strict=True)
    assert [pointer for pointer, _ in broken(schema, parse_json(b'{"a":' + bad + b"}"))] == ["/a"]


def test_index_values_are_normalised_and_absent_ones_left_out() -> None:
    users = RecordSchema.compile(USERS_SCHEMA)
    document = {"email": " Anna@Example.com", "phone": "030 123456", "login": None, "name": "x"}
    assert normalised_index_values(users, document, region="DE") == {
        "email": "anna@example.com",
        "phone": "+4930123456",
    }
    assert document["email"] == " Anna@Example.com"
    assert normalised_index_values(users, {}, region=None) == {}


def test_all_fields_that_cannot_be_normalised_are_named_together() -> None:
    users = RecordSchema.compile(USERS_SCHEMA)
    with pytest.raises(UnprocessableError) as caught:
        normalised_index_values(users, {"email": "geheim", "phone": "0301234567", "login": "ok"}, region=None)
    assert caught.value.code == "schema-violation"
    assert [(each.pointer, each.code) for each in caught.value.violations] == [
        ("/email", "x-normalize"),
        ("/phone", "x-normalize"),
    ]
    assert "region" in caught.value.violations[1].detail
    assert "geheim" not in repr(caught.value.violations)


def test_a_pattern_is_not_tried_on_a_long_string() -> None:
    schema = RecordSchema.compile({"type": "object", "properties": {"a": {"pattern": "^[ab]*$"}}})
    schema.validate({"a": "ab" * (MAX_PATTERN_CHARACTERS // 2)}, strict=False)
    with pytest.raises(UnprocessableError) as refusal:
        schema.validate({"a": "a" * (MAX_PATTERN_CHARACTERS + 1)}, strict=False)
    assert [(each.pointer, each.code) for each in refusal.value.violations] == [("/a", "maxLength")]


def test_a_pattern_beside_other_rules_still_holds_with_them() -> None:
    rules = {"pattern": "^x", "allOf": [{"minLength": 2}], "if": {"type": "string"}, "then": {"maxLength": 3}}
    schema = RecordSchema.compile({"type": "object", "properties": {"a": rules}})
    for value, codes in (("y", ["minLength", "pattern"]), ("xyzz", ["maxLength"])):
        assert sorted(code for _, code in broken(schema, {"a": value})) == codes
    schema.validate({"a": "xy"}, strict=True)
    schema.validate({"a": 5}, strict=True)
    assert rules["pattern"] == "^x", "the stored schema stays as it was sent"
