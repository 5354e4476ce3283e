"""A database server whose disk is full: 503 that says so, nothing half written, and all is well once there is room."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers.mariadb import Mariadb, running_mariadb
from tests.servers.postgresql import Postgresql, running_postgresql
from tests.servers.served_vaults import Run, make_vault
from tests.servers.small_disk import small_disk
from tests.servers.unprivileged import as_nobody, own_folder
from vault.storage.address import ServerAddress

if TYPE_CHECKING:
    from conftest import Answer, Server

pytestmark = [pytest.mark.own_home, pytest.mark.sqlite_only("has servers of its own, whatever is asked for")]

ALONE = {"STRONGROOM_WORKER__WITH_SERVER": "false", "STRONGROOM_SERVER__WORKERS": "1"}
RECORDS = "/v1/collections/users/records"
FULL = "The database server's disk is full; nothing was written."
ROOM_LEFT = 1 << 18


@contextmanager
def servers_disk(missing: Callable[[str], None], folder: Path, megabytes: int) -> Iterator[None]:
    """A small disk that the server's user may write to."""
    with small_disk(missing, folder, megabytes):
        user = as_nobody()
        os.chown(folder, user["user"], user["group"])
        yield


@dataclass(frozen=True)
class SmallHome:
    """A database whose disk is small, and where that is."""

    server: Postgresql | Mariadb
    address: ServerAddress
    disk: Path


@contextmanager
def small_postgresql(free_port: Callable[[], int], missing: Callable[[str], None]) -> Iterator[SmallHome]:
    """All that the server has lies on the small disk."""
    with (
        own_folder("small") as folder,
        servers_disk(missing, folder, 128),
        running_postgresql(
            free_port, missing, folder=folder, min_wal_size="32MB", max_wal_size="48MB"
        ) as made,
    ):
        yield SmallHome(made, made.new_database(), folder)


@contextmanager
def small_mariadb(free_port: Callable[[], int], missing: Callable[[str], None]) -> Iterator[SmallHome]:
    """The tables alone: without room to roll back, this server ends itself."""
    with running_mariadb(free_port, missing) as made, ExitStack() as mounted:
        address = made.new_database()
        disk = made.folder / "data" / address.database
        options = (disk / "db.opt").read_bytes()
        mounted.enter_context(servers_disk(missing, disk, 24))
        (disk / "db.opt").write_bytes(options)
        (disk / "db.opt").chmod(0o644)
        mounted.callback(made.stop)
        yield SmallHome(made, address, disk)


@pytest.fixture(params=["postgresql", "mariadb"])
def home(
    request: pytest.FixtureRequest, free_port: Callable[[], int], missing: Callable[[str], None]
) -> Iterator[SmallHome]:
    small = {"postgresql": small_postgresql, "mariadb": small_mariadb}[request.param]
    with small(free_port, missing) as made:
        yield made


def fill(disk: Path) -> Path:
    """Take the room of a disk, up to a little."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(bytes(shutil.disk_usage(disk).free - ROOM_LEFT))
    return ballast


def create(server: Server, number: int, size: int) -> Answer:
    return server.api.post(RECORDS, {"data": {"email": f"n{number}@example.org", "note": "n" * size}})


def store_until_refused(server: Server, size: int) -> tuple[dict[str, int], Answer]:
    """Store records; the number of each by its token, and the first answer that is another."""
    stored: dict[str, int] = {}
    for number in range(1_000):
        answer = create(server, number, size)
        if answer.status != 201:
            assert stored
            return stored, answer
        stored[answer.json["token"]] = number
    pytest.fail("the disk never filled")


def check_whole(server: Server, stored: dict[str, int], others: int) -> None:
    """Assert that what was acknowledged is there, each with its entry, and nothing else."""
    for token, number in stored.items():
        assert server.api.plain(f"{RECORDS}/{token}")["email"] == f"n{number}@example.org"
    assert len(server.api.audit(action="record.create", limit=500)) == len(stored) + others


def test_a_full_disk(
    home: SmallHome, strongroom: Run, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    vault = make_vault(strongroom, tmp_path / "vault", home.address)
    running = start_server(
        data=vault.data, credential=vault.credential, config=vault.config, environment=ALONE
    )

    ballast = fill(home.disk)
    stored, answer = store_until_refused(running, 2_000)
    for refused in (answer, create(running, 5_000, 2_000), create(running, 5_001, 2_000)):
        assert refused.refuses(503, "store-unavailable")["detail"] == FULL
    assert '"code":"store-unavailable","reason":"full"' in running.log
    # A read has to leave its entry, for which there may be room: with data, or none.
    token = next(iter(stored))
    read = running.api.get(f"{RECORDS}/{token}?reveal=plain")
    assert read.status == 200 or read.refuses(503, "store-unavailable")["detail"] == FULL
    assert running.api.get("/readyz").gives(200)["status"] == "ready"

    ballast.unlink()
    running.api.create({"email": "n5000@example.org"})
    assert running.api.lookup("email", "n5001@example.org")["items"] == []
    check_whole(running, stored, 1)
    assert running.stop() == 0
    assert strongroom("verify", "--config", vault.config).returncode == 0


def test_a_mariadb_that_ends_itself_for_want_of_room(
    free_port: Callable[[], int],
    missing: Callable[[str], None],
    strongroom: Run,
    start_server: Callable[..., Server],
    tmp_path: Path,
) -> None:
    with small_mariadb(free_port, missing) as home:
        vault = make_vault(strongroom, tmp_path / "vault", home.address)
        running = start_server(
            data=vault.data, credential=vault.credential, config=vault.config, environment=ALONE
        )
        ballast = fill(home.disk)
        # Documents of many pages: this release of the server cannot roll these back without more room.
        stored, refused = store_until_refused(running, 50_000)
        refused.refuses(503, "store-unavailable")
        ballast.unlink()
        process = home.server.server.process
        assert process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
            home.server.server.start()
        running.api.create({"email": "n5000@example.org"})
        check_whole(running, stored, 1)
        assert running.stop() == 0
        assert strongroom("verify", "--config", vault.config).returncode == 0
