"""Background workers as real processes: what they erase, how they end, and that there is never one too many."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import waiting
from tests.faults.away_provider import AwayProvider
from tests.servers.database_homes import chosen_home, variables_for
from vault.api.server import KILL_TIMEOUT_SECONDS

if TYPE_CHECKING:
    from conftest import Api, Server

pytestmark = pytest.mark.own_home

Run = Callable[..., subprocess.CompletedProcess[str]]
QUICK = {"STRONGROOM_WORKER__INTERVAL_SECONDS": "1"}
until = functools.partial(waiting.until, seconds=40.0)
ERASED = "SELECT count(*) FROM record WHERE erased_at IS NOT NULL"
ENTRIES = "SELECT token, principal, reason FROM audit_entry WHERE action = 'record.erase' ORDER BY id"
RECORDS = "/v1/collections/users/records"


def soon(seconds: float = 1.0) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def expires_and_disappears(api: Api, what: str) -> None:
    path = api.create({"n": 1}, expires_at=soon())
    until(lambda: "urn:strongroom:error:record-erased" in api.get(path).body.decode(), what)


def token_of(path: str) -> bytes:
    return uuid.UUID(path.rpartition("/")[2]).bytes


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def background_workers(server: Server) -> list[int]:
    """The process ids of the server's children that are background workers."""
    try:
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        # A child of the thread that watches it is listed with that thread.
        for task in Path(f"/proc/{server.pid}/task").iterdir():
            children += (task / "children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    found = []
    for child in set(children):
        try:
            arguments = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"worker" in arguments:
            found.append(int(child))
    return found


def the_worker(server: Server) -> int:
    (pid,) = until(lambda: background_workers(server), "a background worker")
    return int(pid)


def roles(server: Server) -> Counter[str]:
    return Counter(role for (role,) in server.rows("SELECT role FROM process"))


@pytest.fixture(scope="module")
def quick(start_server: Callable[..., Server]) -> Server:
    """A server whose background worker looks every second."""
    return start_server(environment=QUICK)


class Process:
    """``strongroom worker`` on its own."""

    def __init__(self, log: Path, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        self.log_path = log
        kept = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vault.cli", "worker", *arguments],
                env=kept | variables_for(arguments) | QUICK | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def says(self, text: str) -> None:
        until(lambda: text in self.log or self.process.poll() is not None, f"the worker says {text}")
        assert text in self.log, self.log

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def start_worker() -> Iterator[Callable[..., Process]]:
    started: list[Process] = []

    def start(*arguments: str | Path, environment: dict[str, str] | None = None) -> Process:
        descriptor, name = tempfile.mkstemp(prefix="worker-", suffix=".log")
        os.close(descriptor)
        started.append(Process(Path(name), tuple(map(str, arguments)), environment or {}))
        return started[-1]

    yield start
    for worker in started:
        worker.stop()
        worker.log_path.unlink()


def test_an_expired_record_disappears_by_itself(quick: Server, email: str) -> None:
    api = quick.api
    expires_at = soon()
    path = api.create({"email": email}, expires_at=expires_at)
    kept = api.create({"email": f"kept.{email}"})
    while datetime.now(UTC).isoformat() <= expires_at:
        time.sleep(0.01)
    assert api.get(path).json["type"].rpartition(":")[2] in {"record-expired", "record-erased"}
    erased = "SELECT wrapped_dek, sealed_document FROM record WHERE token = ? AND erased_at IS NOT NULL"

    assert until(lambda: quick.rows(erased, (token_of(path),)), "the tombstone") == [(None, None)]

    api.get(path).refuses(410, "record-erased")
    state = api.get(f"{path}/erasure").gives(200)
    assert (state["state"], state["key_versions"]) == ("done", [{"keyring": "default", "version": 1}])
    (entry,) = api.audit(token=path.rpartition("/")[2], action="record.erase")
    assert (entry["principal"], entry["reason"], entry["result"]) == (None, "expired", "done")
    assert quick.rows("SELECT count(*) FROM index_entry WHERE token = ?", (token_of(path),)) == [(0,)]
    again = api.create({"email": email})
    assert api.plain(again) == {"email": email}
    assert api.plain(kept) == {"email": f"kept.{email}"}


def test_a_thousand_expire_while_clients_write(
    start_server: Callable[..., Server], make_api: Callable[..., Api], strongroom: Run
) -> None:
    server = start_server(environment=QUICK)
    expires_at = soon(8)
    facts: list[tuple[str, str]] = []
    stop = threading.Event()

    def fill(api: Api, start: int) -> None:
        for n in range(start, 1_000, 4):
            api.create({"email": f"over{n}@example.com"}, expires_at=expires_at)

    def write(api: Api, name: str) -> None:
        number = 0
        while not stop.is_set():
            address = f"{name}.{number}@example.com"
            facts.append((api.create({"email": address}), address))
            number += 1

    doors = [make_api(server.url, server.credential) for _ in range(4)]
    threads = [threading.Thread(target=fill, args=(door, n)) for n, door in enumerate(doors)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    threads = [threading.Thread(target=write, args=(door, f"w{n}")) for n, door in enumerate(doors[:2])]
    for thread in threads:
        thread.start()
    try:
        until(lambda: server.rows(ERASED) == [(1_000,)], "1,000 tombstones")
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    entries = server.rows(ENTRIES)
    assert len(entries) == len({token for token, _, _ in entries}) == 1_000
    assert {(principal, reason) for _, principal, reason in entries} == {(None, "expired")}
    assert len(facts) > 20
    for path, address in facts[::10]:
        assert server.api.plain(path) == {"email": address}
    assert server.stop() == 0
    assert server.rows("SELECT name, done, failed, error FROM job") == [("expire", 1_000, 0, None)]
    assert server.rows("SELECT expires_at FROM job_lease") == [(0,)]
    assert strongroom("verify", "--data", server.data).returncode == 0
    assert "lease-lost" not in server.log
    assert "job-failed" not in server.log


def test_server_and_worker_come_and_go_together(start_server: Callable[..., Server]) -> None:
    server = start_server(environment=QUICK)
    worker = the_worker(server)
    until(lambda: roles(server) == {"server": 2, "worker": 1}, "three heartbeats")

    assert server.stop() == 0

    assert not is_alive(worker)
    assert roles(server) == {}
    assert "worker-ended" not in server.log
    assert "Traceback" not in server.log


def test_a_server_that_is_stopped_at_once_leaves_no_worker(start_server: Callable[..., Server]) -> None:
    server = start_server()
    workers = background_workers(server)

    assert server.stop() == 0

    assert not any(map(is_alive, workers))


def test_a_worker_that_dies_is_started_again(start_server: Callable[..., Server]) -> None:
    server = start_server(environment=QUICK)
    first = the_worker(server)

    os.kill(first, signal.SIGKILL)

    second = until(lambda: [pid for pid in background_workers(server) if pid != first], "another worker")
    assert len(second) == 1
    expires_and_disappears(server.api, "the other worker works")
    assert "worker-ended" in server.log
    assert server.stop() == 0
    assert not is_alive(second[0])


def test_no_worker_outlives_a_killed_server(start_server: Callable[..., Server]) -> None:
    server = start_server(environment=QUICK)
    worker = the_worker(server)
    until(lambda: roles(server)["worker"] == 1, "the worker is at work")

    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()

    until(lambda: not is_alive(worker), "the orphan ends")
    # It took leave: its row is gone, and its leases with it.
    assert roles(server)["worker"] == 0
    next_server = start_server(data=server.data, credential=server.credential, environment=QUICK)
    assert the_worker(next_server) != worker
    assert next_server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_to_the_whole_group_ends_everything_once(
    start_server: Callable[..., Server], number: int
) -> None:
    server = start_server(environment=QUICK)
    worker = the_worker(server)
    until(lambda: roles(server)["worker"] == 1, "the worker is at work")
    server.api.close()

    # The parent sends SIGTERM of its own, and the impatient press twice: none may find another one half done.
    for _ in range(5):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        time.sleep(0.001)

    # Each took leave, so none had to be killed.
    assert server.process.wait(KILL_TIMEOUT_SECONDS - 1) == 0
    assert not is_alive(worker)
    assert roles(server) == {}, server.log
    assert "worker-killed" not in server.log
    assert server.log.count('"logger":"strongroom.worker","event":"worker-started"') == 1
    assert "Traceback" not in server.log


def test_a_closed_terminal_does_not_take_the_worker_away(start_server: Callable[..., Server]) -> None:
    server = start_server(environment=QUICK)
    worker = the_worker(server)
    until(lambda: roles(server)["worker"] == 1, "the worker is at work")

    os.kill(worker, signal.SIGHUP)
    os.kill(worker, signal.SIGINT)

    expires_and_disappears(server.api, "it goes on")
    assert background_workers(server) == [worker]


def test_a_server_without_one(start_server: Callable[..., Server]) -> None:
    server = start_server(environment={"STRONGROOM_WORKER__WITH_SERVER": "false"})
    until(lambda: roles(server) == {"server": 2}, "two heartbeats")

    assert background_workers(server) == []
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_workers_on_their_own_share_the_work(
    start_server: Callable[..., Server], start_worker: Callable[..., Process], number: int
) -> None:
    server = start_server(environment={"STRONGROOM_WORKER__WITH_SERVER": "false"})
    workers = [start_worker("--data", server.data) for _ in range(2)]
    until(lambda: roles(server) == {"server": 2, "worker": 2}, "four heartbeats")
    expires_at = soon(2)
    for n in range(150):
        server.api.create({"n": n}, expires_at=expires_at)

    until(lambda: server.rows(ERASED) == [(150,)], "150 tombstones")

    assert [worker.stop(number) for worker in workers] == [0, 0]
    assert roles(server) == {"server": 2}
    entries = server.rows(ENTRIES)
    assert len(entries) == len({token for token, _, _ in entries}) == 150
    assert all("Traceback" not in worker.log for worker in workers)


def test_once_does_what_waits_and_ends(start_server: Callable[..., Server], strongroom: Run) -> None:
    server = start_server(environment={"STRONGROOM_WORKER__WITH_SERVER": "false"})
    expires_at = soon()
    for n in range(3):
        server.api.create({"n": n}, expires_at=expires_at)
    while datetime.now(UTC).isoformat() <= expires_at:
        time.sleep(0.01)

    first = strongroom("worker", "--once", "--data", server.data)
    second = strongroom("worker", "--once", "--data", server.data)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "expire: 3 rows done\n" in first.stdout
    assert "expire: 0 rows done\n" in second.stdout
    assert server.rows(ERASED) == [(3,)]
    assert roles(server) == {"server": 2}


def test_once_leaves_nothing_in_the_write_ahead_log(new_vault: Any, strongroom: Run) -> None:
    data, _ = new_vault()
    assert strongroom("worker", "--once", "--data", data).returncode == 0
    wal = data / "strongroom.db-wal"
    assert not wal.exists() or wal.stat().st_size == 0


def test_a_tampered_row_is_left_reported_and_no_obstacle(
    start_server: Callable[..., Server], strongroom: Run
) -> None:
    server = start_server(environment=QUICK)
    expires_at = soon(3)
    paths = [server.api.create({"n": n}, expires_at=expires_at) for n in range(4)]
    server.tamper("UPDATE record SET generation = 7 WHERE token = ?", (token_of(paths[1]),))

    until(lambda: server.rows(ERASED) == [(3,)], "the others are erased")

    until(lambda: server.rows("SELECT failed FROM job WHERE name = 'expire'") == [(1,)], "it is counted")
    lines = [json.loads(line) for line in server.log.splitlines() if "row-unsound" in line]
    assert [(each["level"], each["finding"], each["job"]) for each in lines] == [
        ("critical", "row-mac", "expire")
    ]
    assert paths[1].rpartition("/")[2] in lines[0]["where"]
    # The worker is alive, and does not name it again and again.
    expires_and_disappears(server.api, "it goes on")
    assert server.log.count("row-unsound") == 1
    assert server.stop() == 0
    done = strongroom("worker", "--once", "--data", server.data)
    assert done.returncode == 3
    assert "1 could not be done: run strongroom verify" in done.stdout
    assert strongroom("verify", "--data", server.data).returncode == 3


def test_idempotency_keys_and_dead_processes_are_forgotten(new_vault: Any, strongroom: Run) -> None:
    data, _ = new_vault()
    now = time.time_ns() // 1000
    day = 24 * 3600 * 1_000_000
    for n, expires_at in enumerate((now - 1, now - 1, now + day)):
        chosen_home().run(
            data,
            "INSERT INTO idempotency_key (tenant, request_hash, position, status, collection, expires_at) "
            "VALUES ('default', ?, 0, 201, 'users', ?)",
            (bytes([n]) * 32, expires_at),
        )
    for n, heartbeat_at in enumerate((now - 2 * day, now - day // 2)):
        chosen_home().run(
            data,
            'INSERT INTO process (boot_id, host, pid, role, "release", started_at, heartbeat_at) '
            "VALUES (?, 'elsewhere', 1, 'server', '0.1.0', ?, ?)",
            (bytes([n]) * 16, heartbeat_at, heartbeat_at),
        )

    done = strongroom("worker", "--once", "--data", data)

    assert done.stdout == (
        "expire: 0 rows done\nforget-idempotency-keys: 2 rows done\nforget-processes: 1 rows done\n"
        "activate-key-versions: 0 rows done\n"
    )
    assert chosen_home().run(data, "SELECT expires_at FROM idempotency_key") == [(now + day,)]
    assert chosen_home().run(data, "SELECT heartbeat_at FROM process") == [(now - day // 2,)]


def test_without_its_keys_it_waits_and_says_so(
    start_worker: Callable[..., Process], strongroom: Run, tmp_path: Path
) -> None:
    far = AwayProvider(tmp_path)
    made = strongroom("init", "--config", far.config, environment=far.environment)
    assert made.returncode == 0, made.stderr
    far.go_away()
    refused = strongroom("worker", "--once", "--config", far.config, environment=far.environment)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "far" in refused.stderr
    assert "10.0.0.7" not in refused.stderr

    worker = start_worker("--config", far.config, environment=far.environment)
    worker.says("worker-waits")
    assert "keys-unavailable" in worker.log
    assert "worker-started" not in worker.log
    far.come_back()

    worker.says("worker-started")
    assert worker.stop() == 0
    far.go_away()
    waiting = start_worker("--config", far.config, environment=far.environment)
    waiting.says("worker-waits")
    assert waiting.stop() == 0, "it can be stopped while it waits"


@pytest.mark.parametrize("arguments", [(), ("--once",)], ids=["for ever", "once"])
def test_without_a_vault_it_says_what_to_do(
    strongroom: Run, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    done = strongroom("worker", "--data", tmp_path / "nothing", *arguments)

    assert done.returncode == 1
    assert "strongroom init" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "nothing").exists()
