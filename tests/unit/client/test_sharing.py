"""One client in many threads, and in processes that were forked after it was made."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest

import strongroom
from strongroom import Client

CREDENTIAL = "strongroom_" + "Zx9_-" * 8 + "abc"
THREADS = 8
CALLS = 50

FORKING = """
import os, sys
from uuid import UUID
from strongroom import Client

url, children, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
vault = Client(url)

def ask(person):
    for call in range(calls):
        token = UUID(int=person * 1000 + call)
        if vault.get("users", token).token != token:
            os._exit(1)

ask(0)  # the parent has a connection to hand on
started = []
for child in range(1, children + 1):
    pid = os.fork()
    if pid == 0:
        try:
            ask(child)
        except BaseException:
            os._exit(2)
        os._exit(0)
    started.append(pid)
ask(children + 1)
endings = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started]
vault.close()
sys.exit(0 if endings == [0] * children else f"{endings}")
"""


def record_of(asked: Any) -> Any:
    """Answer with the record that was asked for, and no other."""
    return {
        "token": asked.path.rpartition("/")[2].partition("?")[0],
        "collection": "users",
        "generation": 1,
        "schema_version": 1,
        "created_at": "2026-11-23T14:00:00Z",
        "updated_at": "2026-11-23T14:00:00Z",
        "expires_at": None,
        "data": {},
        "reveal": "masked",
        "masked": [],
    }


def test_threads_share_a_client(server: Any) -> None:
    server.always = record_of
    everybody = threading.Barrier(THREADS)

    def ask(person: int) -> int:
        everybody.wait(10)
        tokens = [UUID(int=person * 1000 + call) for call in range(CALLS)]
        return sum(client.get("users", token).token == token for token in tokens)

    with Client(server.url, credential=CREDENTIAL) as client, ThreadPoolExecutor(THREADS) as threads:
        assert sum(threads.map(ask, range(THREADS))) == THREADS * CALLS
    assert len(server.asked) == THREADS * CALLS
    assert server.connections <= THREADS


def test_a_client_closed_by_another_thread_says_so(server: Any) -> None:
    server.always = record_of
    asked = threading.Event()

    def ask() -> str:
        try:
            while True:
                client.get("users", UUID(int=1))
                asked.set()
        except strongroom.ConnectionFailed as error:
            return error.code

    with Client(server.url) as client, ThreadPoolExecutor(1) as threads:
        ended = threads.submit(ask)
        assert asked.wait(10)
        client.close()
        assert ended.result(10) == "client-closed"


def test_forked_processes_make_connections_of_their_own(server: Any) -> None:
    server.always = record_of
    children = 4
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKING, server.url, str(children), str(CALLS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(server.asked) == (children + 2) * CALLS
    assert server.connections == children + 1


def test_a_child_of_a_closed_client_does_not_open_it_again(
    server: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.close()
    monkeypatch.setattr("vault.client.transport.os.getpid", lambda: -1)
    with pytest.raises(strongroom.ConnectionFailed, match="closed"):
        client.ready()
    assert server.connections == 0
