"""The access log: who saw what, when and why, found by every criterion."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from vault.api.models import AuditPage

if TYPE_CHECKING:
    from conftest import Api, Server

SEARCH = "/v1/audit/search"
SECRET = "hildegard"


@pytest.fixture
def person(api: Api, define: Callable[..., str]) -> tuple[str, str]:
    """A collection of its own, and a record in it that was created, read twice, looked up, changed and erased."""
    email = {"type": "string", "x-index": "lookup", "x-normalize": "email"}
    name = define({"email": email, "name": {"type": "string"}})
    path = api.create({"email": "hildegard@example.com", "name": "Hildegard", "hildegards_field": 1}, name)
    why = {"Strongroom-Purpose": "support"}
    api.get(path, headers=why).gives(200)
    api.get(f"{path}?reveal=plain&fields=name,hildegards_field", headers=why).gives(200)
    api.lookup("email", "hildegard@example.com", name, reveal="plain")
    api.patch(path, {"name": "H.", "hildegards_field": None}).gives(200)
    api.put(path, {"data": {"name": 5}}).refuses(422, "schema-violation")
    return name, path


def test_every_access_leaves_an_entry_newest_first(api: Api, person: tuple[str, str]) -> None:
    name, path = person
    entries = api.audit(collection=name)
    what = [
        (e["action"], e["result"], e["reason"], e["reveal"], e["generation"], e["fields"]) for e in entries
    ]
    assert what == [
        ("record.update", "refused", "schema-violation", None, None, []),
        ("record.update", "done", None, None, 2, ["*other", "name"]),
        ("record.lookup", "released", None, "plain", 1, []),
        ("record.read", "released", None, "plain", 1, ["*other", "name"]),
        ("record.read", "released", None, "masked", 1, []),
        ("record.create", "done", None, None, 1, ["*other", "email", "name"]),
        ("collection.define", "done", None, None, None, []),
    ]
    assert [each["lookup_field"] for each in entries] == [None, None, "email", None, None, None, None]
    times = [datetime.fromisoformat(each["time"]) for each in entries]
    assert times == sorted(times, reverse=True)
    assert {each["principal"] for each in entries} == {"admin"}
    assert {each["address"] for each in entries} == {"127.0.0.1"}
    assert len({each["credential"] for each in entries}) == 1
    assert (
        len({each["id"] for each in entries}) == len({each["request_id"] for each in entries}) == len(entries)
    )
    assert [each["token"] for each in entries] == [path.rpartition("/")[2]] * 6 + [None]
    assert [each["purpose"] for each in entries] == [None, None, None, "support", "support", None, None]


def test_each_criterion_finds_what_fits_it_and_all_together_what_fits_all(
    api: Api, person: tuple[str, str]
) -> None:
    name, path = person
    token = path.rpartition("/")[2]
    assert len(api.audit(token=token)) == 6
    assert len(api.audit(token=token.upper())) == 6
    assert len(api.audit(collection=name, action="record.read")) == 2
    assert len(api.audit(collection=name, result="done")) == 3
    assert len(api.audit(collection=name, purpose="support")) == 2
    assert len(api.audit(collection=name, principal="admin")) == 7
    assert api.audit(collection=name, principal="nobody") == []
    assert api.audit(collection=name, action="record.erase") == []
    assert api.audit(token=token, collection="users") == []
    (entry,) = api.audit(
        principal="admin", token=token, action="record.update", result="refused", collection=name,
        since=(datetime.now(UTC) - timedelta(minutes=1)).isoformat(),
    )  # fmt: skip
    assert entry["reason"] == "schema-violation"


def test_since_is_included_and_until_is_not(api: Api, person: tuple[str, str]) -> None:
    times = [each["time"] for each in api.audit(collection=person[0])]
    assert len(set(times)) == len(times)
    assert [each["time"] for each in api.audit(collection=person[0], since=times[2])] == times[:3]
    assert [each["time"] for each in api.audit(collection=person[0], until=times[2])] == times[3:]
    elsewhere = datetime.fromisoformat(times[2]).astimezone(tz=None).isoformat()
    assert len(api.audit(collection=person[0], since=elsewhere, until=times[1])) == 1


def test_pages_hold_every_entry_once_though_searching_adds_more(api: Api, person: tuple[str, str]) -> None:
    whole = [each["id"] for each in api.audit(collection=person[0])]
    seen: list[str] = []
    cursor = None
    while True:
        page = api.post(SEARCH, {"collection": person[0], "limit": 3, "cursor": cursor}).gives(200)
        seen += [each["id"] for each in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        assert len(page["items"]) == 3
    assert seen == whole


def test_a_person_is_found_by_a_value_that_is_stored_nowhere(
    api: Api, server: Server, person: tuple[str, str]
) -> None:
    name, path = person
    someone = {"collection": name, "field": "email", "value": " HILDEGARD@example.com "}
    found = api.audit(person=someone)
    assert found == api.audit(token=path.rpartition("/")[2])
    assert api.audit(person=someone, action="record.create")[0]["action"] == "record.create"
    assert api.audit(person=someone, token="6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f") == []
    assert api.audit(person=someone | {"value": "nobody@example.com"}) == []
    (search,) = api.audit(action="audit.search", limit=1)
    assert (search["collection"], search["lookup_field"], search["token"]) == (name, "email", None)
    assert server.files_with(uuid.UUID(path.rpartition("/")[2]).bytes) != []
    assert server.files_with(SECRET.encode(), in_capitals_too=True) == []


def test_a_search_leaves_an_entry_itself(api: Api, unchanged: Callable[..., Any]) -> None:
    with unchanged("audit.search", None, "done"):
        api.audit(action="vault.init")


@pytest.mark.parametrize(
    ("body", "status", "code", "error"),
    [
        ({SECRET: 1}, 422, "body-members", ("/*other", "unknown")),
        ({"principal": 5}, 422, "body-members", ("/principal", "type")),
        ({"action": SECRET}, 422, "body-members", ("/action", "enum")),
        ({"result": "Released"}, 422, "body-members", ("/result", "enum")),
        ({"token": SECRET}, 422, "body-members", ("/token", "uuid")),
        ({"since": SECRET}, 422, "body-members", ("/since", "time")),
        ({"until": "2027-01-01"}, 422, "body-members", ("/until", "time")),
        ({"limit": 0}, 422, "body-members", ("/limit", "range")),
        ({"limit": 1001}, 422, "body-members", ("/limit", "range")),
        ({"cursor": SECRET}, 422, "body-members", ("/cursor", "cursor")),
        ({"person": SECRET}, 422, "body-members", ("", "type")),
        ({"person": {"collection": "users"}}, 422, "body-members", None),
        ({"person": {"collection": "users", "field": SECRET, "value": "x"}}, 422, "not-indexed", ("/field", "not-indexed")),
        ({"person": {"collection": "users", "field": "email", "value": SECRET}}, 422, "lookup-value", ("/value", "invalid")),
        ({"person": {"collection": "users", "field": "email", "value": 5}}, 422, "lookup-value", ("/value", "type")),
        ({"person": {"collection": "nothing", "field": "email", "value": SECRET}}, 404, "collection-not-found", None),
    ],
)  # fmt: skip
def test_a_search_that_means_nothing_is_refused(
    api: Api, unchanged: Callable[..., Any], body: Any, status: int, code: str, error: Any
) -> None:
    with unchanged("audit.search", code):
        answer = api.post(SEARCH, body)
    answer.refuses(status, code, *([] if error is None else [error]))
    assert SECRET not in answer.body.decode()


def test_entries_are_what_the_description_says(api: Api, person: tuple[str, str]) -> None:
    page = AuditPage.model_validate_json(api.post(SEARCH, {"collection": person[0]}).body)
    assert len(page.items) == 7
