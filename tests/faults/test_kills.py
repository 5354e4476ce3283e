"""kill -9 under load: what was acknowledged is there, what was not is whole or absent."""

from __future__ import annotations

import http.client
import os
import random
import signal
import sys
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.live_server import LiveServer, is_alive, running, wait_for
from tests.faults.small_vault import IS_GATE, SmallVault, make_empty_vault, say
from tests.servers.database_homes import DatabaseHome
from vault.core.rows import RecordRow

WRITERS = 8
RECORDS = "/v1/collections/people/records"
BROKEN = (OSError, http.client.HTTPException)


@dataclass(slots=True)
class Fact:
    """What one writer knows of one record: its last acknowledged state, and what may have happened since.

    Attributes:
        data: the acknowledged document; None if none was, or if the record was erased.
        asked: the request that got no answer: its method and document.
    """

    email: str
    token: str | None = None
    generation: int = 0
    data: dict[str, Any] | None = None
    is_erased: bool = False
    asked: tuple[str, dict[str, Any] | None] | None = None


@dataclass(slots=True)
class Writer:
    """Creates, replaces and erases its own records until the connection breaks."""

    server: LiveServer
    name: str
    seed: int
    facts: list[Fact] = field(default_factory=list)
    answers: int = 0
    surprises: list[bytes] = field(default_factory=list)

    def run(self) -> None:
        rng = random.Random(self.seed)
        with self.server.caller() as caller:
            try:
                while not self.surprises:
                    self._step(caller, rng)
            except BROKEN:
                return

    def _step(self, caller: Any, rng: random.Random) -> None:
        live = [fact for fact in self.facts if fact.data is not None and fact.asked is None]
        choice = rng.random()
        if not live or choice < 0.45:
            fact = Fact(email=f"{self.name}.{len(self.facts)}@example.org")
            self.facts.append(fact)
            self._send(caller, fact, "POST", RECORDS, self._document(fact, rng))
        elif choice < 0.8:
            fact = rng.choice(live)
            self._send(caller, fact, "PUT", f"{RECORDS}/{fact.token}", self._document(fact, rng))
        else:
            fact = rng.choice(live)
            self._send(caller, fact, "DELETE", f"{RECORDS}/{fact.token}", None)

    def _document(self, fact: Fact, rng: random.Random) -> dict[str, Any]:
        note = "n" * rng.choice((10, 1_000, 20_000))
        return {"email": fact.email, "city": rng.choice(("Rome", "Oslo")), "note": f"{rng.random()}{note}"}

    def _send(self, caller: Any, fact: Fact, method: str, path: str, data: dict[str, Any] | None) -> None:
        fact.asked = (method, data)
        reply = caller.ask(method, path, None if data is None else {"data": data})
        if reply.status not in {200, 201, 204}:
            self.surprises.append(reply.body)
            return
        fact.asked = None
        self.answers += 1
        fact.data = data
        if data is None:
            fact.is_erased = True
        else:
            fact.token, fact.generation = reply.json["token"], reply.json["generation"]


def load_until_killed(server: LiveServer, number: int) -> list[Writer]:
    writers = [Writer(server, f"r{number}w{n}", seed=number * 100 + n) for n in range(WRITERS)]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    for thread in threads:
        thread.start()
    # Never sleep and hope: the kill comes after every writer has had answers.
    wait_for(lambda: all(writer.answers > 0 or writer.surprises for writer in writers), "load")
    time.sleep(random.Random(number).uniform(0.01, 0.25))
    server.kill_all()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive()
    assert [writer.surprises for writer in writers if writer.surprises] == []
    return writers


