"""Many callers at one instant, over a real server with two workers: one wins, and nothing is half there."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.faults.live_server import Caller, LiveServer, Reply, running
from tests.faults.small_vault import IS_GATE, SmallVault, make_empty_vault, say
from tests.servers.database_homes import DatabaseHome

CREATORS = 100
ROUNDS = 5 if IS_GATE else 1
RECORDS = "/v1/collections/people/records"


@pytest.fixture(scope="module")
def made(database_home: DatabaseHome, tmp_path_factory: pytest.TempPathFactory) -> SmallVault:
    assert database_home
    return make_empty_vault(tmp_path_factory.mktemp("races") / "data")


@pytest.fixture(scope="module")
def server(made: SmallVault, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with running(made.folder, made.credential, tmp_path_factory.mktemp("log") / "server.log") as started:
        yield started


def at_once(*servers: LiveServer, requests: list[Callable[[Caller], Reply]]) -> list[Reply]:
    """Send all requests from connections that are open already, released by one barrier; to the servers in turn."""
    barrier = threading.Barrier(len(requests))

    def send(server: LiveServer, request: Callable[[Caller], Reply]) -> Reply:
        with server.caller() as caller:
            caller.connect()
            barrier.wait(30)
            return request(caller)

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(send, itertools.cycle(servers), requests))


def create(data: dict[str, Any], path: str = RECORDS, *, after: float = 0) -> Callable[[Caller], Reply]:
    def send(caller: Caller) -> Reply:
        time.sleep(after)
        return caller.ask("POST", path, {"data": data})

    return send


def count(made: SmallVault, table: str, **where: Any) -> int:
    conditions = " AND ".join(f"{name} = ?" for name in where)
    query = f"SELECT count(*) FROM {table} WHERE {conditions}"  # noqa: S608  # our own names
    ((found,),) = made.rows(query, tuple(where.values()))
    return int(found)


@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_of_racing_creates_of_one_email_one_wins(server: LiveServer, made: SmallVault, attempt: int) -> None:
    records = count(made, "record", collection="people")
    assert len(server.workers()) == 2

    replies = at_once(
        server,
        requests=[create({"email": f"only{attempt}@example.org", "note": f"n{n}"}) for n in range(CREATORS)],
    )

    outcomes = Counter(reply.status for reply in replies)
    assert outcomes == {201: 1, 409: CREATORS - 1}
    for reply in replies:
        if reply.status == 409:
            assert reply.problem == (409, "duplicate-value")
            assert [error["pointer"] for error in reply.json["errors"]] == ["/email"]
    assert count(made, "record", collection="people") - records == 1
    (winner,) = [reply.json["token"] for reply in replies if reply.status == 201]
    with server.caller() as caller:
        body = {"field": "email", "value": f"only{attempt}@example.org"}
        (item,) = caller.ask("POST", f"{RECORDS}/lookup", body).json["items"]
    assert item["token"] == winner
    assert made.findings() == []
    say(f"{CREATORS} racing creates: {dict(outcomes)}")


@pytest.mark.servers_only("a file of SQLite is held by one server at a time")
@pytest.mark.parametrize("attempt", range(ROUNDS))
def test_of_racing_creates_over_two_servers_one_wins(
    server: LiveServer, made: SmallVault, tmp_path: Path, attempt: int
) -> None:
    records = count(made, "record", collection="people")
    email = f"both{attempt}@example.org"

    with running(made.folder, made.credential, tmp_path / "second.log") as second:
        assert len({*server.workers(), *second.workers()}) == 4
        requests = [create({"email": email, "note": f"n{n}"}) for n in range(CREATORS)]
        replies = at_once(server, second, requests=requests)

        assert Counter(reply.status for reply in replies) == {201: 1, 409: CREATORS - 1}
        assert {reply.problem for reply in replies if reply.status == 409} == {(409, "duplicate-value")}
        ((number, winner),) = [(n, reply) for n, reply in enumerate(replies) if reply.status == 201]
        for each in (server, second):
            with each.caller() as caller:
                shown = caller.ask("GET", f"{RECORDS}/{winner.json['token']}?reveal=plain").json
            assert shown["data"] == {"email": email, "note": f"n{number}"}
    assert count(made, "record", collection="people") - records == 1
    assert made.findings() == []
    log = second.log.read_text()
    assert not [word for word in ("Traceback", "request-crashed", "uncaught-error") if word in log]
    say(f"{CREATORS} racing creates over two servers: 1 made, {CREATORS - 1} told so")


def test_of_racing_replaces_of_one_state_one_wins(server: LiveServer, made: SmallVault) -> None:
    with server.caller() as caller:
        first = caller.ask("POST", RECORDS, {"data": {"email": "state@example.org", "note": "0"}})
    path = f"{RECORDS}/{first.json['token']}"

    def replace(number: int) -> Callable[[Caller], Reply]:
        data = {"email": "state@example.org", "note": f"by {number}"}
        return lambda caller: caller.ask("PUT", path, {"data": data}, If_Match=first.headers["etag"])

    replies = at_once(server, requests=[replace(number) for number in range(30)])

    assert Counter(reply.status for reply in replies) == {200: 1, 412: 29}
    (winner,) = [number for number, reply in enumerate(replies) if reply.status == 200]
    with server.caller() as caller:
        shown = caller.ask("GET", f"{path}?reveal=plain").json
    assert (shown["generation"], shown["data"]["note"]) == (2, f"by {winner}")
    assert made.findings() == []


def test_replaces_without_a_condition_all_count(server: LiveServer, made: SmallVault) -> None:
    """Each writer either takes its place in the line of generations or is told that it did not."""
    with server.caller() as caller:
        token = caller.ask("POST", RECORDS, {"data": {"email": "line@example.org"}}).json["token"]
    path = f"{RECORDS}/{token}"

    replies = at_once(
        server,
        requests=[
            lambda caller, n=n: caller.ask(
                "PUT", path, {"data": {"email": "line@example.org", "note": f"{n}"}}
            )  # type: ignore[misc]
            for n in range(16)
        ],
    )

    outcomes = Counter(reply.status for reply in replies)
    assert outcomes.keys() <= {200, 503}
    assert all(reply.problem == (503, "contended") for reply in replies if reply.status == 503)
    generations = sorted(reply.json["generation"] for reply in replies if reply.status == 200)
    assert generations == list(range(2, outcomes[200] + 2))
    assert made.findings() == []


def test_erase_against_replace(server: LiveServer, made: SmallVault) -> None:
    with server.caller() as caller:
        tokens = [
            caller.ask("POST", RECORDS, {"data": {"email": f"fight{n}@example.org"}}).json["token"]
            for n in range(10)
        ]

    def replace(path: str, number: int) -> Callable[[Caller], Reply]:
        data = {"email": f"fight{number}@example.org", "city": "Rome"}
        return lambda caller: caller.ask("PUT", path, {"data": data})

    def delete(path: str) -> Callable[[Caller], Reply]:
        return lambda caller: caller.ask("DELETE", path)

    requests = []
    for number, token in enumerate(tokens):
        requests += [replace(f"{RECORDS}/{token}", number), delete(f"{RECORDS}/{token}")]
    replies = at_once(server, requests=requests)

    puts, deletes = replies[::2], replies[1::2]
    assert {reply.status for reply in deletes} == {204}
    assert {reply.status for reply in puts} <= {200, 410}
    with server.caller() as caller:
        for token in tokens:
            assert caller.ask("GET", f"{RECORDS}/{token}").problem == (410, "record-erased")
            assert count(made, "index_entry", token=bytes.fromhex(token.replace("-", ""))) == 0
    assert made.findings() == []
    say(f"erase against replace: {Counter(reply.status for reply in puts)}")


def test_creates_against_a_redefinition(server: LiveServer, made: SmallVault) -> None:
    """An index that arrives while records do: either they have their index rows, or it is refused."""
    plain = {"type": "object", "properties": {"email": {"type": "string"}}}
    indexed = {
        "type": "object",
        "properties": {"email": {"type": "string", "x-index": "lookup", "x-normalize": "email"}},
    }
    outcomes: Counter[tuple[int, int]] = Counter()
    for number in range(20 if IS_GATE else 8):
        path = f"/v1/collections/contested_{number}"
        with server.caller() as caller:
            assert caller.ask("PUT", path, {"schema": plain}).status == 201
        define = lambda caller, path=path: caller.ask("PUT", path, {"schema": indexed})  # noqa: E731
        # Some come before the redefinition, some beside it and some after.
        requests: list[Any] = [
            create({"email": f"c{n}@example.org"}, f"{path}/records", after=number * 0.002) for n in range(5)
        ]
        requests.insert(number % 6, define)

        replies = at_once(server, requests=requests)

        redefined = replies.pop(number % 6)
        created = sum(reply.status == 201 for reply in replies)
        assert redefined.status in {200, 409}, redefined.body
        assert {reply.status for reply in replies} <= {201, 503}
        rows = count(made, "index_entry", collection=f"contested_{number}")
        assert rows == (created if redefined.status == 200 else 0)
        outcomes[(redefined.status, created)] += 1
    assert made.findings() == []
    say(f"redefinitions (status, records created beside it): {dict(outcomes)}")


TWINS = 20


@pytest.mark.parametrize("kind", ["create", "batch", "atomic batch"])
@pytest.mark.parametrize("attempt", range(4 * ROUNDS))
def test_of_racing_twins_with_one_key_one_writes(
    server: LiveServer, made: SmallVault, kind: str, attempt: int
) -> None:
    records = count(made, "record", collection="people")
    data = [{"email": f"twin{attempt}.{kind[0]}{n}@example.org", "note": "n" * 2_000} for n in range(3)]
    path, body = RECORDS, {"data": data[0]}
    if kind != "create":
        operations = [{"op": "create", "data": each} for each in (*data, data[0])][: 3 + (kind == "batch")]
        path, body = f"{RECORDS}/bulk", {"operations": operations, "atomic": kind != "batch"}
    key = f"{kind.replace(' ', '-')}-{attempt}"

    replies = at_once(
        server,
        requests=[lambda caller: caller.ask("POST", path, body, Idempotency_Key=key) for _ in range(TWINS)],
    )

    done = [reply for reply in replies if reply.status in {200, 201}]
    waiting = [reply for reply in replies if reply.status == 409]
    assert len(done) + len(waiting) == TWINS, Counter(reply.status for reply in replies)
    assert Counter("idempotency-replayed" in reply.headers for reply in done)[False] == 1
    for reply in waiting:
        assert reply.problem == (409, "idempotency-in-flight")
        assert reply.headers["retry-after"] == "1"
    (winner,) = [reply for reply in done if "idempotency-replayed" not in reply.headers]
    assert {tokens_of(reply) for reply in done} == {tokens_of(winner)}
    assert count(made, "record", collection="people") - records == (1 if kind == "create" else 3)
    with server.caller() as caller:
        again = caller.ask("POST", path, body, Idempotency_Key=key)
    assert (again.headers["idempotency-replayed"], tokens_of(again)) == ("true", tokens_of(winner))
    assert made.findings() == []
    say(f"{TWINS} twins of one {kind}: 1 done, {len(done) - 1} answered again, {len(waiting)} told to wait")


def tokens_of(reply: Reply) -> tuple[str | None, ...]:
    items = reply.json.get("items", [reply.json])
    return tuple(item.get("token") for item in items)


def test_batches_against_single_writes_of_the_same_records(server: LiveServer, made: SmallVault) -> None:
    """Each single write and each operation of a batch counts, or is told that it does not."""
    with server.caller() as caller:
        tokens = [
            caller.ask("POST", RECORDS, {"data": {"email": f"line{n}@both.example.org"}}).json["token"]
            for n in range(4)
        ]

    def patch(token: str, number: int) -> dict[str, Any]:
        return {"op": "update", "token": token, "patch": {"note": f"{number}"}}

    def send(number: int) -> Callable[[Caller], Reply]:
        if number % 2:
            body = {"operations": [patch(token, number) for token in tokens], "atomic": number % 4 == 1}
            return lambda caller: caller.ask("POST", f"{RECORDS}/bulk", body)
        data = {"email": f"line{number // 2 % 4}@both.example.org", "note": f"{number}"}
        return lambda caller: caller.ask("PUT", f"{RECORDS}/{tokens[number // 2 % 4]}", {"data": data})

    replies = at_once(server, requests=[send(number) for number in range(16)])

    outcomes = Counter(reply.status for reply in replies)
    assert outcomes.keys() <= {200, 503}
    assert all(reply.problem == (503, "contended") for reply in replies if reply.status == 503)
    written: dict[str, list[int]] = {token: [] for token in tokens}
    for reply in replies:
        for item in reply.json.get("items", [reply.json]) if reply.status == 200 else []:
            written[item["token"]].append(item["generation"])
    for generations in written.values():
        assert sorted(generations) == list(range(2, len(generations) + 2))
    assert made.findings() == []
    say(f"batches against single writes: {dict(outcomes)}")


def test_the_log_of_the_server_is_quiet(server: LiveServer, made: SmallVault, tmp_path: Path) -> None:
    assert tmp_path.exists()
    assert made.findings() == []
    log = server.log.read_text()
    assert not [word for word in ("Traceback", "request-crashed", "uncaught-error") if word in log]
