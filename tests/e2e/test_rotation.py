"""Rotation with real processes: over REST and by command, under load, beside a stopped process, and by hand."""

from __future__ import annotations

import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import waiting
from tests.old_databases import UNDO_0003
from tests.servers.database_homes import variables_for
from tests.two_keyrings import CALLER
from vault import bootstrap
from vault.api import key_models
from vault.config import load_configuration

if TYPE_CHECKING:
    from conftest import Api, Server

pytestmark = pytest.mark.own_home

Run = Callable[..., subprocess.CompletedProcess[str]]
QUICK = {"STRONGROOM_WORKER__INTERVAL_SECONDS": "1"}
until = functools.partial(waiting.until, seconds=90.0)
RECORDS = "/v1/collections/users/records"
CONFIG = """
[worker]
interval_seconds = 1
admin = {admin}
[server]
workers = {workers}
[database]
url = "sqlite:data/strongroom.db"
[providers.disk]
type = "file"
path = "keys/disk.json"
[providers.second]
type = "file"
path = "keys/second.json"
[keyrings.default]
provider = "disk"
key = "records"
[keyrings.hr]
provider = "second"
key = "people"
"""


def over(api: Api, job: str) -> Any:
    """Wait for the end of a job and give what became of it."""

    def ended() -> Any:
        shown = api.get(job).gives(200)
        return shown if shown["state"] in {"done", "failed"} else None

    return until(ended, "the job ends")


def states(api: Api, keyring: str = "default") -> dict[int, str]:
    rings = api.get("/v1/keyrings").gives(200)["items"]
    (ring,) = [ring for ring in rings if ring["name"] == keyring]
    return {version["version"]: version["state"] for version in ring["versions"]}


@contextmanager
def admin_worker(*arguments: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "vault.cli", "worker", "--admin", *map(str, arguments)],
            env=kept | variables_for(arguments) | QUICK,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(20)
            log.seek(0)
            assert b"Traceback" not in log.read()