def check(caller: Any, fact: Fact) -> str:
    """Compare one record with what its writer knows; return how its unanswered request ended, if it had one."""
    if fact.token is None:
        return check_unanswered_create(caller, fact)
    reply = caller.ask("GET", f"{RECORDS}/{fact.token}?reveal=plain")
    if fact.is_erased:
        assert reply.problem == (410, "record-erased"), fact
        return "answered"
    if fact.asked is None:
        assert reply.status == 200, (fact, reply.body)
        assert (reply.json["generation"], reply.json["data"]) == (fact.generation, fact.data)
        return "answered"
    method, data = fact.asked
    if reply.status == 200 and reply.json["generation"] == fact.generation:
        assert reply.json["data"] == fact.data
        return "absent"
    if method == "DELETE":
        assert reply.problem == (410, "record-erased")
    else:
        assert (reply.json["generation"], reply.json["data"]) == (fact.generation + 1, data)
    return "whole"


def check_unanswered_create(caller: Any, fact: Fact) -> str:
    body = {"field": "email", "value": fact.email, "reveal": "plain"}
    items = caller.ask("POST", f"{RECORDS}/lookup", body).json["items"]
    if not items:
        return "absent"
    assert fact.asked is not None
    assert [(item["generation"], item["data"]) for item in items] == [(1, fact.asked[1])]
    return "whole"


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    if request.config.getoption("--database") == "sqlite":
        return 200 if IS_GATE else 20
    return 20 if IS_GATE else 3


@pytest.fixture
def made(database_home: DatabaseHome, tmp_path: Path) -> SmallVault:
    assert database_home
    return make_empty_vault(tmp_path / "data", history=1)


def test_no_acknowledged_write_is_lost_by_kill_9(made: SmallVault, rounds: int, tmp_path: Path) -> None:
    acknowledged = in_flight = rounds_in_mid_write = 0
    endings: Counter[str] = Counter()
    everything: list[Fact] = []
    with running(made.folder, made.credential, tmp_path / "server.log") as server:
        for number in range(rounds):
            writers = load_until_killed(server, number)
            facts = [fact for writer in writers for fact in writer.facts]
            unanswered = sum(fact.asked is not None for fact in facts)
            acknowledged += sum(writer.answers for writer in writers)
            in_flight += unanswered
            rounds_in_mid_write += unanswered > 0

            server.start()

            with server.caller() as caller:
                endings.update(check(caller, fact) for fact in facts)
            assert made.findings() == []
            everything += facts
        with server.caller() as caller:
            assert Counter(check(caller, fact) for fact in everything) == endings
    log = (tmp_path / "server.log").read_text()
    assert not [word for word in ("Traceback", "request-crashed", "uncaught-error") if word in log]
    say(
        f"{rounds} kills: {acknowledged:,} acknowledged writes, 0 lost; {in_flight} requests in flight in "
        f"{rounds_in_mid_write} rounds, of which {endings['whole']} whole and {endings['absent']} absent"
    )
    assert rounds_in_mid_write >= 0.9 * rounds
    assert endings["absent"] > 0
    # In a few rounds every kill may come before the commits.
    assert endings["whole"] > 0 or rounds < 20


def test_workers_end_when_their_server_is_killed(made: SmallVault, tmp_path: Path) -> None:
    with running(made.folder, made.credential, tmp_path / "server.log") as server:
        workers = server.workers()
        assert len(workers) == 2

        server.kill_parent()

        seconds = wait_for(lambda: not any(map(is_alive, workers)), "orphans end", seconds=8)
        server.start()
        with server.caller() as caller:
            assert caller.ask("POST", RECORDS, {"data": {"email": "a@example.org"}}).status == 201
        assert not set(server.workers()) & set(workers)
    say(f"orphans ended {seconds:.1f} s after their server")
    assert made.findings() == []


def creates(server: LiveServer, name: str) -> bool:
    """Whether a record can be created over a new connection."""
    with server.caller() as caller:
        try:
            reply = caller.ask("POST", RECORDS, {"data": {"email": f"{name}@example.org"}})
        except BROKEN:
            return False
    assert reply.status == 201, reply.body
    return True


