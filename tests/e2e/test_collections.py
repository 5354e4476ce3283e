"""Record types: defined, redefined, and refused."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api

SECRET = "hildegard"
TEXT = {"type": "string"}
INDEXED = {"type": "string", "x-index": "lookup"}


@pytest.fixture
def name() -> str:
    return f"c{uuid.uuid4().hex[:12]}"


def _schema(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties} | more


def test_users_comes_ready(api: Api) -> None:
    users = api.get("/v1/collections/users").gives(200)
    assert users["schema_version"] == 1
    assert users["keyring"] == "default"
    indexed = {name: field["x-index"] for name, field in users["schema"]["properties"].items()}
    assert indexed == {"email": "unique", "phone": "unique", "login": "unique"}
    listed = api.get("/v1/collections").gives(200)
    assert users in listed["items"]
    assert listed["next_cursor"] is None


def test_a_collection_is_what_its_definition_says(api: Api, name: str) -> None:
    path = f"/v1/collections/{name}"
    schema = _schema({"city": INDEXED, "price": {"maximum": 10**30}}, title="Ünïcødé")
    settings = {
        "strict": True, "history": 3, "purpose_required": True, "if_match_required": True, "default_region": "DE",
    }  # fmt: skip
    made = api.put(path, {"schema": schema, "settings": settings}).gives(201)
    assert (made["name"], made["schema_version"], made["schema"], made["settings"]) == (
        name,
        1,
        schema,
        settings,
    )
    assert api.get(path).gives(200) == made


def test_the_same_definition_again_changes_nothing(
    api: Api, name: str, unchanged: Callable[..., Any]
) -> None:
    body = {"schema": _schema({"city": INDEXED}), "settings": {"history": 1}}
    first = api.put(f"/v1/collections/{name}", body).gives(201)
    with unchanged():
        assert api.put(f"/v1/collections/{name}", body).gives(200) == first


def test_an_additive_change_leaves_stored_records_their_version(api: Api, name: str) -> None:
    path = f"/v1/collections/{name}"
    api.put(path, {"schema": _schema({"city": TEXT}, required=["city"])}).gives(201)
    old = api.create({"city": "Bonn", "age": "free"}, name)
    grown = _schema({"city": TEXT | {"x-mask": "none"}, "age": {"type": "integer"}})
    assert api.put(path, {"schema": grown, "settings": {"strict": True}}).gives(200)["schema_version"] == 2
    new = api.post(f"{path}/records", {"data": {"age": 5}}).gives(201)
    assert new["schema_version"] == 2
    shown = api.get(old).gives(200)
    assert (shown["schema_version"], shown["data"]) == (1, {"city": "Bonn", "age": "***"})
    # At its next write the old record is held to the new rules, and takes the new version.
    api.patch(old, {"city": "Köln"}).refuses(422, "schema-violation", ("/age", "type"))
    assert api.patch(old, {"age": 7}).gives(200)["schema_version"] == 2


BREAKING = {
    "type": (
        _schema({"city": {"type": "integer"}, "email": INDEXED}),
        ("/properties/city", "breaking-change"),
    ),
    "removed": (_schema({"email": INDEXED}), ("/properties/city", "breaking-change")),
    "required": (
        _schema({"city": TEXT, "email": INDEXED}, required=["city"]),
        ("/required", "breaking-change"),
    ),
    "rule": (
        _schema({"city": TEXT, "email": INDEXED}, minProperties=1),
        ("/minProperties", "breaking-change"),
    ),
    "index added": (
        _schema({"city": INDEXED, "email": INDEXED}),
        ("/properties/city/x-index", "index-change"),
    ),
    "index removed": (_schema({"city": TEXT, "email": TEXT}), ("/properties/email/x-index", "index-change")),
    "index of a new field": (
        _schema({"city": TEXT, "email": INDEXED, "new": INDEXED}),
        ("/properties/new/x-index", "index-change"),
    ),
    "index made unique": (
        _schema({"city": TEXT, "email": {"type": "string", "x-index": "unique"}}),
        ("/properties/email/x-index", "index-change"),
    ),
    "normaliser": (
        _schema({"city": TEXT, "email": INDEXED | {"x-normalize": "email"}}),
        ("/properties/email/x-normalize", "index-change"),
    ),
}


@pytest.mark.parametrize("change", BREAKING)
def test_a_change_that_stored_records_may_not_fit_waits_until_there_are_none(
    api: Api, name: str, unchanged: Callable[..., Any], change: str
) -> None:
    schema, error = BREAKING[change]
    path = f"/v1/collections/{name}"
    api.put(path, {"schema": _schema({"city": TEXT, "email": INDEXED})}).gives(201)
    record = api.create({"city": "Bonn", "email": "a@example.com"}, name)
    with unchanged("collection.define", "schema-conflict"):
        problem = api.put(path, {"schema": schema}).refuses(409, "schema-conflict")
    assert error in [(each["pointer"], each["code"]) for each in problem["errors"]]
    api.delete(record).gives(204)
    assert api.put(path, {"schema": schema}).gives(200)["schema_version"] == 2


INVALID: dict[str, tuple[Any, tuple[str, str]]] = {
    "true": (True, ("", "type")),
    "list": ([], ("", "type")),
    "text": (SECRET, ("", "type")),
    "null": (None, ("", "type")),
    "no object": ({}, ("/type", "object")),
    "meta-schema": (_schema({"a": {"type": "strin"}}), ("/properties/a/type", "meta-schema")),
    "properties is no object": (_schema([1]), ("/properties", "meta-schema")),  # type: ignore[arg-type]
    "http reference": (
        _schema({"a": {"$ref": "http://127.0.0.1:1/x"}}),
        ("/properties/a/$ref", "reference"),
    ),
    "file reference": (_schema({"a": {"$ref": "file:///etc/passwd"}}), ("/properties/a/$ref", "reference")),
    "relative reference": (_schema({"a": {"$ref": "other.json"}}), ("/properties/a/$ref", "reference")),
    "reference to nothing": (_schema({"a": {"$ref": "#/$defs/a"}}), ("/properties/a/$ref", "reference")),
    "meta-schema reference": (
        _schema({"a": {"$ref": "https://json-schema.org/draft/2020-12/schema"}}),
        ("/properties/a/$ref", "reference"),
    ),
    "recursion": (_schema({"a": {"$ref": "#"}}), ("", "recursive")),
    "$id": (_schema({}, **{"$id": "http://example.com/x"}), ("/$id", "keyword")),
    "dialect": (_schema({}, **{"$schema": "http://json-schema.org/draft-07/schema#"}), ("/$schema", "dialect")),
    "runaway pattern": (
        _schema({"a": {"pattern": "(a{1000}){1000}"}}),
        ("/properties/a/pattern", "pattern"),
    ),
    "look-ahead": (_schema({"a": {"pattern": "(?=a)b"}}), ("/properties/a/pattern", "pattern")),
    "look-behind": (_schema({"a": {"pattern": "(?<!a)b"}}), ("/properties/a/pattern", "pattern")),
    "back-reference": (_schema({"a": {"pattern": r"(a)\1"}}), ("/properties/a/pattern", "pattern")),
    "broken pattern": (_schema({"a": {"pattern": "("}}), ("/properties/a/pattern", "pattern")),
    "index on a number": (
        _schema({"a": {"type": "integer", "x-index": "lookup"}}),
        ("/properties/a/x-index", "index-type"),
    ),
    "index on a boolean": (
        _schema({"a": {"type": "boolean", "x-index": "lookup"}}),
        ("/properties/a/x-index", "index-type"),
    ),
    "index without a type": (_schema({"a": {"x-index": "lookup"}}), ("/properties/a/x-index", "index-type")),
    "index on an enum": (
        _schema({"a": INDEXED | {"enum": ["m", "f"]}}),
        ("/properties/a/x-index", "index-leak"),
    ),
    "index on a date": (_schema({"a": INDEXED | {"format": "date"}}), ("/properties/a/x-index", "index-leak")),
    "unknown index": (
        _schema({"a": {"type": "string", "x-index": "full"}}),
        ("/properties/a/x-index", "x-index"),
    ),
    "unknown normaliser": (
        _schema({"a": INDEXED | {"x-normalize": "name"}}),
        ("/properties/a/x-normalize", "x-normalize"),
    ),
    "normaliser without index": (
        _schema({"a": TEXT | {"x-normalize": "email"}}),
        ("/properties/a/x-normalize", "x-normalize"),
    ),
    "unknown mask": (_schema({"a": {"x-mask": "first4"}}), ("/properties/a/x-mask", "x-mask")),
    "nested mask": (
        _schema({"a": {"type": "object", "properties": {"b": {"x-mask": "none"}}}}),
        ("/properties/a/properties/b/x-mask", "keyword"),
    ),
    "mask in a definition": (_schema({}, **{"$defs": {"a": {"x-mask": "all"}}}), ("/$defs/a/x-mask", "keyword")),
    "misspelt keyword": (_schema({"a": {"x-masks": "all"}}), ("/properties/a/x-masks", "keyword")),
    "seventeen indexes": (_schema({f"a{n}": INDEXED for n in range(17)}), ("/properties", "indexed-fields")),
    "over 64 KiB": (_schema({}, **{"$comment": "x" * 65_536}), ("", "schema-size")),
    "too deep": (_schema({}, examples=json.loads("[" * 40 + "]" * 40)), ("", "depth")),
}  # fmt: skip


@pytest.mark.parametrize("case", INVALID)
def test_a_schema_that_cannot_be_used_is_refused(
    api: Api, name: str, unchanged: Callable[..., Any], case: str
) -> None:
    schema, error = INVALID[case]
    for collection in (name, "users"):
        with unchanged("collection.define", "invalid-schema"):
            problem = api.put(f"/v1/collections/{collection}", {"schema": schema}).refuses(
                422, "invalid-schema"
            )
        assert error in [(each["pointer"], each["code"]) for each in problem["errors"]], problem
    api.get(f"/v1/collections/{name}").refuses(404, "collection-not-found")


def test_a_schema_of_exactly_64_kib_is_taken(api: Api, name: str) -> None:
    size = len(json.dumps(_schema({}, **{"$comment": ""}), separators=(",", ":")))
    schema = _schema({}, **{"$comment": "x" * (65_536 - size)})
    api.put(f"/v1/collections/{name}", {"schema": schema}).gives(201)


def test_an_index_that_gives_something_away_needs_a_word_for_it(api: Api, name: str) -> None:
    field = INDEXED | {"enum": ["m", "f"], "x-index-leak": "accepted"}
    api.put(f"/v1/collections/{name}", {"schema": _schema({"sex": field})}).gives(201)
    api.create({"sex": "m"}, name)
    assert len(api.lookup("sex", "m", name)["items"]) == 1


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ([], ("/settings", "type")),
        (None, ("/settings", "type")),
        ({SECRET: 1}, ("/settings/*other", "unknown")),
        ({"strict": 1}, ("/settings/strict", "type")),
        ({"purpose_required": None}, ("/settings/purpose_required", "type")),
        ({"if_match_required": "yes"}, ("/settings/if_match_required", "type")),
        ({"history": -1}, ("/settings/history", "range")),
        ({"history": 1001}, ("/settings/history", "range")),
        ({"history": True}, ("/settings/history", "range")),
        ({"history": 1.5}, ("/settings/history", "range")),
        ({"default_region": "de"}, ("/settings/default_region", "region")),
        ({"default_region": ["DE"]}, ("/settings/default_region", "region")),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    api: Api, name: str, unchanged: Callable[..., Any], settings: Any, error: tuple[str, str]
) -> None:
    with unchanged("collection.define", "invalid-settings"):
        answer = api.put(f"/v1/collections/{name}", {"schema": _schema({}), "settings": settings})
    answer.refuses(422, "invalid-settings", error)
    assert SECRET not in answer.body.decode()


@pytest.mark.parametrize("history", [0, 1000])
def test_settings_at_their_limits_are_taken(api: Api, name: str, history: int) -> None:
    body = {"schema": _schema({}), "settings": {"history": history}}
    assert api.put(f"/v1/collections/{name}", body).gives(201)["settings"]["history"] == history


@pytest.mark.parametrize(
    "wrong", ["Hildegard", "1a", "_a", "a-b", "a.b", "a" * 64, "hildegard@example.com", "%C3%A4"]
)
def test_a_name_of_another_form_is_refused_and_not_logged(
    api: Api, server: Any, unchanged: Callable[..., Any], wrong: str
) -> None:
    with unchanged("collection.define", "collection-name"):
        answer = api.put(f"/v1/collections/{wrong}", {"schema": _schema({})})
    answer.refuses(422, "collection-name")
    assert SECRET not in answer.body.decode().lower()
    assert server.rows("SELECT count(*) FROM audit_entry WHERE lower(collection) LIKE '%hildegard%'") == [
        (0,)
    ]


def test_a_name_of_63_characters_is_taken(api: Api, name: str) -> None:
    api.put(f"/v1/collections/{name.ljust(63, '_')}", {"schema": _schema({})}).gives(201)
