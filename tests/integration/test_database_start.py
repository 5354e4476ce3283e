"""Servers that start together on an empty database: one makes the vault, all serve it."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers.databases import SERVERS, server_of
from tests.servers.served_vaults import write_config

if TYPE_CHECKING:
    from conftest import Server

pytestmark = [pytest.mark.own_home, pytest.mark.sqlite_only("has servers of its own, whatever is asked for")]

CREDENTIAL = re.compile(r"^  (\S{40,})$", re.MULTILINE)
ALONE = {"STRONGROOM_WORKER__WITH_SERVER": "false", "STRONGROOM_SERVER__WORKERS": "1"}


@pytest.mark.parametrize("engine", SERVERS)
def test_servers_that_start_together_serve_one_vault(
    request: pytest.FixtureRequest, start_server: Callable[..., Server], tmp_path: Path, engine: str
) -> None:
    config = write_config(tmp_path, server_of(request, engine).new_database())

    def start(_: int) -> Server:
        return start_server(data=tmp_path / "data", config=config, environment=ALONE)

    with ThreadPoolExecutor(2) as pool:
        servers = list(pool.map(start, range(2)))

    assert sorted(server.log.count("Made a new vault") for server in servers) == [0, 1]
    maker, other = sorted(servers, key=lambda server: "Made a new vault" not in server.log)
    credential = CREDENTIAL.findall(maker.log)
    assert len(credential) == 1
    assert not CREDENTIAL.findall(other.log)
    near, far = (replace(server.api, credential=credential[0]) for server in (maker, other))
    assert far.plain(near.create({"email": "a@example.org"})) == {"email": "a@example.org"}
    assert [server.stop() for server in servers] == [0, 0]
