from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

import strongroom
from strongroom import Client, CollectionSettings, Person

TOKEN = "6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f"
CANARY = "ada.canary@example.com"


def _record(metadata: dict[str, Any], **data: Any) -> Any:
    return {**metadata, "data": data, "reveal": "plain", "masked": []}


def test_create_sends_the_body_and_reads_metadata(
    server: Any, client: Client, metadata: dict[str, Any], credential: str
) -> None:
    server.will_answer(metadata, status=201, headers={"ETag": '"e1"'})
    moment = datetime(2027, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))
    created = client.create("users", {"email": CANARY}, expires_at=moment, region="DE")
    asked = server.asked[0]
    assert (asked.method, asked.path) == ("POST", "/v1/collections/users/records")
    assert asked.document == {"data": {"email": CANARY}, "expires_at": "2027-01-01T00:00:00Z", "region": "DE"}
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["Authorization"] == f"Bearer {credential}"
    assert "Strongroom-Purpose" not in asked.headers
    assert created == strongroom.RecordMetadata(
        token=UUID(TOKEN),
        collection="users",
        generation=2,
        schema_version=1,
        created_at=datetime(2026, 11, 23, 14, 0, 0, 1, tzinfo=UTC),
        updated_at=datetime(2026, 11, 23, 14, 0, 1, tzinfo=UTC),
        expires_at=None,
        etag='"e1"',
    )


def test_get_asks_for_what_was_wanted(server: Any, client: Client, metadata: dict[str, Any]) -> None:
    server.will_answer(_record(metadata, email=CANARY), headers={"ETag": '"e1"'})
    record = client.get("users", TOKEN, reveal="plain", fields=["email", "a&b"], generation=2)
    assert server.asked[0].path == (
        f"/v1/collections/users/records/{TOKEN}?reveal=plain&fields=email%2Ca%26b&generation=2"
    )
    assert (record.data, record.etag, record.masked) == ({"email": CANARY}, '"e1"', ())


@pytest.mark.parametrize(
    ("call", "method", "media_type"),
    [
        (lambda c: c.replace("users", TOKEN, {"a": 1}, if_match='"e1"'), "PUT", "application/json"),
        (
            lambda c: c.patch("users", TOKEN, {"a": 1}, if_match='"e1"'),
            "PATCH",
            "application/merge-patch+json",
        ),
    ],
)
def test_writes_carry_their_condition(
    server: Any,
    client: Client,
    metadata: dict[str, Any],
    call: Callable[[Client], Any],
    method: str,
    media_type: str,
) -> None:
    server.will_answer(metadata, headers={"ETag": '"e2"'})
    assert call(client).etag == '"e2"'
    asked = server.asked[0]
    assert (asked.method, asked.path) == (method, f"/v1/collections/users/records/{TOKEN}")
    assert (asked.headers["If-Match"], asked.headers["Content-Type"]) == ('"e1"', media_type)


def test_erase_and_erasure(server: Any, client: Client) -> None:
    server.will_answer(status=204)
    server.will_answer(
        {
            "token": TOKEN,
            "collection": "users",
            "state": "done",
            "erased_at": "2026-11-23T14:00:00Z",
            "final_at": None,
            "key_versions": [{"keyring": "default", "version": 10}],
            "from_the_future": 1,
        }
    )
    client.erase("users", UUID(TOKEN), if_match='"e1"')
    erasure = client.erasure("users", TOKEN)
    assert [(asked.method, asked.path.rpartition("/")[2]) for asked in server.asked] == [
        ("DELETE", TOKEN),
        ("GET", "erasure"),
    ]
    assert (erasure.token, erasure.state, erasure.final_at) == (UUID(TOKEN), "done", None)
    assert erasure.key_versions == (strongroom.KeyVersionName(keyring="default", version=10),)


def test_lists_walk_through_their_pages(server: Any, client: Client, metadata: dict[str, Any]) -> None:
    server.will_answer({"items": [metadata, metadata], "next_cursor": "c/1="})
    server.will_answer({"items": [], "next_cursor": "c2"})
    server.will_answer({"items": [{**metadata, "generation": 9}], "next_cursor": None})
    every = client.list("users", page_size=2)
    assert server.asked == []
    assert [record.generation for record in every] == [2, 2, 9]
    assert [asked.path.partition("?")[2] for asked in server.asked] == [
        "limit=2",
        "limit=2&cursor=c%2F1%3D",
        "limit=2&cursor=c2",
    ]