def test_a_killed_worker_comes_back_and_service_goes_on(made: SmallVault, tmp_path: Path) -> None:
    with running(made.folder, made.credential, tmp_path / "server.log") as server:
        # Each of the first two once: granian takes a worker that dies twice within 5.5 s for a crash loop and ends.
        for number, victim in enumerate(server.workers()):
            (survivor,) = set(server.workers()) - {victim}
            os.kill(victim, signal.SIGKILL)
            # The other worker may still be starting: then it takes a moment, and no longer.
            waited = wait_for(
                lambda number=number: creates(server, f"first{number}.{time.monotonic_ns()}"),  # type: ignore[misc]
                "service after a kill",
                seconds=5,
            )
            done = [creates(server, f"{number}.{n}") for n in range(30)]
            assert done.count(False) <= 1
            say(f"a worker killed: first answer after {waited:.2f} s")
            wait_for(lambda: len(server.workers()) == 2, "worker is back")
            assert survivor in server.workers()
            assert victim not in server.workers()
    assert made.findings() == []


BULK = f"{RECORDS}/bulk"
OPERATIONS = 20


@dataclass(slots=True)
class BatchWriter:
    """Sends batches: creates, and updates and erasures of what its batch before stored, until the connection breaks.

    Attributes:
        batches: the e-mail addresses of each batch's creates.
        unanswered: the last batch, if no answer came: what it changes of the one before.
    """

    server: LiveServer
    name: str
    seed: int
    batches: list[list[str]] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    unanswered: list[dict[str, Any]] = field(default_factory=list)
    answers: int = 0
    surprises: list[bytes] = field(default_factory=list)

    def run(self) -> None:
        rng = random.Random(self.seed)
        with self.server.caller() as caller:
            try:
                while not self.surprises:
                    self._step(caller, rng)
            except BROKEN:
                return

    def _step(self, caller: Any, rng: random.Random) -> None:
        emails = [f"{self.name}.{len(self.batches)}.{n}@example.org" for n in range(OPERATIONS)]
        operations: list[dict[str, Any]] = [
            {"op": "create", "data": {"email": email, "city": "Rome", "note": "n" * rng.choice((10, 9_000))}}
            for email in emails
        ]
        for number, token in enumerate(self.last):
            change = {"op": "update", "token": token, "patch": {"city": "Oslo"}}
            operations.append(change if number % 2 else {"op": "erase", "token": token})
        rng.shuffle(operations)
        self.batches.append(emails)
        self.unanswered = operations
        body = {"operations": operations, "atomic": rng.random() < 0.5}
        reply = caller.ask("POST", BULK, body)
        if reply.status != 200 or reply.json["failed"]:
            self.surprises.append(reply.body)
            return
        self.unanswered = []
        self.answers += 1
        items = reply.json["items"]
        self.last = [item["token"] for item in items if item["status"] == 201]


