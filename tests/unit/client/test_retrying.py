from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

import strongroom
from strongroom import Client, Create, Erase, Get, Lookup, Person, StrongroomError, Update
from vault.client.retrying import RetryPolicy, advised_seconds

TOKEN = "6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f"
CREDENTIAL = "strongroom_" + "Zx9_-" * 8 + "abc"

Call = Callable[[Client], Any]
READS: dict[str, Call] = {
    "get": lambda c: c.get("users", TOKEN),
    "list": lambda c: list(c.list("users")),
    "lookup": lambda c: list(c.lookup("users", "email", "ada@example.com")),
    "audit": lambda c: list(c.audit(person=Person(collection="users", field="email", value="x"))),
    "batch of reads": lambda c: c.bulk("users", [Get(TOKEN), Lookup("email", "x")]),
    "dry run": lambda c: c.bulk("users", [Create({})], dry_run=True),
}
KEYED: dict[str, Call] = {
    "create": lambda c: c.create("users", {}),
    "batch of writes": lambda c: c.bulk("users", [Create({}), Erase(TOKEN)], atomic=True),
    "create_many": lambda c: list(c.create_many("users", [{}])),
}
BARE: dict[str, Call] = {
    "replace": lambda c: c.replace("users", TOKEN, {}),
    "patch": lambda c: c.patch("users", TOKEN, {}),
    "erase": lambda c: c.erase("users", TOKEN),
    "mixed batch": lambda c: c.bulk("users", [Update(TOKEN, patch={}), Get(TOKEN)]),
    "define": lambda c: c.define_collection("users", {}),
}


def cases(calls: dict[str, Call]) -> Any:
    return pytest.mark.parametrize("call", calls.values(), ids=calls.keys())


def given_up(call: Call, client: Client) -> StrongroomError:
    with pytest.raises(StrongroomError) as caught:
        call(client)
    return caught.value


@cases(READS | KEYED | BARE)
@pytest.mark.parametrize(("status", "code"), [(503, "keys-unavailable"), (429, "too-many-requests")])
def test_what_the_vault_did_not_do_is_sent_again(
    server: Any, persistent: Client, clock: Any, call: Call, status: int, code: str
) -> None:
    for _ in range(2):
        server.will_refuse(status, code, headers={"Retry-After": "2"})
    server.will_refuse(404, "collection-not-found")
    error = given_up(call, persistent)
    assert (type(error), error.attempts, error.outcome_unknown) == (strongroom.NotFound, 3, False)
    assert all(2 <= pause <= 3 for pause in clock.pauses)
    assert len({(asked.method, asked.path, asked.body) for asked in server.asked}) == 1
    assert len({asked.headers.get("Idempotency-Key") for asked in server.asked}) == 1


def test_pauses_differ(server: Any, persistent: Client, clock: Any) -> None:
    for _ in range(4):
        server.will_refuse(503, "busy", headers={"Retry-After": "2"})
    server.will_answer({"items": [], "next_cursor": None})
    assert list(persistent.list("users")) == []
    assert len(set(clock.pauses)) == 4


def test_pauses_grow_where_nobody_says_how_long(server: Any, persistent: Client, clock: Any) -> None:
    for _ in range(5):
        server.will_hang_up()
    assert given_up(READS["get"], persistent).attempts == 5
    first, *later = clock.pauses
    assert first == 0
    assert [low <= pause <= 1.5 * low for pause, low in zip(later, (0.5, 1, 2), strict=True)] == [True] * 3


@cases(READS | KEYED)
def test_a_lost_answer_is_asked_for_again_where_that_does_nothing_twice(
    server: Any, persistent: Client, call: Call
) -> None:
    server.will_hang_up()
    server.will_hang_up()
    server.will_refuse(404, "collection-not-found")
    error = given_up(call, persistent)
    assert (error.attempts, error.outcome_unknown) == (3, False)
    assert len({asked.headers.get("Idempotency-Key") for asked in server.asked}) == 1


@cases(BARE)
def test_another_write_is_never_sent_twice(server: Any, persistent: Client, call: Call) -> None:
    server.will_hang_up()
    error = given_up(call, persistent)
    assert (error.code, error.attempts, error.outcome_unknown) == ("connection-lost", 1, True)
    assert error.idempotency_key is None
    assert len(server.asked) == 1
    assert "Idempotency-Key" not in server.asked[0].headers


@pytest.mark.parametrize(("calls", "expected"), [(READS, 2), (KEYED, 2), (BARE, 1)])
@pytest.mark.usefixtures("clock")
def test_a_silent_server(server: Any, calls: dict[str, Call], expected: int) -> None:
    event = threading.Event()
    call = next(iter(calls.values()))
    with Client(server.url, credential=CREDENTIAL, timeout_seconds=0.1, retries=1) as client:
        for _ in range(2):
            server.will_be_silent_for(event)
        error = given_up(call, client)
    event.set()
    assert (error.code, error.attempts) == ("timeout", expected)
    assert error.outcome_unknown == (calls is not READS)


