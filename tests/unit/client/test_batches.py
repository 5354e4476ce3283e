from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count, islice
from typing import Any
from uuid import UUID

import pytest

import strongroom
from strongroom import BulkItem, Client, Create, Erase, Get, Lookup, Record, RecordMetadata, Update
from vault.client.batches import ENOUGH_BYTES

TOKEN = "6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f"
CANARY = "ada.canary@example.com"
MOMENT = datetime(2027, 1, 1, tzinfo=UTC)


def created(asked: Any) -> Any:
    """Answer each creation with its own number."""
    metadata = {
        "collection": "users",
        "schema_version": 1,
        "created_at": "2026-11-23T14:00:00Z",
        "updated_at": "2026-11-23T14:00:00Z",
        "expires_at": None,
        "etag": '"e1"',
        "generation": 1,
    }
    operations = asked.document["operations"]
    items = [
        {"status": 201, "token": str(UUID(int=each["data"].get("n", 0)))} | metadata for each in operations
    ]
    return {"items": items, "failed": 0}


def test_a_batch_is_sent_as_its_operations_say(server: Any, client: Client) -> None:
    server.will_refuse(404, "collection-not-found")
    operations = [
        Create({"email": CANARY}, expires_at=MOMENT, region="DE"),
        Create({}),
        Get(TOKEN, reveal="plain", fields=("email",), generation=2),
        Get(UUID(TOKEN), fields="email"),
        Update(TOKEN, data={"n": 2**70, "price": Decimal("1.10")}, expires_at=MOMENT, region="DE", if_match='"e"'),
        Update(TOKEN, patch={"phone": None}, if_match="*"),
        Erase(TOKEN, if_match='"e"'),
        Erase(TOKEN),
        Lookup("email", CANARY, region="DE", reveal="plain", fields=["email"], limit=2, cursor="c"),
        Lookup("email", CANARY),
    ]  # fmt: skip
    with pytest.raises(strongroom.NotFound):
        client.bulk("users", iter(operations))
    asked = server.asked[0]
    assert (asked.method, asked.path) == ("POST", "/v1/collections/users/records/bulk")
    assert asked.headers["Content-Type"] == "application/json"
    moment = "2027-01-01T00:00:00Z"
    assert json.loads(asked.body, parse_float=Decimal) == {
        "atomic": False,
        "dry_run": False,
        "operations": [
            {"op": "create", "data": {"email": CANARY}, "expires_at": moment, "region": "DE"},
            {"op": "create", "data": {}},
            {"op": "get", "token": TOKEN, "reveal": "plain", "fields": ["email"], "generation": 2},
            {"op": "get", "token": TOKEN, "reveal": "masked", "fields": ["email"]},
            {"op": "update", "token": TOKEN, "data": {"n": 2**70, "price": Decimal("1.10")},
             "expires_at": moment, "region": "DE", "if_match": '"e"'},
            {"op": "update", "token": TOKEN, "patch": {"phone": None}, "if_match": "*"},
            {"op": "erase", "token": TOKEN, "if_match": '"e"'},
            {"op": "erase", "token": TOKEN},
            {"op": "lookup", "field": "email", "value": CANARY, "region": "DE", "reveal": "plain",
             "fields": ["email"], "limit": 2, "cursor": "c"},
            {"op": "lookup", "field": "email", "value": CANARY, "reveal": "masked"},
        ],
    }  # fmt: skip


@pytest.mark.parametrize("atomic", [False, True])
def test_only_batches_of_writes_carry_a_key(server: Any, client: Client, *, atomic: bool) -> None:
    writes = [Create({}), Update(TOKEN, patch={}), Erase(TOKEN)]
    batches: list[tuple[list[Any], bool]] = [(writes, False), (writes, True), ([*writes, Get(TOKEN)], False)]
    batches += [([*writes, Lookup("email", "x")], False)]
    for operations, dry_run in batches:
        server.will_refuse(422, "body-members")
        with pytest.raises(strongroom.InvalidRequest):
            client.bulk("users", operations, atomic=atomic, dry_run=dry_run)
        document = server.asked[-1].document
        assert (document["atomic"], document["dry_run"]) == (atomic, dry_run)
    assert ["Idempotency-Key" in asked.headers for asked in server.asked] == [True, False, False, False]


