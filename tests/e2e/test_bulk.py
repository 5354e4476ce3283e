"""Many operations in one request, over real HTTP: each answers as if it had come alone."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from vault.api import bulk_models, models

if TYPE_CHECKING:
    from conftest import Answer, Api, Server

PEOPLE: dict[str, Any] = {
    "email": {"type": "string", "x-index": "unique", "x-normalize": "email", "x-mask": "email"},
    "login": {"type": "string", "x-index": "unique", "x-mask": "none"},
    "city": {"type": "string", "x-index": "lookup", "x-mask": "none"},
    "phone": {"type": "string", "x-index": "lookup", "x-normalize": "phone", "x-mask": "phone"},
    "age": {"type": "integer"},
}
MOST_BYTES = 16 * 1_048_576
SOON_SECONDS = 1.0


@pytest.fixture
def people(define: Callable[..., str]) -> str:
    return define(PEOPLE)


def path_of(name: str, token: str | None = None) -> str:
    return f"/v1/collections/{name}/records" + (f"/{token}" if token else "")


def ask(
    api: Api, name: str, *operations: Any, headers: dict[str, str] | None = None, **members: Any
) -> Answer:
    body = {"operations": list(operations)} | members
    return api.post(f"{path_of(name)}/bulk", body, headers=headers)


def items(api: Api, name: str, *operations: Any, **options: Any) -> list[Any]:
    answered: list[Any] = ask(api, name, *operations, **options).gives(200)["items"]
    assert len(answered) == len(operations)
    return answered


def create(**data: Any) -> dict[str, Any]:
    return {"op": "create", "data": data}


def get(token: str, **members: Any) -> dict[str, Any]:
    return {"op": "get", "token": token, "reveal": "plain"} | members


def patch(token: str, **changes: Any) -> dict[str, Any]:
    return {"op": "update", "token": token, "patch": changes}


def replace(token: str, **data: Any) -> dict[str, Any]:
    return {"op": "update", "token": token, "data": data}


def erase(token: str, **members: Any) -> dict[str, Any]:
    return {"op": "erase", "token": token} | members


def look_up(field: str, value: str, **members: Any) -> dict[str, Any]:
    return {"op": "lookup", "field": field, "value": value, "reveal": "plain"} | members


def made(api: Api, name: str, **data: Any) -> str:
    return api.create(data, name).rpartition("/")[2]


def refusal(item: Any) -> tuple[int, str, list[tuple[str, str]]]:
    problem = item["problem"]
    code = problem["type"].removeprefix("urn:strongroom:error:")
    return item["status"], code, [(each["pointer"], each["code"]) for each in problem.get("errors", [])]


def told(api: Api, name: str, number: int) -> list[tuple[Any, ...]]:
    """Action, result, reason and token of the newest entries, oldest first."""
    entries = reversed(api.audit(collection=name, limit=number))
    return [(e["action"], e["result"], e["reason"], e["token"]) for e in entries]


def in_future(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_a_batch_answers_each_operation_like_a_request_of_its_own(api: Api, people: str) -> None:
    one, two, three, four = (made(api, people, login=login, city="Ulm") for login in ("1", "2", "3", "4"))

    answer = ask(
        api,
        people,
        create(email="ada@example.com", age=36),
        get(one),
        patch(two, age=5),
        replace(three, login="3", city="Rom"),
        erase(four),
        look_up("city", "Ulm"),
        look_up("city", "Atlantis"),
    )

    created, shown, patched, replaced, erased, found, none = answer.gives(200)["items"]
    assert answer.json["failed"] == 0
    bulk_models.BulkAnswer.model_validate_json(answer.body)
    for item, token, generation, status in (
        (created, created["token"], 1, 201),
        (patched, two, 2, 200),
        (replaced, three, 2, 200),
    ):
        stored = api.get(path_of(people, token))
        metadata = {k: v for k, v in stored.gives(200).items() if k not in {"data", "reveal", "masked"}}
        assert item == metadata | {"status": status, "etag": stored.etag}
        assert item["generation"] == generation
    alone = api.get(f"{path_of(people, one)}?reveal=plain")
    assert shown == alone.gives(200) | {"status": 200, "etag": alone.etag}
    assert erased == {"status": 204, "token": four}
    api.get(path_of(people, four)).refuses(410, "record-erased")
    alone_found = api.lookup("city", "Ulm", people, reveal="plain")["items"]
    assert [{k: v for k, v in each.items() if k != "etag"} for each in found["items"]] == alone_found
    assert [each["token"] for each in found["items"]] == [one, two]
    assert [each["etag"] for each in found["items"]] == [shown["etag"], patched["etag"]]
    assert (found["status"], found["next_cursor"]) == (200, None)
    assert none == {"status": 200, "items": [], "next_cursor": None}
    assert api.plain(path_of(people, created["token"])) == {"email": "ada@example.com", "age": 36}
    assert api.plain(path_of(people, two)) == {"login": "2", "city": "Ulm", "age": 5}
    assert api.plain(path_of(people, three)) == {"login": "3", "city": "Rom"}


def test_a_thousand_operations_are_carried_out(api: Api, people: str) -> None:
    answered = items(api, people, *(create(login=f"l{n}", age=n) for n in range(1_000)))

    tokens = [item["token"] for item in answered]
    assert len(set(tokens)) == 1_000
    assert {item["status"] for item in answered} == {201}
    again = items(api, people, *(look_up("login", f"l{n}", fields=["age"]) for n in range(1_000)))
    assert [[(each["token"], each["data"]["age"]) for each in item["items"]] for item in again] == [
        [(token, n)] for n, token in enumerate(tokens)
    ]


@pytest.mark.parametrize("number", [0, 1_001])
def test_no_operation_and_one_too_many_are_refused(
    api: Api, people: str, unchanged: Callable[..., Any], number: int
) -> None:
    with unchanged("request", "body-members"):
        ask(api, people, *[create(age=1)] * number).refuses(422, "body-members", ("/operations", "range"))


def test_what_a_get_shows_is_chosen_as_for_a_read(api: Api, define: Callable[..., str]) -> None:
    name = define(PEOPLE, history=1)
    token = made(api, name, email="ada@example.com", city="Ulm", age=36)
    api.patch(path_of(name, token), {"age": 37}).gives(200)
    other = made(api, name, email="bob@example.com", city="Ulm", age=3)

    masked, chosen = items(
        api, name, {"op": "get", "token": token}, get(other, reveal="masked", fields=["city", "age", "x"])
    )
    assert (masked["data"], masked["reveal"], masked["masked"]) == (
        {"email": "a***@e***.com", "city": "Ulm", "age": "***"},
        "masked",
        ["/email", "/age"],
    )
    assert (chosen["data"], chosen["masked"]) == ({"city": "Ulm", "age": "***"}, ["/age"])
    (older,) = items(api, name, get(token, generation=1))
    assert (older["generation"], older["data"]["age"]) == (1, 36)
    (current,) = items(api, name, get(token, generation=2, fields=["age"]))
    assert (current["generation"], current["data"]) == (2, {"age": 37})
    assert refusal(items(api, name, get(token, generation=3))[0])[:2] == (404, "record-not-found")


def test_updates_keep_the_history_that_the_collection_keeps(api: Api, define: Callable[..., str]) -> None:
    name = define(PEOPLE, history=2)
    token = made(api, name, age=1)
    for age in (2, 3, 4):
        items(api, name, patch(token, age=age))

    ages = [items(api, name, get(token, generation=number))[0] for number in (1, 2, 3, 4)]

    assert refusal(ages[0])[:2] == (404, "record-not-found")
    assert [item["data"]["age"] for item in ages[1:]] == [2, 3, 4]


def test_a_replacement_takes_expiry_and_region_and_a_patch_keeps_them(api: Api, people: str) -> None:
    until = "2999-01-31T12:00:00.000000Z"
    (first,) = items(
        api,
        people,
        {"op": "create", "data": {"phone": "030 123456"}, "region": "DE", "expires_at": until},
    )
    assert first["expires_at"] == until
    token = first["token"]
    (patched,) = items(api, people, patch(token, age=1))
    assert patched["expires_at"] == until
    assert len(api.lookup("phone", "+49 30 123456", people)["items"]) == 1
    (replaced,) = items(api, people, replace(token, phone="044 668 18 00") | {"region": "CH"})
    assert replaced["expires_at"] is None
    (found,) = items(api, people, look_up("phone", "044 668 18 00", region="CH"))
    assert [each["token"] for each in found["items"]] == [token]


@pytest.mark.parametrize("operation", [patch, replace, erase])
def test_if_match_is_kept_to(api: Api, people: str, operation: Callable[..., Any]) -> None:
    token = made(api, people, age=1)
    stale = api.get(path_of(people, token)).etag
    current = api.patch(path_of(people, token), {"age": 2}).etag
    before = api.get(f"{path_of(people, token)}?reveal=plain").json
    for tag in (stale, current[1:-1], '"zz"', '""', '"', "", f"W/{current}", f"{current}, {stale}"):
        (item,) = items(api, people, operation(token) | {"if_match": tag})
        assert refusal(item)[:2] == (412, "precondition-failed"), tag
    assert api.get(f"{path_of(people, token)}?reveal=plain").json == before
    (done,) = items(api, people, operation(token) | {"if_match": current})
    assert done["status"] in {200, 204}
    other = made(api, people, age=1)
    (done,) = items(api, people, operation(other) | {"if_match": "*"})
    assert done["status"] in {200, 204}


@pytest.mark.parametrize("operation", [patch, replace, erase])
def test_a_collection_can_demand_if_match(
    api: Api, define: Callable[..., str], operation: Callable[..., Any]
) -> None:
    name = define(PEOPLE, if_match_required=True)
    token = made(api, name, age=1)

    refused, done = items(api, name, operation(token), create(age=2))

    assert refusal(refused)[:2] == (428, "precondition-required")
    assert done["status"] == 201
    (done,) = items(api, name, operation(token) | {"if_match": api.get(path_of(name, token)).etag})
    assert done["status"] in {200, 204}


def test_a_collection_can_demand_a_purpose(
    api: Api, define: Callable[..., str], unchanged: Callable[..., Any]
) -> None:
    name = define(PEOPLE, purpose_required=True)
    with unchanged("request", "purpose-required"):
        ask(api, name, create(age=1), {"op": "no such"}).refuses(
            422, "purpose-required", ("", "purpose-required")
        )
    answered = items(api, name, create(age=1), headers={"Strongroom-Purpose": "move-in"})
    assert answered[0]["status"] == 201
    (entry,) = api.audit(collection=name, action="record.create")
    assert entry["purpose"] == "move-in"


def test_a_lookup_is_paged(api: Api, people: str) -> None:
    tokens = [item["token"] for item in items(api, people, *(create(city="Ulm") for _ in range(5)))]
    seen, cursor = [], None
    for _ in range(3):
        (page,) = items(api, people, look_up("city", "Ulm", limit=2, cursor=cursor))
        seen += [each["token"] for each in page["items"]]
        cursor = page["next_cursor"]
    assert (seen, cursor) == (tokens, None)


def test_a_lookup_sees_what_stands_before_it(api: Api, people: str) -> None:
    one, two = made(api, people, login="one"), made(api, people, login="two")

    answered = items(
        api,
        people,
        look_up("login", "new"), create(login="new"), look_up("login", "new"),
        patch(one, login="moved"), look_up("login", "one"), look_up("login", "moved"),
        look_up("login", "two"), erase(two), look_up("login", "two"),
    )  # fmt: skip

    found = {place: [each["token"] for each in answered[place]["items"]] for place in (0, 2, 4, 5, 6, 8)}
    assert found == {0: [], 2: [answered[1]["token"]], 4: [], 5: [one], 6: [two], 8: []}
    # Shown as it was when it was found.
    assert answered[6]["items"][0]["data"] == {"login": "two"}
    assert answered[5]["items"][0]["generation"] == 2


def test_values_move_within_a_batch(api: Api, people: str) -> None:
    one, two, three = (made(api, people, login=login) for login in ("one", "two", "three"))

    answered = items(
        api, people, erase(one), patch(two, login="one"), create(login="two"), replace(three, login="three")
    )

    assert [item["status"] for item in answered] == [204, 200, 201, 200]
    assert api.lookup("login", "one", people)["items"][0]["token"] == two
    assert api.lookup("login", "two", people)["items"][0]["token"] == answered[2]["token"]


def test_a_value_is_not_free_before_it_is_given_up(api: Api, people: str) -> None:
    one, two = made(api, people, login="one"), made(api, people, login="two")

    answered = items(api, people, patch(one, login="two"), patch(two, login="one"), erase(two))

    assert refusal(answered[0]) == (409, "duplicate-value", [("/login", "duplicate")])
    assert refusal(answered[1]) == (409, "duplicate-value", [("/login", "duplicate")])
    assert refusal(answered[2])[:2] == (422, "repeated-token")
    assert api.plain(path_of(people, one)) == {"login": "one"}
    assert api.plain(path_of(people, two)) == {"login": "two"}


def test_the_same_unique_value_twice_goes_to_the_first(api: Api, people: str) -> None:
    answered = items(
        api,
        people,
        create(login="a", email="a@example.com"),
        create(login="b", email=" A@EXAMPLE.com"),
        create(login="a", email="A@example.com"),
        create(login="b"),
    )

    assert [item["status"] for item in answered] == [201, 409, 409, 201]
    assert refusal(answered[1])[2] == [("/email", "duplicate")]
    assert refusal(answered[2])[2] == [("/email", "duplicate"), ("/login", "duplicate")]
    assert len(api.get(path_of(people)).gives(200)["items"]) == 2


def bad_operations(api: Api, name: str) -> dict[str, tuple[Any, int, str]]:
    """One operation for every way in which one can be refused, with its status and code."""
    gone = made(api, name, age=1)
    api.delete(path_of(name, gone)).gives(204)
    live = made(api, name, age=1)
    over = api.post(path_of(name), {"data": {"age": 1}, "expires_at": in_future(SOON_SECONDS)}).json["token"]
    made(api, name, login="taken")
    nobody = str(uuid.uuid4())
    time.sleep(SOON_SECONDS + 0.1)
    return {
        "unknown op": ({"op": "upsert"}, 422, "body-members"),
        "schema": (create(age="old"), 422, "schema-violation"),
        "duplicate": (create(login="taken"), 409, "duplicate-value"),
        "expiry": ({"op": "create", "data": {}, "expires_at": "2001-01-01T00:00:00Z"}, 422, "expires-at"),
        "region": ({"op": "create", "data": {}, "region": "de"}, 422, "region"),
        "limit": (create(note=[[]] * 10_001), 422, "document-limit"),
        "size": (create(note="n" * 1_048_576), 413, "too-large"),
        "get nothing": (get(nobody), 404, "record-not-found"),
        "get erased": (get(gone), 410, "record-erased"),
        "get expired": (get(over), 410, "record-expired"),
        "get generation": (get(live, generation=7), 404, "record-not-found"),
        "update nothing": (patch(nobody), 404, "record-not-found"),
        "update erased": (replace(gone), 410, "record-erased"),
        "update expired": (patch(over), 410, "record-expired"),
        "update by schema": (patch(live, age="old"), 422, "schema-violation"),
        "update by duplicate": (patch(live, login="taken"), 409, "duplicate-value"),
        "update by mask": (patch(live, age="***"), 422, "masked-value"),
        "update by etag": (patch(live) | {"if_match": '"0011223344556677"'}, 412, "precondition-failed"),
        "erase nothing": (erase(nobody), 404, "record-not-found"),
        "erase erased": (erase(gone), 410, "record-erased"),
        "erase by etag": (erase(live, if_match='"0011223344556677"'), 412, "precondition-failed"),
        "look up field": (look_up("age", "1"), 422, "not-indexed"),
        "look up value": (look_up("email", "no address"), 422, "lookup-value"),
    }


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last"])
def test_a_refused_operation_leaves_the_others_alone(api: Api, people: str, place: int) -> None:
    for number, (case, (bad, status, code)) in enumerate(bad_operations(api, people).items()):
        good = [create(login=f"a{number}"), create(login=f"b{number}")]
        good.insert(place, bad)

        answer = ask(api, people, *good)

        answered = answer.gives(200)
        assert answered["failed"] == 1, case
        statuses = [item["status"] for item in answered["items"]]
        assert statuses == [status if n == place else 201 for n in range(3)], case
        assert refusal(answered["items"][place])[:2] == (status, code), case
        bulk_models.BulkAnswer.model_validate_json(answer.body)


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last"])
def test_an_atomic_batch_with_a_refused_operation_changes_nothing(
    api: Api, people: str, unchanged: Callable[..., Any], place: int
) -> None:
    actions = {"create": "record.create", "get": "record.read", "update": "record.update"}
    actions |= {"erase": "record.erase", "lookup": "record.lookup", "upsert": "request"}
    for case, (bad, status, code) in bad_operations(api, people).items():
        good = [create(login="a"), create(login="b")]
        good.insert(place, bad)

        # Exactly one entry: that of the operation which was refused.
        with unchanged(actions[bad["op"]], code):
            answer = ask(api, people, *good, atomic=True)

        assert answer.refuses(status, code)["index"] == place, case
        models.Problem.model_validate_json(answer.body)
    answered = items(api, people, create(login="a"), create(login="b"), atomic=True)
    assert [item["status"] for item in answered] == [201, 201]


def test_atomic_operations_see_each_other(api: Api, people: str) -> None:
    one, two = made(api, people, login="one"), made(api, people, login="two")

    answered = items(
        api,
        people,
        create(login="x"),
        erase(one),
        patch(two, login="one"),
        look_up("login", "one"),
        look_up("login", "x"),
        atomic=True,
    )

    assert [item["status"] for item in answered] == [201, 204, 200, 200, 200]
    assert [[each["token"] for each in item["items"]] for item in answered[3:]] == [
        [two],
        [answered[0]["token"]],
    ]


@pytest.mark.parametrize("is_atomic", [False, True])
def test_an_expired_record_gives_its_values_free(
    api: Api, people: str, server: Server, *, is_atomic: bool
) -> None:
    over = [
        item["token"]
        for item in items(
            api,
            people,
            *(
                {"op": "create", "data": {"login": f"l{n}"}, "expires_at": in_future(SOON_SECONDS)}
                for n in range(8)
            ),
        )
    ]
    mine = made(api, people, login="mine")
    time.sleep(SOON_SECONDS + 0.1)

    answered = items(
        api, people, *(create(login=f"l{n}") for n in range(7)), patch(mine, login="l7"), atomic=is_atomic
    )

    assert [item["status"] for item in answered] == [201] * 7 + [200]
    erased = [entry for entry in told(api, people, 100) if entry[2] == "expired"]
    assert sorted(entry[3] for entry in erased) == sorted(over)
    assert {entry[:2] for entry in erased} == {("record.erase", "done")}
    assert server.rows(
        "SELECT count(*) FROM record WHERE collection = ? AND erased_at IS NOT NULL", (people,)
    ) == [(8,)]


def test_each_operation_has_its_entry(api: Api, people: str) -> None:
    one, two, three = (made(api, people, login=login, city="Ulm") for login in ("one", "two", "three"))
    nobody = str(uuid.uuid4())

    answer = ask(
        api,
        people,
        create(login="new", name="Ada"), create(login="one"), create(age="x"), get(one, fields=["city", "x"]),
        get(nobody), patch(two, age=1), erase(three), look_up("city", "Ulm"), look_up("city", "Rom"),
        look_up("age", "1"), {"op": "x"},
        headers={"Strongroom-Purpose": "move"},
    )  # fmt: skip

    new = answer.gives(200)["items"][0]["token"]
    assert told(api, people, 12) == [
        ("record.create", "done", None, new),
        ("record.create", "refused", "duplicate-value", None),
        ("record.create", "refused", "schema-violation", None),
        ("record.read", "released", None, one),
        ("record.read", "refused", "record-not-found", nobody),
        ("record.update", "done", None, two),
        ("record.erase", "done", None, three),
        ("record.lookup", "released", None, one),
        ("record.lookup", "released", None, two),
        ("record.lookup", "not-found", None, None),
        ("record.lookup", "refused", "not-indexed", None),
        ("request", "refused", "body-members", None),
    ]
    entries = list(reversed(api.audit(collection=people, limit=12)))
    assert {entry["request_id"] for entry in entries} == {answer.headers["Request-Id"]}
    assert {entry["purpose"] for entry in entries} == {"move"}
    assert entries[0]["fields"] == ["*other", "login"]
    assert (entries[3]["fields"], entries[3]["reveal"]) == (["*other", "city"], "plain")
    assert [entry["lookup_field"] for entry in entries[7:10]] == ["city"] * 3
    assert (entries[5]["generation"], entries[5]["fields"]) == (2, ["age"])


def test_a_dry_run_answers_what_the_batch_will_answer_and_stores_nothing(
    api: Api, people: str, unchanged: Callable[..., Any]
) -> None:
    bad = bad_operations(api, people)
    two, three = made(api, people, login="two"), made(api, people, login="three")
    operations = [
        create(login="a"), create(login="a"), patch(two, login="b"), create(login="two"), erase(three),
        create(login="three"), patch(three), replace(two),
        *(each for name, (each, _, _) in bad.items() if not name.startswith(("get", "look"))),
    ]  # fmt: skip

    with unchanged("record.rehearse", None, "done"):
        rehearsed = ask(api, people, *operations, dry_run=True)

    assert rehearsed.gives(200)["dry_run"] is True
    bulk_models.BulkAnswer.model_validate_json(rehearsed.body)
    (entry,) = api.audit(collection=people, action="record.rehearse")
    assert entry["count"] == len(operations)
    done = ask(api, people, *operations).gives(200)
    assert rehearsed.json["failed"] == done["failed"]
    assert [item["status"] for item in rehearsed.json["items"]] == [item["status"] for item in done["items"]]
    assert [refusal(item) for item in rehearsed.json["items"] if "problem" in item] == [
        refusal(item) for item in done["items"] if "problem" in item
    ]
    assert [item["status"] for item in done["items"]][:8] == [201, 409, 200, 201, 204, 201, 422, 422]


def test_an_atomic_dry_run_is_refused_like_the_batch(
    api: Api, people: str, unchanged: Callable[..., Any]
) -> None:
    made(api, people, login="taken")
    operations = [create(login="a"), create(login="taken"), create(age="x")]
    for is_dry_run in (True, False):
        with unchanged("record.create", "duplicate-value"):
            answer = ask(api, people, *operations, atomic=True, dry_run=is_dry_run)
        assert answer.refuses(409, "duplicate-value", ("/login", "duplicate"))["index"] == 1
    with unchanged("record.rehearse", None, "done"):
        assert items(api, people, operations[0], atomic=True, dry_run=True) == [{"status": 201}]


@pytest.mark.parametrize("read", [get(str(uuid.uuid4())), look_up("login", "x")], ids=["get", "lookup"])
def test_a_dry_run_reads_nothing(
    api: Api, people: str, unchanged: Callable[..., Any], read: dict[str, Any]
) -> None:
    with unchanged("request", "body-members"):
        ask(api, people, create(age=1), read, dry_run=True).refuses(
            422, "body-members", ("/operations/1/op", "enum")
        )


def filled(name: str, size: int, tail: bytes = b"") -> bytes:
    """A batch of this many bytes: creates with long notes, and white space that makes the size exact."""
    note = json.dumps(create(city=name, note="n" * 1_000_000)).encode()
    body = b'{"operations": [' + b",".join([note] * (size // (len(note) + 1) - 1))
    end = tail + b"]}"
    return body + b" " * (size - len(body) - len(end)) + end


def test_a_body_of_exactly_sixteen_mebibytes_is_taken(api: Api, people: str) -> None:
    body = filled("Ulm", MOST_BYTES)
    assert len(body) == MOST_BYTES

    answered = api.post(f"{path_of(people)}/bulk", body=body).gives(200)

    assert answered["failed"] == 0
    assert len(answered["items"]) == 15


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_byte_more_is_refused(
    api: Api, people: str, unchanged: Callable[..., Any], *, is_chunked: bool
) -> None:
    body = filled("Ulm", MOST_BYTES + 1)
    with unchanged("request", "too-large"):
        sent = (body[start : start + 65_536] for start in range(0, len(body), 65_536)) if is_chunked else body
        answer = api.post(f"{path_of(people)}/bulk", body=sent, chunked=is_chunked)
    assert "16,777,216" in answer.refuses(413, "too-large")["detail"]


def test_a_single_create_keeps_its_own_limit(api: Api, people: str, unchanged: Callable[..., Any]) -> None:
    with unchanged("record.create", "too-large"):
        api.post(path_of(people), body=b" " * 1_200_000).refuses(413, "too-large")


def test_a_batch_shows_at_most_sixteen_mebibytes(api: Api, people: str) -> None:
    size, stored = 1_048_000, []
    for start in (0, 9):
        answered = items(
            api, people, *(create(login=f"{start + n}", city="Ulm", note="n" * size) for n in range(9))
        )
        stored += [item["token"] for item in answered]

    answered = items(
        api,
        people,
        *map(get, stored),
        look_up("login", "0", fields=["login"]),
        look_up("login", "nobody"),
        create(login="new"),
    )

    assert [item["status"] for item in answered] == [200] * 16 + [413] * 4 + [201]
    assert all(len(item["data"]["note"]) == size for item in answered[:16])
    for item in answered[16:20]:
        assert refusal(item)[1] == "answer-too-large"
    assert told(api, people, 5)[:4] == [
        ("record.read", "refused", "answer-too-large", stored[16]),
        ("record.read", "refused", "answer-too-large", stored[17]),
        ("record.lookup", "refused", "answer-too-large", None),
        ("record.lookup", "refused", "answer-too-large", None),
    ]
    (found,) = items(api, people, look_up("city", "Ulm"))
    assert refusal(found)[1] == "answer-too-large"
    (found,) = items(api, people, look_up("city", "Ulm", limit=16))
    assert len(found["items"]) == 16


def test_a_tampered_record_is_an_alarm_and_the_others_are_shown(start_server: Callable[..., Server]) -> None:
    server = start_server()
    api = server.api
    tokens = [made(api, "users", login=f"l{n}", note="secret-note") for n in range(6)]
    ((sealed, updated_at),) = server.rows(
        "SELECT sealed_document, updated_at FROM record WHERE token = ?", (uuid.UUID(tokens[2]).bytes,)
    )
    for place, column, value in (
        (1, "updated_at", updated_at + 1),
        (2, "sealed_document", sealed + b"\0"),
        (4, "wrapped_dek", os.urandom(40)),
    ):
        token = uuid.UUID(tokens[place]).bytes
        server.tamper(f"UPDATE record SET {column} = ? WHERE token = ?", (value, token))  # noqa: S608

    answered = items(
        api,
        "users",
        *map(get, tokens[:3]),
        patch(tokens[4], n=1),
        look_up("login", "l1"),
        look_up("login", "l5"),
        create(login="new"),
    )

    assert [item["status"] for item in answered] == [200, 500, 500, 500, 500, 200, 201]
    for item in answered[1:5]:
        assert refusal(item) == (500, "integrity", [])
        assert "secret" not in json.dumps(item)
    assert [each[:3] for each in told(api, "users", 7)] == [
        ("record.read", "released", None),
        ("record.read", "failed", "integrity"),
        ("record.read", "failed", "integrity"),
        ("record.update", "failed", "integrity"),
        ("record.lookup", "failed", "integrity"),
        ("record.lookup", "released", None),
        ("record.create", "done", None),
    ]
    alarms = [json.loads(line) for line in server.log.splitlines() if "integrity-alarm" in line]
    assert [(each["level"], each["finding"]) for each in alarms] == [("critical", "row-mac")] * 4
    for alarm, place in zip(alarms, (1, 2, 4, 1), strict=True):
        assert uuid.UUID(tokens[place]).hex in alarm["where"].replace("-", "")
    answer = ask(api, "users", create(login="atomic"), get(tokens[1]), atomic=True)
    assert answer.refuses(500, "integrity")["index"] == 1
    assert server.log.count("integrity-alarm") == 5
    assert "secret-note" not in server.log


def test_a_batch_on_a_collection_that_is_not_there(api: Api, unchanged: Callable[..., Any]) -> None:
    for operations in ([create(age=1)], [{"op": "x"}], [get("no token")]):
        with unchanged("request", "collection-not-found"):
            ask(api, "erika.mustermann", *operations).refuses(404, "collection-not-found")
    assert "erika" not in json.dumps(api.audit(limit=3))


def test_batches_need_a_credential(server: Server, make_api: Callable[..., Api]) -> None:
    ask(make_api(server.url), "users", create(age=1)).refuses(401, "not-authenticated")


def test_nothing_that_was_sent_stands_in_a_problem_or_in_the_log(
    api: Api, people: str, server: Server
) -> None:
    secret = f"hildegard{uuid.uuid4().hex[:8]}"
    token = made(api, people, login=secret)
    operations: list[Any] = [
        create(login=secret), create(age=secret), create(email=secret), create(login={secret: 1}),
        create(**{secret: [[]] * 10_001}), {"op": secret}, {"op": "create", secret: 1}, secret,
        {"op": "create", "data": secret}, {"op": "create", "data": {}, "expires_at": secret},
        {"op": "create", "data": {}, "region": secret}, get(secret), get(token, fields=[{secret: 1}]),
        get(token, reveal=secret), {"op": "get", "token": {secret: 1}}, get(token, generation=secret),
        patch(token, login=[secret]), erase(token, if_match=f'"{secret}"'), erase(token, if_match=[secret]),
        look_up(secret, secret), look_up("email", secret), look_up("login", secret, cursor=secret),
        look_up("login", [secret]),  # type: ignore[arg-type]
    ]  # fmt: skip
    for operation in operations:
        for options in ({}, {"atomic": True}):
            answer = ask(api, people, operation, **options)
            assert b'"problem"' in answer.body or answer.status >= 400, operation
            assert secret.encode() not in answer.body, operation
    answer = ask(api, people, create(age=1), **{secret: secret})
    answer.refuses(422, "body-members", ("/*other", "unknown"))
    assert secret.encode() not in answer.body
    assert secret not in server.log
    assert secret not in json.dumps(api.audit(limit=1_000))