@cases(READS | KEYED | BARE)
def test_what_nobody_took_is_sent_again(clock: Any, call: Call) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with Client(f"http://127.0.0.1:{taken.getsockname()[1]}") as client:
            error = given_up(call, client)
    assert (error.code, error.attempts, error.outcome_unknown) == ("connection-refused", 5, False)
    assert len(clock.pauses) == 4


@pytest.mark.parametrize(("calls", "is_repeated"), [(READS, True), (KEYED, True), (BARE, False)])
def test_an_unknown_commit(
    server: Any, persistent: Client, calls: dict[str, Call], *, is_repeated: bool
) -> None:
    for number, call in enumerate(calls.values(), 1):
        for _ in range(5 if is_repeated else 1):
            server.will_refuse(503, "outcome-unknown", headers={"Retry-After": "1"})
        error = given_up(call, persistent)
        assert isinstance(error, strongroom.Unavailable)
        assert error.attempts == (5 if is_repeated else 1)
        assert error.outcome_unknown == (calls is not READS)
        assert len(server.asked) == number * error.attempts


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize(("calls", "is_repeated"), [(READS, True), (KEYED, True), (BARE, False)])
def test_a_proxy_that_speaks_for_the_vault_may_have_passed_the_request_on(
    server: Any, persistent: Client, calls: dict[str, Call], status: int, *, is_repeated: bool
) -> None:
    for _ in range(5 if is_repeated else 1):
        server.will_send(b"<html>Bad gateway</html>", status=status)
    error = given_up(next(iter(calls.values())), persistent)
    assert (error.status, error.attempts) == (status, 5 if is_repeated else 1)
    assert error.outcome_unknown == (calls is not READS)


@cases(KEYED)
def test_a_twin_at_work_is_waited_for(server: Any, persistent: Client, clock: Any, call: Call) -> None:
    for _ in range(2):
        server.will_refuse(409, "idempotency-in-flight", headers={"Retry-After": "1"})
    server.will_refuse(410, "record-erased")
    error = given_up(call, persistent)
    assert (type(error), error.attempts, error.outcome_unknown) == (strongroom.Gone, 3, False)
    assert all(1 <= pause <= 1.5 for pause in clock.pauses)


def test_a_twin_that_works_too_long(server: Any, persistent: Client) -> None:
    for _ in range(5):
        server.will_refuse(409, "idempotency-in-flight", headers={"Retry-After": "1"})
    error = given_up(KEYED["create"], persistent)
    assert (type(error), error.retry_after_seconds) == (strongroom.Conflict, 1)
    assert error.outcome_unknown
    assert error.idempotency_key == server.asked[0].headers["Idempotency-Key"]


@pytest.mark.parametrize(
    ("status", "code", "is_settled"),
    [
        (409, "duplicate-value", True),
        (422, "schema-violation", True),
        (404, "collection-not-found", True),
        (410, "record-erased", True),
        (401, "not-authenticated", False),
        (403, "not-authorized", False),
        (500, "internal", False),
    ],
)
def test_only_an_answer_that_looked_at_the_request_settles_what_was_open(
    server: Any, persistent: Client, status: int, code: str, *, is_settled: bool
) -> None:
    server.will_hang_up()
    server.will_refuse(status, code)
    error = given_up(KEYED["create"], persistent)
    assert (error.status, error.attempts, error.outcome_unknown) == (status, 2, not is_settled)
    assert ("outcome unknown" in str(error)) is not is_settled
    assert "tried 2 times" in str(error)


def test_what_was_open_stays_open_while_the_vault_is_away(server: Any, persistent: Client) -> None:
    server.will_hang_up()
    for _ in range(4):
        server.will_refuse(503, "busy", headers={"Retry-After": "1"})
    error = given_up(KEYED["create"], persistent)
    assert (error.code, error.attempts, error.outcome_unknown) == ("busy", 5, True)
    server.will_answer({"items": [{"status": 201}], "failed": 0}, headers={"Idempotency-Replayed": "true"})
    again = persistent.bulk("users", [Create({})], idempotency_key=error.idempotency_key)
    assert again.replayed
    assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 1


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "malformed-body"), (401, "not-authenticated"), (409, "duplicate-value"), (413, "too-large"),
     (409, "conflict"), (500, "internal"), (500, "integrity")],
)  # fmt: skip
def test_an_answer_is_an_answer(server: Any, persistent: Client, clock: Any, status: int, code: str) -> None:
    # urllib3 by itself would send again what was refused as too large, if it is told to come back later.
    server.will_refuse(status, code, headers={"Retry-After": "1"})
    error = given_up(KEYED["create"], persistent)
    assert (error.status, error.attempts) == (status, 1)
    assert clock.pauses == []


def test_the_last_error_comes_as_it_is(server: Any, persistent: Client) -> None:
    for number in range(5):
        server.will_refuse(503, "busy", headers={"Retry-After": "1"}, request_id=f"req-{number}")
    error = given_up(READS["get"], persistent)
    assert (error.code, error.request_id, error.attempts) == ("busy", "req-4", 5)
    assert str(error) == "A sentence. (busy, request req-4, tried 5 times)"
    assert error.__cause__ is None


