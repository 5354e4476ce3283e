"""Which database engines there are, for every test that runs over all of them. A new engine is one more name here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.mariadb import Mariadb, mariadb
from tests.servers.postgresql import Postgresql, postgresql
from vault.storage.address import ServerAddress

__all__ = ["ENGINES", "SERVERS", "mariadb", "new_database", "postgresql", "server_of"]

SERVERS = ("postgresql", "mariadb")
"""Those that need a server: each name is also that of a session's fixture."""
ENGINES = ("sqlite", *SERVERS)


def server_of(request: pytest.FixtureRequest, engine: str) -> Postgresql | Mariadb:
    """The server that tests share; import its fixture into the conftest."""
    server: Postgresql | Mariadb = request.getfixturevalue(engine)
    return server


def new_database(request: pytest.FixtureRequest, engine: str, folder: Path) -> Path | ServerAddress:
    """A new, empty database of an engine."""
    return folder / "contract.db" if engine == "sqlite" else server_of(request, engine).new_database()