def check_batches(caller: Any, writer: BatchWriter) -> str:
    """Each batch is there whole or not at all; return how the unanswered one ended."""
    found = [found_of(caller, emails) for emails in writer.batches]
    is_whole = bool(found[writer.answers :] == [OPERATIONS])
    # Each batch erases half of what the one before it stored.
    done = writer.answers + is_whole
    assert found[:done] == [OPERATIONS // 2] * (done - 1) + [OPERATIONS], writer.name
    assert found[done:] == [0] * (len(found) - done), writer.name
    if not writer.unanswered:
        return "answered"
    for operation in writer.unanswered:
        if operation["op"] == "create":
            continue
        reply = caller.ask("GET", f"{RECORDS}/{operation['token']}?reveal=plain")
        if operation["op"] == "erase":
            assert reply.status == (410 if is_whole else 200)
        else:
            assert reply.json["data"]["city"] == ("Oslo" if is_whole else "Rome")
    return "whole" if is_whole else "absent"


def found_of(caller: Any, emails: list[str]) -> int:
    """How many of these are stored."""
    lookups = [{"op": "lookup", "field": "email", "value": email} for email in emails]
    items = caller.ask("POST", BULK, {"operations": lookups}).json["items"]
    return sum(len(item["items"]) for item in items)


def test_each_batch_is_whole_or_absent_after_kill_9(made: SmallVault, rounds: int, tmp_path: Path) -> None:
    endings: Counter[str] = Counter()
    answers = 0
    with running(made.folder, made.credential, tmp_path / "server.log") as server:
        for number in range(max(2, rounds // 2)):
            writers = [BatchWriter(server, f"b{number}w{n}", seed=number * 100 + n) for n in range(4)]
            threads = [threading.Thread(target=writer.run) for writer in writers]
            for thread in threads:
                thread.start()
            wait_for(lambda: all(writer.answers or writer.surprises for writer in writers), "load")  # noqa: B023
            time.sleep(random.Random(number).uniform(0.01, 0.25))
            server.kill_all()
            for thread in threads:
                thread.join(40)
                assert not thread.is_alive()
            assert [writer.surprises for writer in writers if writer.surprises] == []
            answers += sum(writer.answers for writer in writers)

            server.start()

            with server.caller() as caller:
                endings.update(check_batches(caller, writer) for writer in writers)
            assert made.findings() == []
    say(
        f"{max(2, rounds // 2)} kills under batches: {answers:,} acknowledged, 0 lost; unanswered: {dict(endings)}"
    )
    assert endings["absent"] > 0


class EndsAfterCommit(LiveServer):
    """A server that is killed, with all its processes, right after a commit, as long as a file is there."""

    def command(self) -> list[str]:
        flag = str(self.data.parent / "end-after-commit")
        program = f"""
import os, signal
from vault.storage.records import SqlRecordStore
def ends_after(whole):
    def commit_and_end(self, write):
        done = whole(self, write)
        if os.path.exists({flag!r}):
            os.killpg(0, signal.SIGKILL)
        return done
    return commit_and_end
SqlRecordStore.create = ends_after(SqlRecordStore.create)
SqlRecordStore.batch = ends_after(SqlRecordStore.batch)
import vault.cli
vault.cli.main()
"""
        return [sys.executable, "-P", "-c", program]


def tokens_in(made: SmallVault) -> list[str]:
    with made.opened() as vault:
        return [str(uuid.UUID(bytes=row.token)) for row in vault.stores.inspector.rows(RecordRow)]


def test_a_request_whose_answer_was_lost_is_answered_when_it_comes_again(
    made: SmallVault, rounds: int, tmp_path: Path
) -> None:
    """The server ends between commit and answer; the same request with its key gives what was stored."""
    flag = made.folder.parent / "end-after-commit"
    server = EndsAfterCommit(made.folder, made.credential, tmp_path / "server.log")
    try:
        server.start()
        stored: list[str] = []
        for number in range(rounds):
            data = [{"email": f"lost{number}.{n}@example.org"} for n in range(3)]
            path, body = (
                (RECORDS, {"data": data[0]})
                if number % 2
                else (BULK, {"operations": [{"op": "create", "data": each} for each in data]})
            )
            flag.touch()
            with server.caller() as caller, pytest.raises(BROKEN):
                caller.ask("POST", path, body, Idempotency_Key=f"key-{number}")
            server.wait_ended()
            flag.unlink()
            new = tokens_in(made)[len(stored) :]
            assert len(new) == (1 if number % 2 else 3)
            stored += new

            server.start()

            for _ in range(2):
                with server.caller() as caller:
                    reply = caller.ask("POST", path, body, Idempotency_Key=f"key-{number}")
                assert reply.headers["idempotency-replayed"] == "true"
                if number % 2:
                    assert (reply.status, [reply.json["token"]]) == (201, new)
                else:
                    assert [(item["status"], item["token"]) for item in reply.json["items"]] == [
                        (201, token) for token in new
                    ]
            assert tokens_in(made) == stored
        assert made.findings() == []
    finally:
        flag.unlink(missing_ok=True)
        server.stop()
    say(f"{rounds} answers lost after the commit: {len(stored)} records, none twice")
