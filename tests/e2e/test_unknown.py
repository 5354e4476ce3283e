"""What does not exist: collections, tokens, URLs, methods, pages."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api, Server

RECORDS = "/v1/collections/users/records"
TOKEN = "6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f"


@pytest.mark.parametrize("name", ["nothing", "hildegard@example.com", "%F0%9F%92%A9", "users%00"])
def test_an_unknown_collection_is_not_found_and_its_name_not_logged(
    api: Api, server: Server, unchanged: Callable[..., Any], name: str
) -> None:
    path = f"/v1/collections/{name}"
    calls: list[tuple[str, Callable[[], Any]]] = [
        ("collection.read", lambda: api.get(path)),
        ("record.create", lambda: api.post(f"{path}/records", {"data": {}})),
        ("record.list", lambda: api.get(f"{path}/records")),
        ("record.lookup", lambda: api.post(f"{path}/records/lookup", {"field": "email", "value": "x"})),
        ("record.read", lambda: api.get(f"{path}/records/{TOKEN}")),
        ("record.update", lambda: api.put(f"{path}/records/{TOKEN}", {"data": {}})),
        ("record.update", lambda: api.patch(f"{path}/records/{TOKEN}", {})),
        ("record.erase", lambda: api.delete(f"{path}/records/{TOKEN}")),
        ("erasure.read", lambda: api.get(f"{path}/records/{TOKEN}/erasure")),
    ]
    for action, ask in calls:
        with unchanged(action, "collection-not-found"):
            ask().refuses(404, "collection-not-found")
    # Refused for another reason before anybody looked for the collection.
    for action, code, ask in (
        ("record.create", "malformed-body", lambda: api.post(f"{path}/records", body=b"{")),
        ("record.read", "record-not-found", lambda: api.get(f"{path}/records/nonsense")),
        ("record.list", "body-members", lambda: api.get(f"{path}/records?limit=0")),
    ):
        with unchanged(action, code):
            ask()
    assert server.rows(
        "SELECT count(*) FROM audit_entry WHERE collection NOT IN (SELECT name FROM collection)"
    ) == [(0,)]


@pytest.mark.parametrize(
    "token",
    [
        TOKEN,
        "0",
        "nonsense",
        TOKEN.replace("-", ""),
        "{" + TOKEN + "}",
        "urn:uuid:" + TOKEN,
        TOKEN + "0",
        "%00",
    ],
)
def test_an_unknown_token_is_not_found_whatever_its_shape(
    api: Api, unchanged: Callable[..., Any], token: str
) -> None:
    path = f"{RECORDS}/{token}"
    bodies = []
    for action, ask in (
        ("record.read", lambda: api.get(path)),
        ("record.update", lambda: api.put(path, {"data": {}})),
        ("record.update", lambda: api.patch(path, {})),
        ("record.erase", lambda: api.delete(path)),
        ("erasure.read", lambda: api.get(f"{path}/erasure")),
    ):
        with unchanged(action, "record-not-found"):
            problem = ask().refuses(404, "record-not-found")
        bodies.append(problem["detail"])
    assert len(set(bodies)) == 1


def test_a_refusal_names_the_record_in_the_log(api: Api) -> None:
    token = str(uuid.uuid4())
    api.get(f"{RECORDS}/{token}").refuses(404, "record-not-found")
    (entry,) = api.audit(token=token)
    assert (entry["action"], entry["result"], entry["reason"]) == (
        "record.read",
        "refused",
        "record-not-found",
    )
    assert (entry["collection"], entry["principal"], entry["address"]) == ("users", "admin", "127.0.0.1")


def test_a_record_is_found_in_its_own_collection_only(
    api: Api, define: Callable[..., str], unchanged: Callable[..., Any]
) -> None:
    token = api.create({"n": 1}, define()).rpartition("/")[2]
    with unchanged("record.read", "record-not-found"):
        api.get(f"{RECORDS}/{token}").refuses(404, "record-not-found")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/",
        "/v1/nothing",
        "/v1/collections/",
        "/v1/collections/users/records/",
        f"{RECORDS}/{TOKEN}/x",
        "/v2/x",
    ],
)
def test_an_unknown_url_is_not_found(api: Api, unchanged: Callable[..., Any], path: str) -> None:
    with unchanged(*(("request", "not-found") if path.startswith("/v1/") else ())):
        api.get(path).refuses(404, "not-found")


@pytest.mark.parametrize(
    "path", ["/", "/nothing", "/v1", "/docs/assets/..%2fapp.py", "/docs/assets/nothing.js"]
)
def test_an_unknown_url_outside_the_api_needs_no_credential_to_be_unknown(
    make_api: Callable[..., Api], server: Server, path: str
) -> None:
    make_api(server.url).get(path).refuses(404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/collections/users", {"GET", "PUT"}),
        ("POST", f"{RECORDS}/{TOKEN}", {"DELETE", "GET", "PATCH", "PUT"}),
        ("PUT", RECORDS, {"GET", "POST"}),
        ("GET", "/v1/audit/search", {"POST"}),
        ("TRACE", RECORDS, {"GET", "POST"}),
        ("BREW", RECORDS, {"GET", "POST"}),
    ],
)
def test_an_unknown_method_is_refused_with_those_that_are_known(
    api: Api, unchanged: Callable[..., Any], method: str, path: str, allowed: set[str]
) -> None:
    with unchanged("request", "method-not-allowed"):
        answer = api.request(method, path)
    answer.refuses(405, "method-not-allowed")
    assert {each.strip() for each in answer.headers["Allow"].split(",")} - {"HEAD", "OPTIONS"} == allowed


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "1.0", "x", "", "+5", "%D9%A3", "99999999999999999999"])
def test_a_limit_outside_its_range_is_refused(api: Api, unchanged: Callable[..., Any], limit: str) -> None:
    with unchanged("record.list", "body-members"):
        api.get(f"{RECORDS}?limit={limit}").refuses(422, "body-members", ("/limit", "range"))


@pytest.mark.parametrize("limit", [1, 1000])
def test_a_limit_at_its_ends_is_taken(api: Api, limit: int) -> None:
    api.create({})
    assert 1 <= len(api.get(f"{RECORDS}?limit={limit}").gives(200)["items"]) <= limit
    assert len(api.audit(limit=limit)) <= limit


@pytest.mark.parametrize(
    "cursor", ["x", "", "0" * 15, "0" * 17, "g" * 16, "f" * 16, "8" + "0" * 15, "%F0%9F%92%A9"]
)
def test_a_cursor_that_no_page_gave_is_refused(api: Api, unchanged: Callable[..., Any], cursor: str) -> None:
    with unchanged("record.list", "body-members"):
        api.get(f"{RECORDS}?cursor={cursor}").refuses(422, "body-members", ("/cursor", "cursor"))
    with unchanged("audit.search", "body-members"):
        api.post("/v1/audit/search", {"cursor": cursor}).refuses(422, "body-members", ("/cursor", "cursor"))


@pytest.mark.parametrize(
    ("query", "error"),
    [("reveal=all", ("/reveal", "enum")), ("reveal=", ("/reveal", "enum")), ("fields=", ("/fields", "type"))],
)
def test_a_view_that_does_not_exist_is_refused(
    api: Api, unchanged: Callable[..., Any], query: str, error: tuple[str, str]
) -> None:
    path = api.create({"n": 1})
    with unchanged("record.read", "body-members"):
        api.get(f"{path}?{query}").refuses(422, "body-members", error)


@pytest.mark.parametrize("query", ["revael=plain", "Reveal=plain", "reveal=plain&x=1", "generations=1"])
def test_a_misspelt_parameter_is_no_reason_to_show_plain_values(api: Api, query: str) -> None:
    path = api.create({"name": "Anna"})
    answer = api.get(f"{path}?{query}")
    if "reveal=plain&" not in query:
        assert b"Anna" not in answer.body


@pytest.mark.parametrize("query", ["revael=plain", "reveal=plain&reveal=masked", "limit=1"])
def test_a_query_that_the_route_does_not_take_is_refused(api: Api, query: str) -> None:
    path = api.create({"name": "Ada"})
    pointer = ("/reveal", "repeated") if "&" in query else ("/*other", "unknown")
    problem = api.get(f"{path}?{query}").refuses(422, "query", pointer)
    assert "revael" not in str(problem)
    api.request("DELETE", f"{path}?force=1").refuses(422, "query", ("/*other", "unknown"))
    api.get(path).gives(200)