@pytest.mark.parametrize("seconds", [0, 30, 600])
def test_no_try_starts_after_the_time_given(server: Any, clock: Any, seconds: float) -> None:
    with Client(server.url, retries=1000, retry_seconds=seconds) as client:
        for _ in range(200):
            server.will_refuse(503, "busy", headers={"Retry-After": "4"})
        error = given_up(READS["get"], client)
    assert clock.now <= seconds
    assert clock.now + 12 > seconds  # the longest pause
    assert error.attempts == len(server.asked) == len(clock.pauses) + 1


def test_a_vault_that_wants_a_longer_pause_than_there_is_time_gets_no_second_try(
    server: Any, persistent: Client, clock: Any
) -> None:
    server.will_refuse(503, "busy", headers={"Retry-After": "31"})
    error = given_up(READS["get"], persistent)
    assert (error.attempts, error.retry_after_seconds, clock.pauses) == (1, 31, [])


def test_a_thousand_tries_and_no_more(clock: Any) -> None:
    tries = RetryPolicy(1000, float("inf")).begin(reads=False, key=None, waits=True)
    error = strongroom.ConnectionFailed("Nobody.", code="connection-refused")
    while tries.go_on_after(error):
        pass
    assert (tries.count, error.attempts, len(clock.pauses)) == (1001, 1001, 1000)
    assert max(clock.pauses) <= 12


@cases(READS | KEYED | BARE)
def test_retries_can_be_switched_off(server: Any, client: Client, clock: Any, call: Call) -> None:
    server.will_refuse(503, "busy", headers={"Retry-After": "1"})
    assert given_up(call, client).attempts == 1
    server.will_hang_up()
    assert given_up(call, client).attempts == 1
    assert clock.pauses == []


@pytest.mark.parametrize(
    "settings", [{"retries": -1}, {"retries": 1001}, {"retry_seconds": -1}, {"retry_seconds": float("nan")}]
)
def test_other_numbers_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(strongroom.Misconfigured, match=r"from 0") as caught:
        Client(**settings)
    assert caught.value.code == "retries"


def test_ready_answers_at_once(server: Any, persistent: Client, clock: Any) -> None:
    server.will_answer({"status": "not ready"}, status=503)
    server.will_refuse(503, "busy", headers={"Retry-After": "1"})
    assert [persistent.ready(), persistent.ready()] == [False, False]
    # A kept connection may have died of old age: this much is tried.
    server.will_hang_up()
    server.will_answer({"status": "ready"})
    assert persistent.ready()
    server.will_hang_up()
    server.will_hang_up()
    assert given_up(lambda client: client.ready(), persistent).attempts == 2
    assert clock.pauses == [0, 0]


def test_every_exchange_is_observed(server: Any) -> None:
    seen: list[strongroom.Exchange] = []
    server.will_hang_up()
    server.will_hang_up()
    server.will_refuse(404, "collection-not-found")
    with Client(server.url, observer=seen.append) as client:
        given_up(KEYED["create"], client)
    assert [(each.status, each.attempt) for each in seen] == [(None, 1), (None, 2), (404, 3)]


def test_a_key_is_given_or_made(server: Any, client: Client, metadata: dict[str, Any]) -> None:
    for _ in range(3):
        server.will_answer(metadata, status=201)
    server.will_answer(metadata, status=201, headers={"Idempotency-Replayed": "true"})
    made = [client.create("users", {}) for _ in range(2)]
    made += [client.create("users", {}, idempotency_key="order-17!~") for _ in range(2)]
    keys = [asked.headers["Idempotency-Key"] for asked in server.asked]
    assert len(set(keys)) == 3
    assert keys[2:] == ["order-17!~"] * 2
    assert [each.replayed for each in made] == [False, False, False, True]
    assert made[2] != made[3]


@pytest.mark.parametrize("key", ["", "x" * 129, "two words", "line\r\nX-Other: 1", "naïve", "tab\t"])
@pytest.mark.parametrize(
    "call",
    [
        lambda c, key: c.create("users", {}, idempotency_key=key),
        lambda c, key: c.bulk("users", [Create({})], idempotency_key=key),
        lambda c, key: c.create_many("users", [{}], idempotency_key=key or " "),
    ],
)
def test_a_key_that_is_no_key_is_not_sent(server: Any, client: Client, call: Any, key: str) -> None:
    with pytest.raises(ValueError, match="1 to 128 visible ASCII"):
        call(client, key)
    assert server.asked == []


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("soon", None),
        ("-3", None),
        ("²", None),
        ("9" * 5000, None),
        ("Wed, 99 Foo 2026 99:99:99 GMT", None),
        ("Wed, 21 Oct 99999999 07:28:00 GMT", None),
        ("0", 1),
        (" 7 ", 7),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1),
    ],
)
def test_what_retry_after_says(header: str | None, seconds: int | None) -> None:
    assert advised_seconds(header) == seconds
