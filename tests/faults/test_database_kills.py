"""kill -9 of the database server itself under load: strongroom comes back by itself, and what it acknowledged is there."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.faults.live_server import LiveServer, Reply, running, wait_for
from tests.faults.small_vault import IS_GATE, make_empty_vault, say
from tests.faults.test_kills import BROKEN, Fact, Writer, check
from tests.servers.database_homes import ServerHome, choose
from tests.servers.mariadb import Mariadb, running_mariadb
from tests.servers.postgresql import Postgresql, running_postgresql
from vault.storage.settling import SETTLE_SECONDS

pytestmark = pytest.mark.servers_only("there is no server of SQLite to kill")

ROUNDS = 20 if IS_GATE else 3
WRITERS = 6
# For longer than a commit whose end was not heard is asked after, too.
AWAY = (0.0, 0.3, SETTLE_SECONDS + 1.5)
NOTHING_WRITTEN = {"store-unavailable", "audit-unavailable", "contended"}
SERVERS: dict[str, Callable[..., Any]] = {"postgresql": running_postgresql, "mariadb": running_mariadb}


@dataclass(slots=True)
class SteadyWriter(Writer):
    """Goes on through every refusal, and leaves alone whatever it does not know the end of.

    Attributes:
        refused: how often nothing was written.
        unknown: how often nobody knew, or no answer came.
    """

    end: threading.Event = field(default_factory=threading.Event)
    refused: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        rng = random.Random(self.seed)
        while not self.end.is_set() and not self.surprises:
            with self.server.caller() as caller:
                try:
                    while not self.end.is_set() and not self.surprises:
                        self._step(caller, rng)
                except BROKEN as error:
                    self.unknown[type(error).__name__] += 1

    def _send(self, caller: Any, fact: Fact, method: str, path: str, data: dict[str, Any] | None) -> None:
        fact.asked = (method, data)
        reply: Reply = caller.ask(method, path, None if data is None else {"data": data})
        if reply.status == 503:
            self._note_refusal(fact, reply)
            time.sleep(0.02)
            return
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

    def _note_refusal(self, fact: Fact, reply: Reply) -> None:
        _, code = reply.problem
        if code in NOTHING_WRITTEN:
            # Then the state of before is the one that has to be found in the end.
            fact.asked = None
            self.refused[code] += 1
        elif code == "outcome-unknown":
            self.unknown[code] += 1
        else:
            self.surprises.append(reply.body)


@pytest.fixture
def database(
    request: pytest.FixtureRequest,
    free_port: Callable[[], int],
    missing: Callable[[str], None],
    tmp_path: Path,
) -> Iterator[Postgresql | Mariadb]:
    """A server of one's own that waits for its disk, and keeps the rows of this test's vaults."""
    start = SERVERS[request.config.getoption("--database")]
    with start(free_port, missing, durable=True) as server, choose(ServerHome(server, tmp_path)):
        yield server


def wait_for_answers(writers: list[SteadyWriter], what: str) -> float:
    """Wait until every writer has had an answer to something that it asked from now on."""
    had = [writer.answers for writer in writers]

    def all_go_on() -> bool:
        # Not the first one: that may be of a write that was under way.
        return all(
            writer.answers > before + 1 or writer.surprises
            for writer, before in zip(writers, had, strict=True)
        )

    return wait_for(all_go_on, what)


def kill_and_restart(
    database: Postgresql | Mariadb, writers: list[SteadyWriter], rng: random.Random, *, away: float
) -> float:
    """Return how many seconds after the server's return every writer went on."""
    wait_for_answers(writers, "load")
    time.sleep(rng.uniform(0.01, 0.25))
    database.server.kill()
    time.sleep(away)
    database.server.start()
    return wait_for_answers(writers, "strongroom reconnects by itself")


def load(server: LiveServer, database: Postgresql | Mariadb) -> tuple[list[SteadyWriter], float]:
    """Write through all rounds; return the writers and the longest wait after a restart."""
    writers = [SteadyWriter(server, f"w{number}", seed=number) for number in range(WRITERS)]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        longest = max(
            kill_and_restart(database, writers, random.Random(number), away=AWAY[number % len(AWAY)])
            for number in range(ROUNDS)
        )
    finally:
        for writer in writers:
            writer.end.set()
        for thread in threads:
            thread.join(60)
    assert not [thread for thread in threads if thread.is_alive()]
    assert [writer.surprises for writer in writers if writer.surprises] == []
    return writers, longest


def test_no_acknowledged_write_is_lost_when_the_database_server_is_killed(
    database: Postgresql | Mariadb, tmp_path: Path
) -> None:
    made = make_empty_vault(tmp_path / "data", history=1)
    with running(made.folder, made.credential, tmp_path / "server.log") as server:
        pids = server.workers()

        writers, longest = load(server, database)

        assert server.workers() == pids
        facts = [fact for writer in writers for fact in writer.facts]
        with server.caller() as caller:
            endings = Counter(check(caller, fact) for fact in facts if fact.asked is not None)
            for fact in facts:
                if fact.asked is None:
                    assert check(caller, fact) == ("answered" if fact.token else "absent"), fact
    assert made.findings() == []
    log = (tmp_path / "server.log").read_text()
    assert not [word for word in ("Traceback", "request-crashed", "uncaught-error") if word in log]
    refused: Counter[str] = sum((writer.refused for writer in writers), Counter())
    unknown: Counter[str] = sum((writer.unknown for writer in writers), Counter())
    say(
        f"{ROUNDS} kills of {database.scheme}: {sum(writer.answers for writer in writers):,} acknowledged writes, 0 lost; "
        f"refused {dict(refused)}, none written; unknown {dict(unknown)}, of which {dict(endings)}; "
        f"service at most {longest:.1f} s after the database"
    )
    assert refused
    assert sum(endings.values()) == sum(unknown.values())