@pytest.mark.parametrize(
    ("operations", "dry_run"),
    [([Create({}), Get(TOKEN)], False), ([Lookup("email", "x")], False), ([Create({})], True)],
)
def test_a_key_where_nothing_is_written_is_refused(
    server: Any, client: Client, operations: list[Any], *, dry_run: bool
) -> None:
    with pytest.raises(ValueError, match="is for writes"):
        client.bulk("users", operations, dry_run=dry_run, idempotency_key="k")
    assert server.asked == []


def test_each_item_says_what_became_of_its_operation(
    server: Any, client: Client, metadata: dict[str, Any]
) -> None:
    metadata |= {"etag": '"e1"'}
    shown = metadata | {"data": {"email": CANARY}, "reveal": "plain", "masked": []}
    taken = {"type": "urn:strongroom:error:duplicate-value", "title": "T", "status": 409, "detail": "Taken."}
    taken |= {"request_id": "r", "errors": [{"pointer": "/email", "code": "duplicate"}]}
    gone = {"type": "urn:strongroom:error:record-erased", "status": 410}
    answers: list[tuple[Any, dict[str, Any]]] = [
        (Create({}), {"status": 201} | metadata),
        (Create({}), {"status": 409, "problem": taken}),
        (Get(TOKEN), {"status": 200} | shown),
        (Get(TOKEN), {"status": 410, "problem": gone}),
        (Update(TOKEN, patch={}), {"status": 200} | metadata),
        (Update(TOKEN, data={}), {"status": 409, "problem": taken}),
        (Erase(TOKEN), {"status": 204, "token": TOKEN}),
        (Lookup("email", CANARY), {"status": 200, "items": [shown, shown], "next_cursor": "c2"}),
        (Lookup("email", CANARY), {"status": 200, "items": [], "next_cursor": None}),
        (Lookup("email", CANARY), {"status": 503, "problem": {"type": "urn:strongroom:error:busy"}}),
    ]
    server.will_answer({"items": [answer for _, answer in answers], "failed": 4, "new": 1})
    result = client.bulk("users", [operation for operation, _ in answers])
    items = result.items
    token = UUID(TOKEN)
    assert (result.failed, result.replayed) == (4, False)
    assert [each.status for each in items] == [answer["status"] for _, answer in answers]
    assert [each.token for each in items] == [token, None, *[token] * 5, None, None, None]
    assert [type(each.error) for each in items if each.error] == [
        strongroom.Duplicate, strongroom.Gone, strongroom.Duplicate, strongroom.Unavailable,
    ]  # fmt: skip
    assert isinstance(items[1].error, strongroom.Duplicate)
    assert (items[1].error.fields, items[1].error.detail) == (("email",), "Taken.")
    written = RecordMetadata.read(metadata, None)
    read = Record.read(shown, None)
    assert [each.metadata for each in items] == [written, None, None, None, written, *[None] * 5]
    assert [each.record for each in items] == [None, None, read, *[None] * 7]
    assert [each.found for each in items] == [*[None] * 7, (read, read), (), None]
    assert items[7].next_cursor == "c2"
    assert CANARY not in repr(result)


def test_a_dry_run_tells_statuses_only(server: Any, client: Client) -> None:
    server.will_answer(
        {"dry_run": True, "failed": 0, "items": [{"status": 201}, {"status": 200}, {"status": 204}]}
    )
    operations = [Create({}), Update(TOKEN, patch={}), Erase(TOKEN)]
    items = client.bulk("users", operations, dry_run=True).items
    token = UUID(TOKEN)
    assert items == (
        BulkItem(status=201),
        BulkItem(status=200, token=token),
        BulkItem(status=204, token=token),
    )