def test_a_list_that_does_not_advance_ends(server: Any, client: Client, metadata: dict[str, Any]) -> None:
    server.will_answer({"items": [metadata], "next_cursor": "c1"})
    server.will_answer({"items": [metadata], "next_cursor": "c1"})
    with pytest.raises(strongroom.UnexpectedAnswer):
        list(client.list("users"))
    assert len(server.asked) == 2


def test_lookup_keeps_the_value_in_bodies_page_after_page(
    server: Any, client: Client, metadata: dict[str, Any]
) -> None:
    server.will_answer({"items": [_record(metadata, email=CANARY)], "next_cursor": "c1"})
    server.will_answer({"items": [], "next_cursor": None})
    found = list(client.lookup("users", "email", CANARY, region="DE", reveal="plain", fields=["email"]))
    assert [record.data for record in found] == [{"email": CANARY}]
    assert [asked.document for asked in server.asked] == [
        {"field": "email", "value": CANARY, "reveal": "plain", "region": "DE", "fields": ["email"], **cursor}
        for cursor in ({}, {"cursor": "c1"})
    ]
    assert {asked.path for asked in server.asked} == {"/v1/collections/users/records/lookup"}


def test_collections(server: Any, client: Client) -> None:
    document = {
        "name": "users",
        "schema_version": 3,
        "schema": {"type": "object"},
        "settings": {
            "strict": True,
            "history": 2,
            "purpose_required": False,
            "if_match_required": False,
            "default_region": "DE",
            "from_the_future": 1,
        },
        "keyring": "default",
        "created_at": "2026-11-23T14:00:00Z",
        "updated_at": "2026-11-23T14:00:00Z",
    }
    settings = CollectionSettings(strict=True, history=2, default_region="DE")
    server.will_answer(document, status=201)
    server.will_answer(document)
    server.will_answer({"items": [document], "next_cursor": None})
    defined = client.define_collection("users", {"type": "object"}, settings=settings)
    assert defined.settings == settings
    assert client.collection("users") == defined
    assert list(client.collections()) == [defined]
    assert server.asked[0].document == {
        "schema": {"type": "object"},
        "settings": {
            "strict": True,
            "history": 2,
            "purpose_required": False,
            "if_match_required": False,
            "default_region": "DE",
        },
    }
    assert [asked.path for asked in server.asked[1:]] == ["/v1/collections/users", "/v1/collections"]


def test_define_collection_sends_settings_only_if_given(server: Any, client: Client) -> None:
    server.will_answer({})
    with pytest.raises(strongroom.UnexpectedAnswer):
        client.define_collection("users", {})
    assert server.asked[0].document == {"schema": {}}


def test_audit_search(server: Any, client: Client) -> None:
    entry = {
        "id": 12,
        "time": "2026-11-23T14:00:00Z",
        "principal": None,
        "action": "authenticate",
        "result": "refused",
        "reason": "invalid",
        "address": "192.0.2.1",
        "count": 40,
    }
    server.will_answer({"items": [entry], "next_cursor": None})
    found = list(
        client.audit(
            token=TOKEN,
            person=Person(collection="users", field="email", value=CANARY, region="DE"),
            since=datetime(2026, 1, 1, tzinfo=UTC),
            purpose="support",
            page_size=5,
        )
    )
    assert (found[0].count, found[0].address, found[0].token, found[0].fields) == (40, "192.0.2.1", None, ())
    assert server.asked[0].path == "/v1/audit/search"
    assert server.asked[0].document == {
        "token": TOKEN,
        "person": {"collection": "users", "field": "email", "value": CANARY, "region": "DE"},
        "since": "2026-01-01T00:00:00Z",
        "purpose": "support",
        "limit": 5,
    }


def test_keyrings(server: Any, client: Client) -> None:
    version = {"version": 10, "state": "active", "provider": "disk", "algorithm": "AES-KWP", "new": "x"}
    version |= {"compromised": False, "created_at": "2026-11-23T14:00:00Z"}
    counts = {"records": 2**70, "history": 0, "stored_keys": 2}
    keyring = {"name": "default", "provider": "disk", "active_version": 10, "versions": [version | counts]}
    server.will_answer({"items": [keyring], "next_cursor": None})
    (found,) = client.keyrings()
    assert (found.active_version, found.versions[0].records) == (10, 2**70)


def test_ready(server: Any, client: Client) -> None:
    server.will_answer({"status": "ready"})
    server.will_answer({"status": "not ready"}, status=503)
    server.will_refuse(503, "store-unavailable")
    assert [client.ready() for _ in range(3)] == [True, False, False]


