"""No space left: 503 and nothing half written, no data without its entry, and all is well once there is space."""

from __future__ import annotations

import errno
import io
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.live_server import Caller, LiveServer, Reply, children_of, running
from tests.faults.small_vault import SmallVault, make_empty_vault, say
from tests.servers.small_disk import small_disk

pytestmark = pytest.mark.sqlite_only("fills the disk under SQLite's own files")

RECORDS = "/v1/collections/people/records"
ROOM = 200_000
UNLIMITED = resource.RLIM_INFINITY


def small_files(limit: int) -> Callable[[], None]:
    """For the server and its workers no file grows beyond this."""

    def limit_files() -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))

    return limit_files


def make_room(server: LiveServer) -> None:
    for pid in (server.pid, *children_of(server.pid)):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (UNLIMITED, UNLIMITED))


def until_refused(
    ask: Callable[[int], Reply], status: int, *, most: int = 2_000
) -> tuple[list[Reply], Reply]:
    """Ask until one answer is not a success; return the good ones and that one."""
    good: list[Reply] = []
    for number in range(most):
        reply = ask(number)
        if reply.status != status:
            return good, reply
        good.append(reply)
    pytest.fail("the disk never filled")


def check_refused(reply: Reply) -> None:
    assert reply.problem in {(503, "store-unavailable"), (503, "audit-unavailable")}, reply.body
    assert int(reply.headers["retry-after"]) >= 1
    assert set(reply.json) == {"type", "title", "status", "detail", "request_id"}


def fill_and_recover(server: LiveServer, made: SmallVault, make_room: Callable[[], None]) -> None:
    """Fill the disk by creates, then by ever smaller requests; then give it room again."""

    def create(caller: Caller, size: int) -> Callable[[int], Reply]:
        def ask(number: int) -> Reply:
            data = {"email": f"s{size}n{number}@example.org", "city": "Rome", "note": "n" * size}
            return caller.ask("POST", RECORDS, {"data": data})

        return ask

    with server.caller() as caller:
        large, refused_large = until_refused(create(caller, 20_000), 201)
        small, refused_small = until_refused(create(caller, 10), 201)
        stored = [reply.json["token"] for reply in (*large, *small)]
        path = f"{RECORDS}/{stored[0]}"
        _, refused_read = until_refused(lambda _: caller.ask("GET", f"{path}?reveal=plain"), 200)
        body = {"field": "city", "value": "Rome", "reveal": "plain"}
        refused_lookup = caller.ask("POST", f"{RECORDS}/lookup", body)
        refused_erase = caller.ask("DELETE", path)
        refused_change = caller.ask("PUT", path, {"data": {"email": "changed@example.org"}})
        for reply in (
            refused_large,
            refused_small,
            refused_read,
            refused_lookup,
            refused_erase,
            refused_change,
        ):
            check_refused(reply)
            assert b"example.org" not in reply.body
            assert b"Rome" not in reply.body
        assert made.findings() == []

        make_room()

        assert caller.ask("POST", RECORDS, {"data": {"email": "after@example.org"}}).status == 201
        shown = caller.ask("GET", f"{path}?reveal=plain")
        assert (shown.status, shown.json["generation"]) == (200, 1)
        assert caller.ask("DELETE", path).status == 204
        listed: list[Any] = []
        cursor = None
        while True:
            page = caller.ask("GET", f"{RECORDS}?limit=100" + (f"&cursor={cursor}" if cursor else "")).json
            listed += page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(listed) == len(stored)  # one more, and one erased
        assert {item["token"] for item in listed} > set(stored[1:])
    assert made.findings() == []
    say(f"disk full after {len(large)} large and {len(small)} small records")


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """Works without any right: every write beyond the limit fails with EFBIG."""
    made = make_empty_vault(tmp_path / "data")
    limit = made.database.stat().st_size + ROOM
    with running(made.folder, made.credential, tmp_path / "server.log", before=small_files(limit)) as server:
        fill_and_recover(server, made, lambda: make_room(server))
    assert "request-crashed" not in (tmp_path / "server.log").read_text()


@pytest.fixture
def disk(missing: Callable[[str], None], tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; where nobody may mount one, test_files_that_may_not_grow holds without it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(missing, folder, 4):
        yield folder


def has_room(ballast: io.FileIO) -> bool:
    """Write some more, unless the disk is full."""
    try:
        ballast.write(b"\xff" * 65_536)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def fill(path: Path, *, leave: int) -> None:
    """Take all space but this much."""
    with path.open("wb", buffering=0) as ballast:
        while has_room(ballast):
            pass
        ballast.truncate(ballast.tell() - leave)


def test_a_disk_without_space(disk: Path, tmp_path: Path) -> None:
    made = make_empty_vault(disk / "data")
    with running(made.folder, made.credential, tmp_path / "server.log") as server:
        fill(disk / "ballast", leave=ROOM)
        fill_and_recover(server, made, (disk / "ballast").unlink)
    assert "request-crashed" not in (tmp_path / "server.log").read_text()


def test_init_on_a_full_disk_leaves_no_vault(disk: Path) -> None:
    from vault import bootstrap
    from vault.config import load_configuration
    from vault.core.errors import VaultError

    configuration = load_configuration(None, disk / "data")
    for leave in (0, 4_096, 65_536):
        fill(disk / "ballast", leave=leave)
        with pytest.raises(VaultError):
            bootstrap.create_vault(configuration)
        assert not bootstrap.vault_exists(configuration)
        (disk / "ballast").unlink()

    bootstrap.create_vault(configuration)
    vault = bootstrap.open_vault(configuration)
    assert vault.verify(lambda: None).findings == []
    vault.close()