def test_a_replayed_batch_says_so(server: Any, client: Client, metadata: dict[str, Any]) -> None:
    server.will_answer(
        {"items": [{"status": 201} | metadata], "failed": 0}, headers={"Idempotency-Replayed": "true"}
    )
    result = client.bulk("users", [Create({})], idempotency_key="k1")
    assert result.replayed
    assert result.items[0].metadata is not None
    assert (result.items[0].metadata.replayed, result.items[0].metadata.etag) == (True, None)


def test_an_atomic_batch_raises_what_refused_it(server: Any, client: Client) -> None:
    server.will_refuse(409, "duplicate-value", index=17, errors=[{"pointer": "/email", "code": "duplicate"}])
    with pytest.raises(strongroom.Duplicate) as caught:
        client.bulk("users", [Create({})], atomic=True)
    assert (caught.value.index, caught.value.fields) == (17, ("email",))
    assert "operation 17" in str(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        {"items": [], "failed": 0},
        {"items": [{"status": 204}, {"status": 204}], "failed": 0},
        {"items": [{}], "failed": 0},
        {"items": [{"status": 201, "token": CANARY}], "failed": 0},
        {"items": [None], "failed": 0},
        {"failed": 0},
        [],
    ],
)
def test_items_that_do_not_fit_are_not_guessed_at(server: Any, client: Client, document: Any) -> None:
    server.will_answer(document)
    with pytest.raises(strongroom.UnexpectedAnswer) as caught:
        client.bulk("users", [Create({})])
    assert CANARY not in f"{caught.value!r} {caught.value.__cause__!r}"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Update(TOKEN),
        lambda: Update(TOKEN, data={}, patch={}),
        lambda: Update(TOKEN, patch={}, region="DE"),
        lambda: Update(TOKEN, patch={}, expires_at=MOMENT),
        lambda: Update(CANARY, patch={}),
        lambda: Get(CANARY),
        lambda: Erase(CANARY),
    ],
)
def test_an_operation_that_cannot_be_meant_is_not_made(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        make()
    assert CANARY not in repr(caught.value)


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        (Create({"email": CANARY, "x": float("nan")}), ValueError),
        (Create({CANARY: "\ud800"}), ValueError),
        (Create({"email": CANARY, "x": MOMENT}), TypeError),
        (Create(CANARY), ValueError),  # type: ignore[arg-type]
        (Create({"email": CANARY}, expires_at=datetime(2027, 1, 1)), ValueError),  # noqa: DTZ001 - naive on purpose
        ({"op": "create", "data": {"email": CANARY}}, TypeError),
    ],
)
def test_an_operation_that_must_not_be_sent_is_named_and_not_repeated(
    server: Any, client: Client, operation: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=r"^operation 1: ") as caught:
        client.bulk("users", [Create({}), operation])
    assert server.asked == []
    assert CANARY not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_nothing_personal_is_shown() -> None:
    operations = [
        Create({"email": CANARY}),
        Update(TOKEN, data={"email": CANARY}),
        Update(TOKEN, patch={"email": CANARY}),
        Lookup("email", CANARY),
    ]
    assert CANARY not in repr(operations)
    assert TOKEN in repr(operations)


def test_any_number_of_documents_is_stored_in_batches(server: Any, client: Client) -> None:
    server.always = created
    made = list(client.create_many("users", ({"n": n} for n in range(2500))))
    assert [item.token for item in made] == [UUID(int=n) for n in range(2500)]
    assert [len(asked.document["operations"]) for asked in server.asked] == [1000, 1000, 500]
    assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 3


def test_documents_are_taken_as_they_are_needed(server: Any, client: Client) -> None:
    server.always = created
    taken: list[int] = []

    def documents() -> Iterator[dict[str, int]]:
        for n in count():
            taken.append(n)
            yield {"n": n}

    walk = client.create_many("users", documents())
    assert (taken, server.asked) == ([], [])
    assert len(list(islice(walk, 1000))) == 1000
    assert (len(taken), len(server.asked)) == (1000, 1)
    next(walk)
    assert (len(taken), len(server.asked)) == (2000, 2)