class Site:
    """A vault with a configuration file, two keyrings and a server."""

    def __init__(
        self,
        folder: Path,
        strongroom: Run,
        start_server: Callable[..., Server],
        *,
        admin: bool,
        workers: int = 2,
    ) -> None:
        self.config = folder / "strongroom.toml"
        self.config.write_text(CONFIG.format(admin=str(admin).lower(), workers=workers))
        made = strongroom("init", "--config", self.config, "--credential-file", folder / "credential")
        assert made.returncode == 0, made.stderr
        self.credential_file = folder / "credential"
        self.server = start_server(
            data=folder / "data",
            config=self.config,
            credential=self.credential_file.read_text().strip(),
            environment={},
        )
        self.api = self.server.api
        self._strongroom = strongroom

    def keys(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command that talks to the server."""
        return self._strongroom(
            "keys", *arguments, "--server", self.server.url, "--credential-file", self.credential_file
        )

    def on_host(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self._strongroom(*arguments, "--config", self.config)


@pytest.fixture
def site(tmp_path: Path, strongroom: Run, start_server: Callable[..., Server]) -> Callable[..., Site]:
    return lambda **options: Site(tmp_path, strongroom, start_server, **options)


def test_the_embedded_default_rotates_while_clients_write(
    start_server: Callable[..., Server], make_api: Callable[..., Api], strongroom: Run
) -> None:
    server = start_server(environment=QUICK)
    api = server.api
    facts: list[tuple[str, str]] = []
    stop = threading.Event()

    def write(door: Api, name: str) -> None:
        number = 0
        while not stop.is_set():
            address = f"{name}.{number}@example.com"
            facts.append((door.create({"email": address}), address))
            number += 1

    doors = [make_api(server.url, server.credential) for _ in range(3)]
    threads = [threading.Thread(target=write, args=(door, f"w{n}")) for n, door in enumerate(doors)]
    for thread in threads:
        thread.start()
    try:
        for version in (2, 3):
            asked = api.post("/v1/keyrings/default/rotate")
            job = asked.gives(202)
            assert asked.headers["Location"] == f"/v1/jobs/{job['id']}"
            key_models.Job.model_validate(job)
            assert (job["operation"], job["keyring"], job["requested_by"]) == ("rotate", "default", "admin")
            done = over(api, asked.headers["Location"])
            assert (done["state"], done["key_version"], done["error"]) == ("done", version, None)
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert states(api) == {1: "deactivated", 2: "deactivated", 3: "active"}
    assert len(facts) > 30
    for path, address in facts[::5]:
        assert api.plain(path) == {"email": address}
    wrapped = dict(server.rows("SELECT key_version, count(*) FROM record GROUP BY key_version"))
    assert sum(wrapped.values()) == len(facts)
    assert {1, 3} <= wrapped.keys() <= {1, 2, 3}
    assert [entry["action"] for entry in api.audit(action="keyring.rotate")] == ["keyring.rotate"] * 2
    assert api.audit(action="key-version.activate")[0]["reason"] == "default/3"
    jobs = api.get("/v1/jobs").gives(200)["items"]
    assert {"expire", "activate-key-versions", "make-key-versions"} & {each["id"] for each in jobs}
    api.get("/v1/jobs/nope").refuses(404, "job-not-found")
    api.post("/v1/keyrings/nope/rotate").refuses(404, "keyring-not-found")
    assert server.stop() == 0
    assert strongroom("verify", "--data", server.data).returncode == 0
    assert "Traceback" not in server.log


def test_without_the_administration_door_the_job_says_so(site: Callable[..., Site]) -> None:
    here = site(admin=False)
    job = here.api.post("/v1/keyrings/hr/rotate").headers["Location"]

    shown = here.api.get(job).gives(200)
    assert shown["state"] == "waiting"
    assert shown["waits_for"] == "a worker with the administration door: strongroom worker --admin"
    time.sleep(3)
    assert here.api.get(job).gives(200)["state"] == "waiting"
    assert states(here.api, "hr") == {1: "active"}

    with admin_worker("--config", here.config):
        done = over(here.api, job)
    assert (done["state"], done["key_version"]) == ("done", 2)
    assert states(here.api, "hr") == {1: "deactivated", 2: "active"}
    assert states(here.api) == {1: "active"}


def test_two_admin_workers_and_many_wishes(site: Callable[..., Site]) -> None:
    here = site(admin=True)
    with admin_worker("--config", here.config):
        for version in range(2, 6):
            jobs = {
                here.api.post(f"/v1/keyrings/{ring}/rotate").headers["Location"]
                for ring in ("default", "hr", "default")
            }
            assert len(jobs) == 2
            assert {over(here.api, job)["key_version"] for job in jobs} == {version}
    for keyring, file in (("default", "disk"), ("hr", "second")):
        assert states(here.api, keyring) == dict.fromkeys(range(1, 5), "deactivated") | {5: "active"}
        content = json.loads((here.config.parent / "keys" / f"{file}.json").read_text())
        assert json.dumps(content).count('"version"') >= 5
    checked = here.on_host("keys", "check", "--json")
    assert checked.returncode == 0, checked.stdout
    assert "nobody here made" not in checked.stdout


def test_the_commands(site: Callable[..., Site]) -> None:
    here = site(admin=True)
    done = here.keys("rotate", "hr", "--wait")
    assert done.returncode == 0, done.stderr
    assert "done" in done.stdout
    listed = here.keys("list").stdout
    assert "deactivated" in listed
    assert "No process keeps unwrapped data keys in memory." in listed
    unknown = here.keys("rotate", "nope")
    assert (unknown.returncode, "no keyring of this name" in unknown.stderr) == (1, True)

    def proved_by_all() -> bool:
        lines = [json.loads(line) for line in here.on_host("keys", "check", "--json").stdout.splitlines()]
        processes = [line["sentence"] for line in lines if line["subject"].startswith(("server", "worker"))]
        return len(processes) == 3 and all("hr 2" in sentence for sentence in processes)

    until(proved_by_all, "every process says what it has proved")
    backup = here.on_host("keys", "backup", here.config.parent / "copy.json", "--provider", "second")
    assert backup.returncode == 0, backup.stderr
    assert (here.config.parent / "copy.json").read_bytes() == (
        here.config.parent / "keys" / "second.json"
    ).read_bytes()
    policy = here.on_host("keys", "policy")
    assert (policy.returncode, "the configuration has none" in policy.stderr) == (1, True)
    again = here.on_host("keys", "init", "hr")
    assert (again.returncode, again.stdout) == (0, "Keyring hr is there already.\n")


def test_collections_and_their_keyrings(site: Callable[..., Site]) -> None:
    here = site(admin=True)
    api = here.api
    definition = {
        "schema": {"type": "object", "properties": {"email": {"type": "string", "x-index": "unique"}}}
    }
    made = api.put("/v1/collections/staff", definition | {"keyring": "hr"}).gives(201)
    assert made["keyring"] == "hr"
    path = api.create({"email": "ada@example.org"}, "staff")
    assert api.get("/v1/collections/staff").gives(200)["keyring"] == "hr"
    assert api.put("/v1/collections/staff", definition).gives(200)["keyring"] == "hr"
    api.put("/v1/collections/staff", definition | {"keyring": "default"}).refuses(409, "keyring-in-use")
    api.put("/v1/collections/staff", definition | {"keyring": "nope"}).refuses(
        422, "unknown-keyring", ("/keyring", "unknown")
    )
    assert len(api.lookup("email", "ada@example.org", "staff")["items"]) == 1
    assert api.delete(path).status == 204
    assert (
        api.put("/v1/collections/staff", definition | {"keyring": "default"}).gives(200)["keyring"]
        == "default"
    )
    assert api.put("/v1/collections/pets", definition).gives(201)["keyring"] == "default"


def test_a_stopped_process_stands_in_the_way_until_it_counts_as_dead(
    site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when it wakes up with the old keys in its memory, nothing that it writes is lost."""
    here = site(admin=True, workers=1)
    server, api = here.server, here.api
    before = api.create({"email": "before@example.org"})
    ((pid, boot_id),) = server.rows("SELECT pid, boot_id FROM process WHERE role = 'server'")
    until(lambda: server.rows("SELECT 1 FROM process WHERE administers = 1"), "the worker is at work")
    os.kill(pid, signal.SIGSTOP)
    try:
        for name, value in variables_for(("--config", here.config)).items():
            monkeypatch.setenv(name, value)
        vault = bootstrap.open_vault(load_configuration(here.config, None))
        asked = vault.services.key_requests.rotate(CALLER, "default")
        waits = until(
            lambda: (
                (shown := vault.services.key_requests.job(CALLER, asked.row.name)).row.state == "running"
                and shown.waits_for
                == f"processes that have not proved version 2 yet: server {pid} on {os.uname().nodename}"
                and shown
            ),
            "the job says whom it waits for",
        )
        assert waits.row.key_version == 2
        answers: list[Any] = []
        writer = threading.Thread(
            target=lambda: answers.append(api.post(RECORDS, {"data": {"email": "slept@example.org"}}))
        )

        def is_active() -> bool:
            return server.rows("SELECT state FROM key_version WHERE keyring = 'default' AND version = 2") == [
                ("active",)
            ]

        until(is_active, "the stopped process counts as dead")
        ((activated_at,),) = server.rows(
            "SELECT activated_at FROM key_version WHERE state = 'active' AND version = 2"
        )
        ((heartbeat_at,),) = server.rows("SELECT heartbeat_at FROM process WHERE boot_id = ?", (boot_id,))
        assert activated_at - heartbeat_at > 30_000_000
        vault.close()
        api.close()  # the server ends connections that were idle for so long, as soon as it wakes up
        writer.start()
    finally:
        os.kill(pid, signal.SIGCONT)
    writer.join()
    path = f"{RECORDS}/{answers[0].gives(201)['token']}"
    assert api.plain(path) == {"email": "slept@example.org"}
    assert api.plain(before) == {"email": "before@example.org"}
    assert server.rows("SELECT key_version FROM record ORDER BY id") == [(1,), (2,)]
    assert server.stop() == 0
    assert here.on_host("verify").returncode == 0


@pytest.mark.sqlite_only
def test_an_old_database_is_upgraded_with_its_data(
    start_server: Callable[..., Server], strongroom: Run
) -> None:
    server = start_server()
    path = server.api.create({"email": "old@example.org"})
    assert server.stop() == 0
    with closing(sqlite3.connect(server.database, isolation_level=None)) as connection:
        for statement in UNDO_0003:
            connection.execute(statement)
        connection.execute(
            "INSERT INTO process (boot_id, host, pid, role, release, started_at, heartbeat_at) "
            "VALUES (zeroblob(16), 'elsewhere', 1, 'server', '0.1.0', 1, 1)"
        )
    refused = strongroom("verify", "--data", server.data)
    assert refused.returncode == 1
    assert "0003_keys_at_work" in refused.stderr
    assert strongroom("database", "upgrade", "--apply", "--data", server.data).returncode == 0
    assert strongroom("verify", "--data", server.data).returncode == 0
    again = start_server(data=server.data, credential=server.credential, environment=QUICK)
    assert again.api.plain(path) == {"email": "old@example.org"}
    assert (
        over(again.api, again.api.post("/v1/keyrings/default/rotate").headers["Location"])["state"] == "done"
    )
