"""Documents that break a rule: each violation with its place, never a value nor a name nobody declared."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api

RECORDS = "/v1/collections/users/records"
SECRET = "Hildegard"

PROPERTIES: dict[str, Any] = {
    "name": {"type": "string", "maxLength": 10, "pattern": "^[A-Z]"},
    "age": {"type": "integer", "minimum": 18, "maximum": 150},
    "kind": {"enum": ["person", "company"]},
    "born": {"type": "string", "format": "date"},
    "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 3},
    "scores": {"type": "object", "additionalProperties": {"type": "integer"}},
    "address": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}

VIOLATIONS: dict[str, tuple[dict[str, Any], list[tuple[str, str]]]] = {
    "type": ({"name": [SECRET]}, [("/name", "type")]),
    "too long": ({"name": SECRET + " von Bingen"}, [("/name", "maxLength")]),
    "pattern": ({"name": SECRET.lower()}, [("/name", "pattern")]),
    "number too small": ({"name": "A", "age": 17}, [("/age", "minimum")]),
    "number too large": ({"name": "A", "age": 10**30}, [("/age", "maximum")]),
    "no integer": ({"name": "A", "age": 18.5}, [("/age", "type")]),
    "enum": ({"name": "A", "kind": SECRET}, [("/kind", "enum")]),
    "format": ({"name": "A", "born": f"2000-13-01{SECRET}"}, [("/born", "format")]),
    "in an array": ({"name": "A", "tags": ["a", {SECRET: 1}]}, [("/tags/1", "type")]),
    "not unique": ({"name": "A", "tags": [SECRET, SECRET]}, [("/tags", "uniqueItems")]),
    "too many": ({"name": "A", "tags": list("abcd")}, [("/tags", "maxItems")]),
    "missing": ({SECRET: 1}, [("/name", "required")]),
    "missing deep inside": ({"name": "A", "address": {}}, [("/address/city", "required")]),
    "undeclared": (
        {"name": "A", "address": {"city": "Bonn", SECRET: 1}},
        [("/address/*other", "additionalProperties")],
    ),
    "below an undeclared name": ({"name": "A", "scores": {SECRET: "x"}}, [("/scores/*other", "type")]),
    "several": (
        {"name": 5, "age": SECRET, "tags": 5},
        [("/age", "type"), ("/name", "type"), ("/tags", "type")],
    ),
}


@pytest.mark.parametrize("case", VIOLATIONS)
def test_a_violation_of_the_schema_names_place_and_keyword_only(
    api: Api, define: Callable[..., str], unchanged: Callable[..., Any], case: str
) -> None:
    data, expected = VIOLATIONS[case]
    name = define(PROPERTIES, required=("name",))
    path = api.create({"name": "A"}, name)
    for action, send in (
        ("record.create", lambda: api.post(f"/v1/collections/{name}/records", {"data": data})),
        ("record.update", lambda: api.put(path, {"data": data})),
    ):
        with unchanged(action, "schema-violation"):
            answer = send()
        problem = answer.refuses(422, "schema-violation")
        assert sorted((each["pointer"], each["code"]) for each in problem["errors"]) == expected
        assert SECRET.lower() not in answer.body.decode().lower()
        for hidden in ("von Bingen", str(10**30), "18.5", "2000-13"):
            assert hidden not in answer.body.decode()


def test_a_patch_must_leave_a_document_that_fits(
    api: Api, define: Callable[..., str], unchanged: Callable[..., Any]
) -> None:
    path = api.create({"name": "A"}, define(PROPERTIES, required=("name",)))
    with unchanged("record.update", "schema-violation"):
        api.patch(path, {"name": None}).refuses(422, "schema-violation", ("/name", "required"))
    assert api.plain(path) == {"name": "A"}


def test_a_strict_collection_takes_declared_fields_only(
    api: Api, define: Callable[..., str], unchanged: Callable[..., Any]
) -> None:
    name = define({"name": {"type": "string"}}, strict=True)
    with unchanged("record.create", "schema-violation"):
        answer = api.post(
            f"/v1/collections/{name}/records", {"data": {"name": "A", SECRET: 1, SECRET + "2": 2}}
        )
    answer.refuses(422, "schema-violation", ("/*other", "undeclared-field"))
    assert SECRET not in answer.body.decode()
    api.create({"name": "A"}, name)


@pytest.mark.parametrize(
    "value",
    ["Hildegard", "hildegard@", "@example.com", "a b@example.com", "Anna <hildegard@example.com>",
     '"hildegard x"@example.com', "hildegard@[127.0.0.1]", "hildegard@localhost", "hildegard@example.com\n.org", ""],
)  # fmt: skip
def test_an_email_that_no_mail_reaches_is_refused(
    api: Api, unchanged: Callable[..., Any], value: str
) -> None:
    with unchanged("record.create", "schema-violation"):
        answer = api.post(RECORDS, {"data": {"email": value}})
    answer.refuses(422, "schema-violation", ("/email", "x-normalize"))
    assert SECRET.lower() not in answer.body.decode().lower()


@pytest.mark.parametrize(
    "value", ["Hildegard", "+49", "+4930", "+999123456789", "030 1234567", "+49 30 12345678901234", ""]
)
def test_a_telephone_number_that_does_not_exist_is_refused(
    api: Api, unchanged: Callable[..., Any], value: str
) -> None:
    with unchanged("record.create", "schema-violation"):
        answer = api.post(RECORDS, {"data": {"phone": value}})
    answer.refuses(422, "schema-violation", ("/phone", "x-normalize"))
    assert not value or value not in answer.body.decode()


class TestDuplicates:
    """A unique value stands in one record at most; the answer names the field, never the value."""

    @pytest.fixture
    def people(self, api: Api, define: Callable[..., str]) -> tuple[str, str]:
        unique = {"type": "string", "x-index": "unique"}
        name = define(
            {"email": unique | {"x-normalize": "email"}, "login": unique | {"x-normalize": "login"}}
        )
        api.create({"email": "hildegard@example.com", "login": SECRET}, name)
        return name, api.create({"email": "b@example.com", "login": "b"}, name)

    @pytest.mark.parametrize(
        ("data", "fields"),
        [
            ({"email": "HILDEGARD@example.com", "login": "c"}, ["email"]),
            ({"email": "c@example.com", "login": " hildegard "}, ["login"]),
            ({"email": "hildegard@EXAMPLE.com", "login": SECRET.upper()}, ["email", "login"]),
            ({"login": SECRET}, ["login"]),
        ],
    )
    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
    def test_a_taken_value_is_refused(
        self,
        api: Api,
        people: tuple[str, str],
        unchanged: Callable[..., Any],
        data: dict[str, str],
        fields: list[str],
        method: str,
    ) -> None:
        name, path = people
        with unchanged("record.create" if method == "POST" else "record.update", "duplicate-value"):
            match method:
                case "POST":
                    answer = api.post(f"/v1/collections/{name}/records", {"data": data})
                case "PUT":
                    answer = api.put(path, {"data": data})
                case _:
                    answer = api.patch(path, data)
        problem = answer.refuses(409, "duplicate-value", *((f"/{field}", "duplicate") for field in fields))
        assert all((field in problem["detail"]) == (field in fields) for field in ("email", "login"))
        assert SECRET.lower() not in answer.body.decode().lower()
        assert api.plain(path) == {"email": "b@example.com", "login": "b"}

    def test_a_record_does_not_clash_with_itself(self, api: Api, people: tuple[str, str]) -> None:
        api.put(people[1], {"data": {"email": "B@example.com", "login": "b"}}).gives(200)

    def test_null_and_absent_clash_with_nothing(self, api: Api) -> None:
        for _ in range(2):
            api.create({"email": None})


class TestMasks:
    """A mask that comes back must not be written over the value that it hides."""

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    def test_a_masked_answer_sent_back_is_refused(
        self, api: Api, email: str, unchanged: Callable[..., Any], method: str
    ) -> None:
        path = api.create({"email": email, "name": "Anna", SECRET: "x"})
        masked = api.get(path).gives(200)["data"]
        with unchanged("record.update", "masked-value"):
            answer = api.put(path, {"data": masked}) if method == "PUT" else api.patch(path, masked)
        problem = answer.refuses(422, "masked-value")
        pointers = [each["pointer"] for each in problem["errors"]]
        assert sorted(pointers) == ["/*other", "/*other", "/email"]
        assert SECRET not in answer.body.decode()
        assert api.plain(path) == {"email": email, "name": "Anna", SECRET: "x"}

    def test_stars_that_were_stored_stay_a_value_and_new_ones_are_a_mask(self, api: Api) -> None:
        path = api.create({"name": "***"})
        api.patch(path, {"name": "***", "other": "****"}).gives(200)
        api.patch(path, {"new": "***"}).refuses(422, "masked-value", ("/*other", "masked-value"))


class TestLimits:
    """Just at a limit, and just over it."""

    @pytest.mark.parametrize(
        ("at", "over", "limit"),
        [
            pytest.param(31, 32, "depth", id="depth"),
            pytest.param(9_998, 9_999, "members", id="members"),
            pytest.param(1_000, 1_001, "number", id="digits"),
            pytest.param(256, 257, "name-length", id="name"),
        ],
    )
    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    def test_a_document_at_its_limit_is_taken_and_one_over_it_refused(
        self, api: Api, unchanged: Callable[..., Any], at: int, over: int, limit: str, method: str
    ) -> None:
        path = api.create({})
        build = {"depth": _deep, "members": _wide, "number": _long_number, "name-length": _long_name}[limit]
        with unchanged("record.create" if method == "POST" else "record.update", "document-limit"):
            _write(api, method, path, build(over)).refuses(422, "document-limit", ("", limit))
        assert _write(api, method, path, build(at)).status in {200, 201}


def _write(api: Api, method: str, path: str, document: str) -> Any:
    if method == "PATCH":
        return api.patch(path, body=document.encode())
    return api.post(RECORDS, body=f'{{"data": {document}}}'.encode())


def _deep(levels: int) -> str:
    return '{"a": ' + "[" * levels + "]" * levels + "}"


def _wide(elements: int) -> str:
    return '{"a": [' + ",".join(["1"] * elements) + '], "b": 1}'


def _long_number(digits: int) -> str:
    return '{"a": ' + "9" * digits + "}"


def _long_name(characters: int) -> str:
    return '{"' + "n" * characters + '": 1}'