def test_purposes(server: Any, client: Client) -> None:
    for _ in range(2):
        server.will_answer({"status": "ready"})
    billing = client.for_purpose("billing:invoice-1")
    billing.ready()
    client.ready()
    assert [asked.headers.get("Strongroom-Purpose") for asked in server.asked] == ["billing:invoice-1", None]
    with pytest.raises(strongroom.Misconfigured):
        client.for_purpose("Billing\r\nX: y")
    with pytest.raises(strongroom.Misconfigured):
        Client(purpose="x" * 65)


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.get("users", CANARY),
        lambda c: c.get("../users", TOKEN),
        lambda c: c.get("users", f"{TOKEN}/../../x"),
        lambda c: c.erase("users", CANARY),
        lambda c: c.erasure("users", CANARY),
        lambda c: c.patch("users", CANARY, {}),
        lambda c: c.replace("users", CANARY, {}),
        lambda c: c.create(CANARY, {}),
        lambda c: c.list(CANARY),
        lambda c: c.lookup(CANARY, "email", "x"),
        lambda c: c.collection(CANARY),
        lambda c: c.define_collection(CANARY, {}),
        lambda c: c.audit(token=CANARY),
        lambda c: c.get("users", TOKEN, fields=["a,b"]),
        lambda c: c.create("users", {}, expires_at=datetime(2027, 1, 1)),  # noqa: DTZ001 - naive on purpose
        lambda c: c.create("users", {"a": float("nan")}),
        lambda c: c.create("users", {CANARY: "\ud800"}),
    ],
)
def test_what_must_not_be_sent_is_refused_before_sending_and_not_repeated(
    server: Any, client: Client, call: Callable[[Client], Any]
) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        call(client)
    assert server.asked == []
    assert CANARY not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_every_method_that_takes_a_value_keeps_it_out_of_the_url(server: Any, client: Client) -> None:
    calls = [
        lambda: client.create("users", {"email": CANARY}),
        lambda: client.replace("users", TOKEN, {"email": CANARY}),
        lambda: client.patch("users", TOKEN, {"email": CANARY}),
        lambda: list(client.lookup("users", "email", CANARY)),
        lambda: list(client.audit(person=Person(collection="users", field="email", value=CANARY))),
    ]
    for call in calls:
        server.will_refuse(503, "keys-unavailable")
        with pytest.raises(strongroom.Unavailable):
            call()
    assert len(server.asked) == len(calls)
    assert all("canary" not in asked.path and CANARY in asked.body.decode() for asked in server.asked)


def test_numbers_are_exact(server: Any, metadata: dict[str, Any], credential: str) -> None:
    data = b'{"big":123456789012345678901234567890,"price":1.10,"huge":1E400}'
    content = json.dumps(_record(metadata)).encode().replace(b"{}", data)
    with Client(server.url, credential=credential, exact_numbers=True) as client:
        server.will_send(content)
        exact = client.get("users", TOKEN).data
        assert exact == {
            "big": 123456789012345678901234567890,
            "price": Decimal("1.10"),
            "huge": Decimal("1E400"),
        }
        server.will_answer(metadata)
        client.create("users", exact)
        assert b'"big":123456789012345678901234567890,"price":1.10,"huge":1E+400' in server.asked[-1].body
    with Client(server.url, credential=credential) as client:
        server.will_send(content.replace(b"1E400", b"1e4"))
        assert client.get("users", TOKEN).data == {
            "big": 123456789012345678901234567890,
            "price": 1.1,
            "huge": 10000.0,
        }


def test_nothing_secret_is_shown(
    server: Any, client: Client, metadata: dict[str, Any], credential: str
) -> None:
    assert credential not in f"{client!r} {client.__dict__['_session']!r}"
    server.will_answer(_record(metadata, email=CANARY))
    assert CANARY not in repr(client.get("users", TOKEN))
    assert CANARY not in repr(Person(collection="users", field="email", value=CANARY))


def test_a_client_is_not_pickled(credential: str) -> None:
    with Client(credential=credential) as client, pytest.raises(TypeError, match="in each process") as caught:
        pickle.dumps(client)
    assert credential not in str(caught.value)


def test_the_public_face_is_the_clients() -> None:
    assert set(strongroom.__all__) <= set(dir(strongroom))
    undocumented = [
        name
        for name in strongroom.__all__
        if name not in {"Reveal", "Operation"} and not getattr(strongroom, name).__doc__
    ]
    assert undocumented == []
    assert "credential" in inspect.signature(Client).parameters
