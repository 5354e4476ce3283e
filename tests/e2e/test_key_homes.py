"""A vault on each key provider: made, rotated while it serves, checked; two providers in one server; a token for sixteen."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.key_homes import HOMES, KeyHome

if TYPE_CHECKING:
    from conftest import Api, Server

pytestmark = pytest.mark.own_home

RECORDS = "/v1/collections/users/records"
QUICK = {"STRONGROOM_WORKER__INTERVAL_SECONDS": "1"}
PATIENCE_SECONDS = 60.0
ONE_TOKEN_REQUESTS = 10_000
WORKERS = 4
THREADS = 4


@pytest.fixture
def home_of(
    free_port: Callable[[], int], missing: Callable[[str], None], tmp_path: Path
) -> Iterator[Callable[[str], KeyHome]]:
    with ExitStack() as stack:
        yield lambda kind: stack.enter_context(HOMES[kind](tmp_path, free_port, missing))


class Site:
    """A vault that is configured by variables alone."""

    def __init__(self, folder: Path, strongroom: Callable[..., Any], variables: dict[str, str]) -> None:
        self.data = folder / "data"
        self.credential_file = folder / "credential"
        self.variables = variables
        self._strongroom = strongroom

    def on_host(self, *arguments: str | Path, **administration: str) -> Any:
        done = self._strongroom(*arguments, "--data", self.data, environment=self.variables | administration)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done

    def make(self, administration: dict[str, str]) -> None:
        self.on_host("init", "--credential-file", self.credential_file, **administration)

    @property
    def credential(self) -> str:
        return self.credential_file.read_text().strip()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("kind", HOMES)
def test_a_vault_is_made_rotated_while_it_serves_and_checked(
    kind: str,
    home_of: Callable[[str], KeyHome],
    strongroom: Callable[..., Any],
    start_server: Callable[..., Server],
    tmp_path: Path,
) -> None:
    home = home_of(kind)
    site = Site(tmp_path, strongroom, home.provider("keys") | home.keyring("default", "keys"))
    site.make(home.admin("keys"))
    # The embedded default's worker has the administration door.
    server = start_server(
        data=site.data, credential=site.credential, environment=site.variables | home.admin("keys") | QUICK
    )
    api = server.api
    before = [api.create({"email": f"before{n}@example.com"}) for n in range(20)]
    job = api.post("/v1/keyrings/default/rotate").headers["Location"]
    during = []

    def is_done() -> bool:
        during.append(api.create({"email": f"during{len(during)}@example.com"}))
        assert api.plain(before[len(during) % 20])
        return bool(api.get(job).gives(200)["state"] in {"done", "failed"})

    until(is_done)
    assert api.get(job).gives(200)["state"] == "done"
    after = api.create({"email": "after@example.com"})
    (ring,) = api.get("/v1/keyrings").gives(200)["items"]
    assert [(each["version"], each["state"]) for each in ring["versions"]] == [
        (1, "deactivated"),
        (2, "active"),
    ]
    assert ring["versions"][1]["records"] >= 1
    for number, path in enumerate(before):
        assert api.plain(path) == {"email": f"before{number}@example.com"}
    assert api.plain(after) == {"email": "after@example.com"}
    assert api.lookup("email", "AFTER@example.com")["items"][0]["token"] == after.rpartition("/")[2]
    assert len(during) >= 1
    site.on_host("keys", "check")
    assert server.stop() == 0
    site.on_host("verify")


def test_record_types_on_two_providers_are_served_side_by_side_and_go_down_apart(
    home_of: Callable[[str], KeyHome],
    strongroom: Callable[..., Any],
    start_server: Callable[..., Server],
    tmp_path: Path,
) -> None:
    hsm, bao = home_of("pkcs11"), home_of("transit")
    assert bao.server is not None
    site = Site(
        tmp_path,
        strongroom,
        hsm.provider("hsm") | hsm.keyring("default", "hsm") | bao.provider("bao") | bao.keyring("hr", "bao"),
    )
    site.make(bao.admin("bao"))
    server = start_server(data=site.data, credential=site.credential, environment=site.variables)
    api = server.api
    schema = {"type": "object", "properties": {"email": {"type": "string", "x-index": "unique"}}}
    api.put("/v1/collections/staff", {"schema": schema, "keyring": "hr"}).gives(201)
    customer = api.create({"email": "customer@example.com"})
    colleague = api.create({"email": "colleague@example.com"}, "staff")
    rings = {ring["name"]: ring["provider"] for ring in api.get("/v1/keyrings").gives(200)["items"]}
    assert rings == {"default": "hsm", "hr": "bao"}

    bao.server.seal()
    try:
        api.post("/v1/collections/staff/records", {"data": {"email": "new@example.com"}}).refuses(
            503, "keys-unavailable"
        )
        assert api.plain(customer) == {"email": "customer@example.com"}
        api.create({"email": "while.sealed@example.com"})
        ready = api.get("/readyz")
        assert (ready.status, ready.json["providers"]) == (503, {"hsm": "ok", "bao": "sealed"})
    finally:
        bao.server.unseal()
    until(
        lambda: (
            api.post("/v1/collections/staff/records", {"data": {"email": "again@example.com"}}).status == 201
        )
    )
    assert api.plain(colleague) == {"email": "colleague@example.com"}
    assert server.stop() == 0
    site.on_host("verify")


def test_sixteen_callers_at_one_token_without_an_error(
    home_of: Callable[[str], KeyHome],
    strongroom: Callable[..., Any],
    start_server: Callable[..., Server],
    make_api: Callable[..., Api],
    tmp_path: Path,
) -> None:
    """Four workers that log in by themselves, four callers each, no cache: every request asks the token."""
    home = home_of("pkcs11")
    site = Site(tmp_path, strongroom, home.provider("hsm") | home.keyring("default", "hsm"))
    site.make({})
    server = start_server(
        data=site.data,
        credential=site.credential,
        environment=site.variables
        | {
            "STRONGROOM_SERVER__WORKERS": str(WORKERS),
            "STRONGROOM_DATA_KEY_CACHE__MAX_ENTRIES": "0",
            "STRONGROOM_WORKER__WITH_SERVER": "false",
        },
    )
    doors = [make_api(server.url, server.credential) for _ in range(WORKERS * THREADS)]

    def work(number: int) -> int:
        door, asked = doors[number], 0
        while asked < ONE_TOKEN_REQUESTS // len(doors):
            path = door.create({"login": f"caller-{number}-{asked}"})
            for _ in range(3):
                assert door.plain(path)["login"].startswith(f"caller-{number}-")
            asked += 4
        return asked

    with ThreadPoolExecutor(len(doors)) as pool:
        asked = sum(pool.map(work, range(len(doors))))
    assert asked >= ONE_TOKEN_REQUESTS
    assert server.stop() == 0
    assert "error" not in server.log.lower()


def test_a_key_file_is_locked_relocked_and_opened_by_a_command(
    home_of: Callable[[str], KeyHome],
    strongroom: Callable[..., Any],
    start_server: Callable[..., Server],
    tmp_path: Path,
) -> None:
    home = home_of("file")
    plain = home.provider("disk") | home.keyring("default", "disk")
    site = Site(tmp_path, strongroom, plain)
    site.make({})
    words = {name: tmp_path / name for name in ("first", "second")}
    for name, path in words.items():
        path.touch(0o600)
        path.write_text(f"correct horse battery {name}\n")

    locked = site.on_host("keys", "passphrase", "--new", words["first"])
    assert f'passphrase = {{ file = "{words["first"]}" }}' in locked.stdout
    refused = strongroom("verify", "--data", site.data, environment=plain)
    assert refused.returncode == 1
    assert "is locked by a passphrase" in refused.stderr

    def with_passphrase(name: str) -> dict[str, str]:
        return plain | {"STRONGROOM_PROVIDERS__DISK__PASSPHRASE__FILE": str(words[name])}

    site.variables = with_passphrase("first")
    server = start_server(data=site.data, credential=site.credential, environment=site.variables)
    path = server.api.create({"email": "locked@example.com"})
    assert server.stop() == 0

    piped = strongroom("keys", "passphrase", "--data", site.data, environment=site.variables, input="short\n")
    assert piped.returncode == 1
    assert "12" in piped.stderr
    site.on_host("keys", "passphrase", "--new", words["second"])
    stale = strongroom("verify", "--data", site.data, environment=site.variables)
    assert "does not open with the passphrase" in stale.stderr
    site.variables = with_passphrase("second")
    site.on_host("verify")
    both = strongroom("keys", "passphrase", "--none", "--new", words["first"], "--data", site.data)
    assert both.returncode == 2

    site.on_host("keys", "passphrase", "--none")
    site.variables = plain
    server = start_server(data=site.data, credential=site.credential, environment=plain)
    assert server.api.plain(path) == {"email": "locked@example.com"}


def test_who_serves_with_a_configuration_file_and_local_keys_is_warned(
    strongroom: Callable[..., Any], start_server: Callable[..., Server], tmp_path: Path
) -> None:
    config = tmp_path / "strongroom.toml"
    config.write_text('[providers.disk]\ntype = "file"\npath = "keys/keys.json"\n')
    made = strongroom("init", "--config", config, "--credential-file", tmp_path / "credential")
    assert made.returncode == 0, made.stderr
    server = start_server(
        config=config, data=tmp_path, credential=(tmp_path / "credential").read_text().strip()
    )
    assert "warning: provider disk keeps its keys in a file of this machine" in server.log
    assert '"event":"keys-in-local-file","provider":"disk"' in server.log