def test_batches_stay_under_what_a_vault_takes(server: Any, client: Client) -> None:
    server.always = created
    large = "x" * (ENOUGH_BYTES // 3)
    list(client.create_many("users", [{"n": n, "text": large} for n in range(5)]))
    assert [len(asked.document["operations"]) for asked in server.asked] == [2, 2, 1]
    assert all(len(asked.body) < ENOUGH_BYTES + 1000 for asked in server.asked)


def test_no_documents_no_batch(server: Any, client: Client) -> None:
    assert list(client.create_many("users", [])) == []
    assert server.asked == []


def test_documents_can_have_an_expiry_and_a_region(server: Any, client: Client) -> None:
    server.always = created
    list(
        client.create_many(
            "users", [{"n": 1}, Create({"n": 2}), Create({"n": 3}, region="FR")], expires_at=MOMENT, region="DE"
        )
    )  # fmt: skip
    moment = "2027-01-01T00:00:00Z"
    assert server.asked[0].document["operations"] == [
        {"op": "create", "data": {"n": 1}, "expires_at": moment, "region": "DE"},
        {"op": "create", "data": {"n": 2}},
        {"op": "create", "data": {"n": 3}, "region": "FR"},
    ]


def test_a_named_job_gives_its_batches_names(server: Any, client: Client) -> None:
    server.always = created
    for _ in range(2):
        list(client.create_many("users", [{"n": n} for n in range(1001)], idempotency_key="x" * 118))
    assert [asked.headers["Idempotency-Key"] for asked in server.asked] == [
        f"{'x' * 118}:{number}" for number in (0, 1, 0, 1)
    ]
    assert server.asked[0].body == server.asked[2].body
    with pytest.raises(ValueError, match="1 to 128"):
        client.create_many("users", [], idempotency_key="x" * 119)


@pytest.mark.parametrize("place", [0, 1, 999, 1000, 1500])
def test_what_stands_before_a_document_that_cannot_be_sent_is_stored(
    server: Any, client: Client, place: int
) -> None:
    server.always = created
    documents: list[Any] = [{"n": n} for n in range(2000)]
    documents[place] = {"email": CANARY, "n": float("inf")}
    made = []
    with pytest.raises(ValueError, match=rf"^document {place}: ") as caught:
        made.extend(client.create_many("users", documents))
    # extend keeps what came before the error
    assert len(made) == place
    assert sum(len(asked.document["operations"]) for asked in server.asked) == place
    assert CANARY not in repr(caught.value)


def test_what_stands_before_a_batch_that_fails_is_told(server: Any, client: Client) -> None:
    server.will_work(created)
    server.will_refuse(503, "busy")
    made = []
    with pytest.raises(strongroom.Unavailable):
        made.extend(client.create_many("users", ({"n": n} for n in range(3000))))
    assert len(made) == 1000
    assert len(server.asked) == 2


def test_a_document_too_large_for_any_batch_does_not_hold_up_the_others(server: Any, client: Client) -> None:
    server.will_work(created)
    server.will_refuse(413, "too-large")
    server.will_work(created)
    large = "x" * (ENOUGH_BYTES + 1)
    items = list(client.create_many("users", [{"n": 1}, {"n": 2, "text": large}, {"n": 3}]))
    assert [item.status for item in items] == [201, 413, 201]
    assert isinstance(items[1].error, strongroom.InvalidRequest)
    assert items[1].error.code == "too-large"


def test_a_batch_that_a_proxy_finds_too_large_is_an_error(server: Any, client: Client) -> None:
    server.will_refuse(413, "too-large")
    with pytest.raises(strongroom.InvalidRequest):
        list(client.create_many("users", [{}, {}]))
    server.will_send(b"<html>", status=413)
    with pytest.raises(strongroom.UnexpectedAnswer):
        list(client.create_many("users", [{}]))


@pytest.mark.parametrize("documents", [{"email": CANARY}, CANARY, [CANARY]])
def test_documents_that_are_none(server: Any, client: Client, documents: Any) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        list(client.create_many("users", documents))
    assert server.asked == []
    assert CANARY not in repr(caught.value)


def test_a_wrong_collection_is_refused_at_once(client: Client) -> None:
    for call in (client.bulk, client.create_many):
        with pytest.raises(ValueError, match="name"):
            call(CANARY, [])
