"""kill -9 of an import, again and again, and of its server: every record is there in the end, and none twice."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.crowd import LOCALES, MAPPING, Person, write_table
from tests.faults.imports import Import, ended_by_kill, read_events
from tests.faults.live_server import LiveServer, running
from tests.faults.small_vault import IS_GATE, SmallVault, make_empty_vault, say

COUNT = 100_000 if IS_GATE else 2_000
BATCH = 500 if IS_GATE else 20
KILLS = 5
LOOKUPS = 500
RECORDS = "/v1/collections/users/records"


@pytest.fixture
def made(tmp_path: Path) -> SmallVault:
    return make_empty_vault(tmp_path / "data")


@pytest.fixture
def server(made: SmallVault, tmp_path: Path) -> Iterator[LiveServer]:
    with running(made.folder, made.credential, tmp_path / "server.log") as live:
        yield live


def peak_kib(pid: int) -> int:
    """The most memory that a process has had so far."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


class Watch:
    """Measures processes while they live."""

    def __init__(self) -> None:
        self.client_kib = 0
        self.worker_kib = 0

    def look(self, moving: Import) -> None:
        assert moving.process is not None
        self.client_kib = max(self.client_kib, peak_kib(moving.process.pid))
        self.worker_kib = max([self.worker_kib, *map(peak_kib, moving.server.workers())])


def kill_and_go_on(moving: Import, watch: Watch) -> list[int]:
    """Kill the import five times, and the server once; return after how many batches each import died."""
    rng = random.Random(5)
    died_after = []
    batches = COUNT // BATCH
    for number in range(1, KILLS + 1):
        with moving.running("--json") as process:
            if number == KILLS // 2 + 1:
                moving.wait_for_batches(moving.finished_batches + 2)
                watch.look(moving)
                moving.server.kill_all()
                read_events(process.stdout, lambda each: each["event"] == "waiting")
                moving.server.start()
            moving.wait_for_batches(max(moving.finished_batches + 2, number * batches // (KILLS + 1)))
            # Anywhere in the sending, answering and writing down of a batch.
            time.sleep(rng.uniform(0, 0.1))
            watch.look(moving)
            ended_by_kill(process)
        died_after.append(moving.finished_batches)
    return died_after


def lookups(server: LiveServer, field: str, values: list[str]) -> list[list[str]]:
    """The tokens that each value finds."""
    found: list[list[str]] = []
    with server.caller() as caller:
        for start in range(0, len(values), LOOKUPS):
            operations = [
                {"op": "lookup", "field": field, "value": value} for value in values[start : start + LOOKUPS]
            ]
            items: list[Any] = caller.ask("POST", f"{RECORDS}/bulk", {"operations": operations}).json["items"]
            assert all(item["status"] == 200 and item["next_cursor"] is None for item in items)
            found += [[record["token"] for record in item["items"]] for item in items]
    return found


def listed(server: LiveServer) -> list[str]:
    tokens: list[str] = []
    cursor: str | None = ""
    with server.caller() as caller:
        while cursor is not None:
            page = caller.ask("GET", f"{RECORDS}?limit=1000" + (f"&cursor={cursor}" if cursor else "")).json
            tokens += [item["token"] for item in page["items"]]
            cursor = page["next_cursor"]
    return tokens


def check(server: LiveServer, crowd: list[Person], tokens_path: Path) -> None:
    with tokens_path.open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["line", "Customer No", "token"]
    assert [key for _, key, _ in rows] == [person.row[0] for person in crowd]
    tokens = [token for _, _, token in rows]
    assert len(set(tokens)) == COUNT
    in_store = listed(server)
    assert len(in_store) == COUNT
    assert set(in_store) == set(tokens)
    assert lookups(server, "email", [person.email for person in crowd]) == [[token] for token in tokens]
    assert lookups(server, "phone", [person.phone for person in crowd]) == [[token] for token in tokens]


def test_every_record_is_there_once_after_kills(server: LiveServer, made: SmallVault, tmp_path: Path) -> None:
    assert len(LOCALES) == 20
    credential = tmp_path / "credential"
    credential.write_text(made.credential)
    credential.chmod(0o600)
    file = tmp_path / "customers.csv"
    # So far apart that they never travel at the same time.
    crowd, refused = write_table(file, COUNT, twins_after=4 * BATCH)
    tokens = tmp_path / "tokens.csv"
    options = ["--batch", str(BATCH), "--tokens", str(tokens), "--key", "Customer No", *MAPPING]
    moving = Import(server, file, "users", credential, options)
    watch = Watch()
    start = time.monotonic()

    died_after = kill_and_go_on(moving, watch)
    with moving.running("--json") as process:
        moving.wait_for_batches(moving.finished_batches + 2)
        watch.look(moving)
        out, errors = process.communicate(timeout=900)
    assert process.returncode == 3, errors

    seconds = time.monotonic() - start
    assert all(died_after[n] < died_after[n + 1] for n in range(KILLS - 1))
    assert died_after[-1] < COUNT // BATCH
    assert f'"imported":{COUNT},"refused":{len(refused)}' in out.splitlines()[-1]
    told = [json.loads(line) for line in moving.report.read_text().splitlines()]
    assert [line["line"] for line in told] == refused
    assert {line["rule"] for line in told} == {"duplicate"}
    assert len(refused) > COUNT // 60
    check(server, crowd, tokens)
    watch.worker_kib = max([watch.worker_kib, *map(peak_kib, server.workers())])
    verify = [sys.executable, "-P", "-m", "vault.cli", "verify", "--data", str(made.folder)]
    verified = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert verified.returncode == 0, (verified.stdout, verified.stderr)
    say(
        f"{COUNT:,} records in {len(LOCALES)} locales, {KILLS} kills of the import after {died_after} batches and one of "
        f"the server: {seconds:.1f} s, {COUNT / seconds:,.0f} records/s with all of it; last run: {out.splitlines()[-1]}; "
        f"peak memory: import {watch.client_kib / 1024:.0f} MiB, worker {watch.worker_kib / 1024:.0f} MiB"
    )
