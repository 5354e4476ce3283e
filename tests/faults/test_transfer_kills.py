"""A vault goes over all engines by the real command, killed on each way, and serves every record as before."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.small_vault import IS_GATE, say
from tests.servers.databases import configuration_file, mariadb, new_database, postgresql
from vault.bootstrap.databases import database_address
from vault.config import load_configuration
from vault.core.errors import VaultError
from vault.storage.address import ServerAddress
from vault.storage.opening import open_engine

if TYPE_CHECKING:
    from conftest import Api, Server

__all__ = ["mariadb", "postgresql"]

COUNT = 20_000 if IS_GATE else 3_000
BATCH = 500
WAYS = ("postgresql", "mariadb", "sqlite")
RECORDS = "/v1/collections/users/records"


def fill(api: Api) -> dict[str, dict[str, Any]]:
    """Store people, change and erase some; return what each token holds."""
    people = [
        {
            "name": f"Zoë {number}",
            "email": f"p{number}.{uuid.uuid4().hex[:8]}@example.com",
            "note": "ø" * (number % 400),
        }
        for number in range(COUNT)
    ]
    held: dict[str, dict[str, Any]] = {}
    for start in range(0, COUNT, BATCH):
        part = people[start : start + BATCH]
        operations = [{"op": "create", "data": person} for person in part]
        items = api.post(f"{RECORDS}/bulk", {"operations": operations}).gives(200)["items"]
        held |= {item["token"]: person for item, person in zip(items, part, strict=True)}
    tokens = list(held)
    for token in tokens[:20]:
        api.patch(f"{RECORDS}/{token}", {"city": "Leipzig"}).gives(200)
        held[token] = held[token] | {"city": "Leipzig"}
    for token in tokens[20:40]:
        api.delete(f"{RECORDS}/{token}").gives(204)
        del held[token]
    return held


def check(api: Api, held: dict[str, dict[str, Any]]) -> None:
    """Read every record, and find some."""
    tokens = list(held)
    for start in range(0, len(tokens), BATCH):
        part = tokens[start : start + BATCH]
        operations = [{"op": "get", "token": token, "reveal": "plain"} for token in part]
        items = api.post(f"{RECORDS}/bulk", {"operations": operations}).gives(200)["items"]
        assert [item["data"] for item in items] == [held[token] for token in part]
    for token in tokens[::500]:
        (found,) = api.lookup("email", held[token]["email"])["items"]
        assert found["token"] == token


def records_in(config: Path) -> int:
    """How many records a database has; 0 if it has no table for them yet."""
    configuration = load_configuration(config, None)
    if not configuration.has_database_server and not configuration.database_path.exists():
        return 0
    try:
        with closing(open_engine(database_address(configuration))) as engine, engine.read() as database:
            return int(database.execute_sql("SELECT count(*) FROM record").fetchone()[0])
    except VaultError:
        return 0


@contextmanager
def moving(source: Path, target: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "vault.cli", "transfer", "--from", source, "--to", target],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def kill_in_the_middle(source: Path, target: Path) -> int:
    """Kill a transfer once some records are there; return how many were."""
    with moving(source, target) as process:
        deadline = time.monotonic() + 60
        while not records_in(target):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.005)
    return records_in(target)


def table_of(stdout: str) -> list[str]:
    """The lines with counts and hashes."""
    return [line for line in stdout.splitlines() if len(line.split()) == 3 and len(line.split()[2]) == 64]


@pytest.mark.own_home
@pytest.mark.sqlite_only("begins there, and goes over all engines")
def test_a_vault_goes_over_all_engines_and_is_killed_on_each_way(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    start_server: Callable[..., Server],
    new_vault: Callable[[], tuple[Path, str]],
    strongroom: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    data, credential = new_vault()
    source = configuration_file(tmp_path / "first", data / "strongroom.db", keys=data / "keys.json")
    server = start_server(data=data, credential=credential, config=source)
    held = fill(server.api)
    server.stop()
    for engine in WAYS:
        folder = tmp_path / engine
        folder.mkdir()
        database: Path | ServerAddress = new_database(request, engine, folder)
        target = configuration_file(folder, database, keys=data / "keys.json")

        there = kill_in_the_middle(source, target)
        assert 0 < there < COUNT
        for refused in ("serve", "init", "verify"):
            said = strongroom(refused, "--config", target)
            assert said.returncode == 1
            assert "strongroom transfer" in said.stderr or "There is a vault already" in said.stderr

        began = time.monotonic()
        done = strongroom("transfer", "--from", source, "--to", target)
        seconds = time.monotonic() - began
        assert done.returncode == 0, done.stderr
        lines = table_of(done.stdout)
        assert len(lines) >= 15
        verified = strongroom("verify", "--config", target)
        assert verified.returncode == 0, verified.stdout
        say(
            f"to {engine}: killed with {there:,} of {COUNT:,} records there, went on and compared in {seconds:.1f} s"
        )

        back = strongroom("transfer", "--from", source, "--to", target)
        assert (back.returncode, "already" in back.stderr) == (1, True)
        server = start_server(data=folder, credential=credential, config=target)
        check(server.api, held)
        refused_now = strongroom("transfer", "--from", target, "--to", f"sqlite:{tmp_path / 'other.db'}")
        assert refused_now.returncode == 1
        assert "Stop" in refused_now.stderr
        assert not (tmp_path / "other.db").exists()
        server.stop()
        source = target
