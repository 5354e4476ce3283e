"""kill -9 under load: what was acknowledged is there, what was not is whole or absent."""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.live_server import LiveServer, is_alive, running, wait_for
from tests.faults.small_vault import IS_GATE, SmallVault, make_empty_vault, say

ROUNDS = 200 if IS_GATE else 20
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
        live = [fact for fact in self.facts if fact.data is not None]
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
def made(tmp_path: Path) -> SmallVault:
    return make_empty_vault(tmp_path / "data", history=1)


def test_no_acknowledged_write_is_lost_by_kill_9(made: SmallVault, tmp_path: Path) -> None:
    acknowledged = in_flight = rounds_in_mid_write = 0
    endings: Counter[str] = Counter()
    everything: list[Fact] = []
    with running(made.folder, made.credential, tmp_path / "server.log") as server:
        for number in range(ROUNDS):
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
        f"{ROUNDS} kills: {acknowledged:,} acknowledged writes, 0 lost; {in_flight} requests in flight in "
        f"{rounds_in_mid_write} rounds, of which {endings['whole']} whole and {endings['absent']} absent"
    )
    assert rounds_in_mid_write >= 0.9 * ROUNDS
    assert endings["whole"] > 0
    assert endings["absent"] > 0


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
