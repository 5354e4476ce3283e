"""/healthz and /readyz, and a server whose key file goes away under it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Api, Server

pytestmark = pytest.mark.own_home


@pytest.fixture(scope="module")
def own_server(start_server: Callable[..., Server]) -> Iterator[Server]:
    server = start_server()
    yield server
    server.stop()


def test_health_is_open_to_everyone(make_api: Callable[..., Api], server: Server) -> None:
    anyone = make_api(server.url)
    assert anyone.get("/healthz").gives(200) == {"status": "ok"}
    ready = anyone.get("/readyz").gives(200)
    # Words only: a stranger learns no file name.
    assert ready == {"status": "ready", "store": "ok", "providers": {"disk": "ok"}}


@pytest.mark.parametrize("trouble", ["removed", "open to others", "damaged"])
def test_a_key_file_that_goes_bad_takes_no_keys_away_but_is_reported(
    own_server: Server, make_api: Callable[..., Api], trouble: str
) -> None:
    server, anyone = own_server, make_api(own_server.url)
    file = server.data / "keys.json"
    kept = file.with_suffix(".kept")
    shutil.copy2(file, kept)
    path = server.api.create({"n": 1})
    match trouble:
        case "removed":
            file.unlink()
        case "open to others":
            file.chmod(0o644)
        case _:
            file.write_bytes(os.urandom(100))
    try:
        # Keys in memory go on working, for records old and new.
        assert server.api.plain(path) == {"n": 1}
        assert server.api.plain(server.api.create({"n": 2})) == {"n": 2}
        assert anyone.get("/healthz").gives(200) == {"status": "ok"}
        assert anyone.get("/readyz").gives(200)["providers"] == {"disk": "ok"}
        assert "the key file went bad" in server.log
    finally:
        kept.replace(file)
    assert server.api.plain(path) == {"n": 1}
