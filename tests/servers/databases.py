"""Which database engines there are, for every test that runs over all of them. A new engine is one more name here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.mariadb import Mariadb, mariadb
from tests.servers.postgresql import Postgresql, postgresql
from vault.storage.address import ServerAddress

__all__ = ["ENGINES", "SERVERS", "configuration_file", "mariadb", "new_database", "postgresql", "server_of"]

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


def configuration_file(folder: Path, database: Path | ServerAddress, *, keys: Path) -> Path:
    """A new configuration file for a database, with the local key file that its vault was made with."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if isinstance(database, Path):
        section = f'url = "sqlite:{database}"\n'
    else:
        ((host, port),) = database.hosts
        (folder / "password").write_bytes(database.password or b"")
        (folder / "password").chmod(0o600)
        url = f"{database.scheme}://{database.user}@{host}:{port}/{database.database}"
        section = f'url = "{url}"\npassword = {{ file = "password" }}\n'
    file = folder / "strongroom.toml"
    file.write_text(
        f'[database]\n{section}\n[providers.disk]\ntype = "file"\npath = "{keys}"\n\n'
        '[keyrings.default]\nprovider = "disk"\nkey = "records"\n'
    )
    return file
