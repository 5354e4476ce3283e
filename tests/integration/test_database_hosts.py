"""Several hosts in one URL: the first that answers and takes writes is used, before and after a failover."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.servers.databases import postgresql
from tests.servers.postgresql import PASSWORD, Postgresql, running_postgresql
from tests.servers.postgresql_standby import Standby, standby_of
from tests.servers.served_vaults import Run, ServedVault, make_vault, sentence_of

if TYPE_CHECKING:
    from conftest import Server

__all__ = ["postgresql"]

pytestmark = [pytest.mark.own_home, pytest.mark.sqlite_only("has servers of its own, whatever is asked for")]

ALONE = {"STRONGROOM_WORKER__WITH_SERVER": "false", "STRONGROOM_SERVER__WORKERS": "1"}
FAILOVER_SECONDS = 20.0


@dataclass(frozen=True)
class Pair:
    """A server that takes writes, another that follows it, and a vault on both."""

    primary: Postgresql
    standby: Standby
    vault: ServedVault

    def url(self, *ports: int, more: str = "") -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql://{self.vault.address.user}@{hosts}/{self.vault.address.database}{more}"

    def reached(self, folder: Path, *ports: int, more: str = "") -> ServedVault:
        """The vault, by way of these ports."""
        return self.vault.elsewhere(folder / "vault", self.vault.address, url=self.url(*ports, more=more))


@pytest.fixture(scope="module")
def pair(
    free_port: Callable[[], int],
    missing: Callable[[str], None],
    strongroom: Run,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Pair]:
    with running_postgresql(free_port, missing) as primary, standby_of(primary, free_port) as standby:
        vault = make_vault(strongroom, tmp_path_factory.mktemp("pair"), primary.new_database())
        standby.catch_up()
        yield Pair(primary, standby, vault)


@pytest.fixture
def start(start_server: Callable[..., Server]) -> Callable[[ServedVault], Server]:
    def start(vault: ServedVault) -> Server:
        return start_server(
            data=vault.data, credential=vault.credential, config=vault.config, environment=ALONE
        )

    return start


def works(server: Server) -> str:
    """Write and read a record; its path."""
    path = server.api.create({"email": f"anna.{time.monotonic_ns()}@example.org"})
    assert server.api.plain(path)["email"].startswith("anna.")
    return path


@pytest.mark.parametrize("first", ["dead", "silent"])
def test_a_first_host_that_does_not_answer_is_passed_over(
    pair: Pair,
    start: Callable[[ServedVault], Server],
    free_port: Callable[[], int],
    strongroom: Run,
    tmp_path: Path,
    first: str,
) -> None:
    # Connections to a socket that listens are taken by the system; nobody there ever says a word.
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = free_port() if first == "dead" else silent.getsockname()[1]
        vault = pair.reached(tmp_path, port, pair.primary.port)
        # Others have made the first one's worthless.
        new = tmp_path / "credential"
        done = strongroom("init", "--new-credential", "--credential-file", new, "--config", vault.config)
        assert done.returncode == 0, done.stderr
        server = start(replace(vault, credential=new.read_text().strip()))
        works(server)
        assert server.stop() == 0


@pytest.mark.parametrize("asked", ["", "?target_session_attrs=primary"])
def test_a_standby_is_passed_over(pair: Pair, strongroom: Run, tmp_path: Path, asked: str) -> None:
    vault = pair.reached(tmp_path, pair.standby.port, pair.primary.port, more=asked)
    # Writes: a new credential and its entry.
    done = strongroom("init", "--new-credential", "--config", vault.config)
    assert done.returncode == 0, done.stderr


def test_where_any_will_do_the_standby_is_read_and_takes_no_writes(
    pair: Pair, strongroom: Run, tmp_path: Path
) -> None:
    pair.standby.catch_up()
    vault = pair.reached(tmp_path, pair.standby.port, pair.primary.port, more="?target_session_attrs=any")
    assert strongroom("verify", "--config", vault.config).returncode == 0
    said = sentence_of(strongroom("init", "--new-credential", "--config", vault.config))
    assert "takes no writes just now; nothing was written" in said


def test_a_database_that_is_set_to_be_read_is_passed_over(
    pair: Pair, postgresql: Postgresql, strongroom: Run, tmp_path: Path
) -> None:
    name = pair.vault.address.database
    postgresql.execute(f"CREATE DATABASE {name}_there OWNER strongroom")
    postgresql.execute(f"ALTER DATABASE {name}_there SET default_transaction_read_only = on")
    pair.primary.execute(f"CREATE DATABASE {name}_there OWNER strongroom TEMPLATE {name}")
    there = replace(pair.vault.address, database=f"{name}_there")
    url = pair.url(postgresql.port, pair.primary.port) + "_there"
    vault = pair.vault.elsewhere(tmp_path / "vault", there, url=url)
    done = strongroom("init", "--new-credential", "--config", vault.config)
    assert done.returncode == 0, done.stderr


def test_when_no_host_takes_writes_the_places_are_named(
    pair: Pair, strongroom: Run, free_port: Callable[[], int], tmp_path: Path
) -> None:
    dead = free_port()
    vault = pair.reached(tmp_path, dead, pair.standby.port)
    said = sentence_of(strongroom("verify", "--config", vault.config))
    assert f"postgresql://127.0.0.1:{dead},127.0.0.1:{pair.standby.port}/" in said
    assert "cannot be reached just now" in said
    assert PASSWORD not in said


def test_a_running_vault_follows_a_failover(
    free_port: Callable[[], int],
    missing: Callable[[str], None],
    strongroom: Run,
    start: Callable[[ServedVault], Server],
    tmp_path: Path,
) -> None:
    with running_postgresql(free_port, missing) as primary, standby_of(primary, free_port) as standby:
        address = primary.new_database()
        made = make_vault(strongroom, tmp_path / "first", address)
        both = Pair(primary, standby, made)
        vault = both.reached(tmp_path, primary.port, standby.port)
        server = start(vault)
        before = works(server)
        standby.catch_up()
        assert primary.server.process is not None
        primary.server.signal(signal.SIGQUIT)
        primary.server.process.wait(20)
        refused = server.api.post("/v1/collections/users/records", {"data": {"n": 1}})
        refused.refuses(503, "store-unavailable")
        with psycopg.connect(
            host="127.0.0.1",
            port=standby.port,
            user="root",
            password=PASSWORD,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            connection.execute("SELECT pg_promote(true)")
        deadline = time.monotonic() + FAILOVER_SECONDS
        while server.api.post("/v1/collections/users/records", {"data": {"n": 2}}).status != 201:
            assert time.monotonic() < deadline, server.log
            time.sleep(0.1)
        assert server.api.plain(before)["email"].startswith("anna.")
        works(server)
        assert server.stop() == 0
        assert strongroom("verify", "--config", vault.config).returncode == 0
