"""Batches that cannot be read: each wrong operation is named with its place in it, and changes nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Answer, Api, Server

BULK = "/v1/collections/users/records/bulk"
SECRET = "Hildegard"
TOKEN = str(uuid.uuid4())
CREATE = {"op": "create", "data": {}}


def ask(api: Api, *operations: Any, **members: Any) -> Answer:
    return api.post(BULK, {"operations": list(operations)} | members)


MALFORMED = {
    "empty": (b"", "unexpected-end"),
    "cut short": (b'{"operations": [{"op": "create", "data": {"name": "Hildegard"}}, {"op', "unexpected-end"),
    "no JSON": (b"operations=Hildegard", "invalid-json"),
    "JSON lines": (b'{"op": "create"}\n{"op": "Hildegard"}\n', "trailing-data"),
    "duplicate name": (b'{"operations": [{"op": "create", "op": "Hildegard"}]}', "duplicate-key"),
    "NaN": (b'{"operations": [{"op": "create", "data": {"Hildegard": NaN}}]}', "invalid-number"),
    "5,000 digits": (
        b'{"operations": [{"op": "create", "data": {"Hildegard": ' + b"9" * 5000 + b"}}]}",
        "invalid-number",
    ),
    "UTF-8 cut": (b'{"operations": [{"op": "Hildegard\xc3"}]}', "invalid-unicode"),
    "byte order mark": (b'\xef\xbb\xbf{"operations": []}', "byte-order-mark"),
    "10,000 arrays": (b'{"operations": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nesting"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_json_that_cannot_be_read_is_refused(api: Api, unchanged: Callable[..., Any], case: str) -> None:
    body, code = MALFORMED[case]
    with unchanged("request", "malformed-body"):
        answer = api.post(BULK, body=body)
    answer.refuses(400, "malformed-body", ("", code))
    assert SECRET.encode() not in answer.body


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-ndjson", "application/jsonl"])
def test_another_content_type_is_refused(
    api: Api, unchanged: Callable[..., Any], content_type: str | None
) -> None:
    with unchanged("request", "unsupported-media-type"):
        api.post(BULK, body=b'{"operations": []}', content_type=content_type).refuses(
            415, "unsupported-media-type"
        )


def test_a_content_encoding_is_refused(api: Api, unchanged: Callable[..., Any]) -> None:
    with unchanged("request", "unsupported-media-type"):
        api.post(BULK, {"operations": [CREATE]}, headers={"Content-Encoding": "gzip"}).refuses(
            415, "unsupported-media-type"
        )


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (None, ("", "type")),
        ([CREATE], ("", "type")),
        ("Hildegard", ("", "type")),
        ({}, ("/operations", "required")),
        ({"operations": None}, ("/operations", "type")),
        ({"operations": {"0": CREATE}}, ("/operations", "type")),
        ({"operations": "Hildegard"}, ("/operations", "type")),
        ({"operations": []}, ("/operations", "range")),
        ({"operations": [None] * 1_001}, ("/operations", "range")),
        ({"operations": [CREATE], "atomic": 1}, ("/atomic", "type")),
        ({"operations": [CREATE], "atomic": None}, ("/atomic", "type")),
        ({"operations": [CREATE], "atomic": "true"}, ("/atomic", "type")),
        ({"operations": [CREATE], "dry_run": 0}, ("/dry_run", "type")),
        ({"operations": [CREATE], "dry_run": "Hildegard"}, ("/dry_run", "type")),
        ({"operations": [CREATE], "Hildegard": True}, ("/*other", "unknown")),
        ({"operations": [CREATE], "collection": "users"}, ("/*other", "unknown")),
    ],
)
def test_a_body_without_the_right_members_is_refused(
    api: Api, unchanged: Callable[..., Any], body: Any, error: tuple[str, str]
) -> None:
    with unchanged("request", "body-members"):
        answer = api.post(BULK, body=json.dumps(body).encode())
    answer.refuses(422, "body-members", error)
    assert SECRET.encode() not in answer.body


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_other_methods_find_no_record_of_that_name(
    api: Api, unchanged: Callable[..., Any], method: str
) -> None:
    document = None if method in {"GET", "DELETE"} else {"data": {}}
    content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    action = {"GET": "record.read", "DELETE": "record.erase"}.get(method, "record.update")
    with unchanged(action, "record-not-found"):
        api.request(method, BULK, document, content_type=content_type).refuses(404, "record-not-found")


OP = ("/op", "enum")
WRONG: dict[str, tuple[Any, int, str, list[tuple[str, str]]]] = {
    "null": (None, 422, "body-members", [OP]),
    "text": (SECRET, 422, "body-members", [OP]),
    "list": ([CREATE], 422, "body-members", [OP]),
    "empty": ({}, 422, "body-members", [OP]),
    "no op": ({"data": {}}, 422, "body-members", [OP]),
    "unknown op": ({"op": SECRET}, 422, "body-members", [OP]),
    "op in capitals": ({"op": "CREATE", "data": {}}, 422, "body-members", [OP]),
    "op null": ({"op": None}, 422, "body-members", [OP]),
    "op no text": ({"op": ["create"], "data": {}}, 422, "body-members", [OP]),
    "op object": ({"op": {"create": 1}}, 422, "body-members", [OP]),
    "create without data": ({"op": "create"}, 422, "body-members", [("/data", "required")]),
    "create with token": (
        {"op": "create", "data": {}, "token": TOKEN}, 422, "body-members", [("/*other", "unknown")],
    ),
    "create with if_match": (
        {"op": "create", "data": {}, "if_match": "*"}, 422, "body-members", [("/*other", "unknown")],
    ),
    "data no object": ({"op": "create", "data": [SECRET]}, 422, "schema-violation", [("", "type")]),
    "data null": ({"op": "create", "data": None}, 422, "schema-violation", [("", "type")]),
    "data against the schema": (
        {"op": "create", "data": {"email": [SECRET]}}, 422, "schema-violation", [("/email", "type")],
    ),
    "value that cannot be normalised": (
        {"op": "create", "data": {"email": SECRET}}, 422, "schema-violation", [("/email", "x-normalize")],
    ),
    "expiry no time": (
        {"op": "create", "data": {}, "expires_at": SECRET}, 422, "body-members", [("/expires_at", "time")],
    ),
    "expiry no text": (
        {"op": "create", "data": {}, "expires_at": 5}, 422, "body-members", [("/expires_at", "type")],
    ),
    "expiry past": (
        {"op": "create", "data": {}, "expires_at": "2001-01-01T00:00:00Z"}, 422, "expires-at",
        [("/expires_at", "past")],
    ),
    "region no text": (
        {"op": "create", "data": {}, "region": ["DE"]}, 422, "body-members", [("/region", "type")],
    ),
    "region unknown": ({"op": "create", "data": {}, "region": "XX"}, 422, "region", [("/region", "region")]),
    "get without token": ({"op": "get"}, 422, "body-members", [("/token", "required")]),
    "get with data": (
        {"op": "get", "token": TOKEN, SECRET: {}}, 422, "body-members", [("/*other", "unknown")],
    ),
    "token no UUID": ({"op": "get", "token": SECRET}, 404, "record-not-found", []),
    "token empty": ({"op": "get", "token": ""}, 404, "record-not-found", []),
    "token null": ({"op": "get", "token": None}, 404, "record-not-found", []),
    "token in capitals": ({"op": "get", "token": TOKEN.upper()}, 404, "record-not-found", []),
    "token no text": ({"op": "get", "token": 5}, 422, "body-members", [("/token", "type")]),
    "reveal": ({"op": "get", "token": TOKEN, "reveal": "all"}, 422, "body-members", [("/reveal", "enum")]),
    "reveal no text": (
        {"op": "get", "token": TOKEN, "reveal": {"plain": 1}}, 422, "body-members", [("/reveal", "enum")],
    ),
    "fields no names": (
        {"op": "get", "token": TOKEN, "fields": [5]}, 422, "body-members", [("/fields", "type")],
    ),
    "fields object": (
        {"op": "get", "token": TOKEN, "fields": {SECRET: 1}}, 422, "body-members", [("/fields", "type")],
    ),
    **{
        f"generation {value!r}": (
            {"op": "get", "token": TOKEN, "generation": value}, 422, "body-members", [("/generation", "range")],
        )
        for value in (0, -1, True, "1", 2**63, 1.5, [1])
    },
    "update of nothing": (
        {"op": "update", "data": {}}, 422, "body-members", [("/token", "required")],
    ),
    "update by nothing": ({"op": "update", "token": TOKEN}, 422, "body-members", [("/data", "required")]),
    "update by both": (
        {"op": "update", "token": TOKEN, "data": {}, "patch": {}}, 422, "body-members",
        [("/*other", "unknown")],
    ),
    "patch with expiry": (
        {"op": "update", "token": TOKEN, "patch": {}, "expires_at": None}, 422, "body-members",
        [("/*other", "unknown")],
    ),
    "if_match no text": (
        {"op": "update", "token": TOKEN, "patch": {}, "if_match": ["*"]}, 422, "body-members",
        [("/if_match", "type")],
    ),
    "erase of nothing": ({"op": "erase"}, 422, "body-members", [("/token", "required")]),
    "erase with data": (
        {"op": "erase", "token": TOKEN, "data": {}}, 422, "body-members", [("/*other", "unknown")],
    ),
    "look-up without value": (
        {"op": "lookup", "field": "email"}, 422, "body-members", [("/value", "required")],
    ),
    "look-up without field": ({"op": "lookup", "value": "x"}, 422, "body-members", [("/field", "required")]),
    "look-up by number": ({"op": "lookup", "field": 5, "value": "x"}, 422, "body-members", [("/field", "type")]),
    "look-up of a number": (
        {"op": "lookup", "field": "email", "value": 5}, 422, "lookup-value", [("/value", "type")],
    ),
    "look-up of no address": (
        {"op": "lookup", "field": "email", "value": SECRET}, 422, "lookup-value", [("/value", "invalid")],
    ),
    "look-up without index": (
        {"op": "lookup", "field": SECRET, "value": "x"}, 422, "not-indexed", [("/field", "not-indexed")],
    ),
    "look-up limit": (
        {"op": "lookup", "field": "email", "value": "x", "limit": 1_001}, 422, "body-members",
        [("/limit", "range")],
    ),
    "look-up cursor": (
        {"op": "lookup", "field": "email", "value": "x", "cursor": SECRET}, 422, "body-members",
        [("/cursor", "cursor")],
    ),
    "look-up region": (
        {"op": "lookup", "field": "phone", "value": "030 1", "region": "de"}, 422, "region",
        [("/region", "region")],
    ),
    "several": (
        {"op": "update", SECRET: 1}, 422, "body-members",
        [("/*other", "unknown"), ("/token", "required"), ("/data", "required")],
    ),
}  # fmt: skip

ACTIONS = {
    "create": "record.create",
    "get": "record.read",
    "update": "record.update",
    "erase": "record.erase",
    "lookup": "record.lookup",
}


def action_of(operation: Any) -> str:
    op = operation.get("op") if isinstance(operation, dict) else None
    return ACTIONS.get(op, "request") if isinstance(op, str) else "request"


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_operation_is_refused_alone(api: Api, unchanged: Callable[..., Any], case: str) -> None:
    operation, status, code, errors = WRONG[case]

    with unchanged(action_of(operation), code):
        answer = ask(api, operation)

    ((item,), failed) = answer.gives(200)["items"], answer.json["failed"]
    assert (failed, item["status"], item["problem"]["type"]) == (1, status, f"urn:strongroom:error:{code}")
    assert [(each["pointer"], each["code"]) for each in item["problem"].get("errors", [])] == errors
    assert SECRET.encode() not in answer.body
    with unchanged(action_of(operation), code):
        atomic = ask(api, operation, atomic=True)
    assert atomic.refuses(status, code, *errors)["index"] == 0
    assert SECRET.encode() not in atomic.body


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last"])
def test_a_wrong_operation_anywhere_leaves_its_neighbours_alone(api: Api, place: int) -> None:
    for case, (operation, status, code, _) in WRONG.items():
        operations: list[Any] = [{"op": "create", "data": {"n": n}} for n in range(2)]
        operations.insert(place, operation)
        answered = ask(api, *operations).gives(200)
        assert [item["status"] for item in answered["items"]] == [
            status if n == place else 201 for n in range(3)
        ], case
        assert answered["failed"] == 1
        assert answered["items"][place]["problem"]["type"] == f"urn:strongroom:error:{code}", case


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last"])
def test_a_wrong_operation_anywhere_stops_an_atomic_batch(
    api: Api, unchanged: Callable[..., Any], place: int
) -> None:
    for case, (operation, status, code, errors) in WRONG.items():
        operations: list[Any] = [{"op": "create", "data": {"n": n}} for n in range(2)]
        operations.insert(place, operation)
        with unchanged(action_of(operation), code):
            answer = ask(api, *operations, atomic=True)
        assert answer.refuses(status, code, *errors)["index"] == place, case


def test_a_batch_of_nothing_but_wrong_operations(api: Api, server: Server) -> None:
    (before,) = server.rows("SELECT (SELECT count(*) FROM record), (SELECT max(id) FROM audit_entry)")
    answered = ask(api, *[SECRET] * 1_000).gives(200)
    assert answered["failed"] == 1_000
    assert server.rows("SELECT count(*) FROM record") == [(before[0],)]
    written = server.rows(
        "SELECT reason, count(*) FROM audit_entry WHERE id > ? GROUP BY reason", (before[1],)
    )
    assert ("body-members", 1_000) in written


def test_a_wrong_operation_does_not_use_up_its_token(api: Api) -> None:
    token = api.create({"n": 1}).rpartition("/")[2]

    wrong, right = ask(
        api,
        {"op": "update", "token": token, "patch": {}, "if_match": 5},
        {"op": "update", "token": token, "patch": {"n": 2}},
    ).gives(200)["items"]

    assert (wrong["status"], right["status"]) == (422, 200)


def test_a_long_name_of_an_unknown_member_makes_no_long_answer(api: Api) -> None:
    operation = {"op": "create", "data": {}} | {f"{SECRET}{n}": n for n in range(2_000)}
    answer = ask(api, operation)
    (item,) = answer.gives(200)["items"]
    assert len(item["problem"]["errors"]) == 1
    assert len(answer.body) < 2_000


def test_deep_and_long_operations_are_refused_one_by_one(api: Api) -> None:
    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    operations: list[Any] = [
        {"op": "create", "data": {"d": deep}},
        {"op": "create", "data": {"n": 10**1_001}},
        {"op": "create", "data": {"x" * 257: 1}},
        {"op": "create", "data": {"d": [1] * 10_001}},
        {"op": deep},
        {"op": "create", "data": {"n": 1}},
    ]
    answered = ask(api, *operations).gives(200)["items"]
    codes = [item.get("problem", {}).get("type", "")[len("urn:strongroom:error:") :] for item in answered]
    assert codes == ["document-limit"] * 4 + ["body-members", ""]
    assert [item["problem"]["errors"][0]["code"] for item in answered[:4]] == [
        "depth",
        "number",
        "name-length",
        "members",
    ]
