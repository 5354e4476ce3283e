"""Where the tests' vaults keep their rows: what ``pytest --database NAME`` changes, and nothing else.

A vault is known by its data folder. On a server each has a database of its own there, made when it is first asked for.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from tests.servers.mariadb import PASSWORD, Mariadb
from tests.servers.postgresql import Postgresql
from vault.bootstrap import Vault
from vault.storage.address import ServerAddress

Rows = list[tuple[Any, ...]]


class DatabaseHome(Protocol):
    """One engine, for all vaults of a session."""

    def section(self, data: Path) -> Mapping[str, Any]:
        """``[database]`` of the vault with this data folder; empty if that is the default."""
        ...

    def copy(self, source: Path, target: Path) -> None:
        """Give a data folder that was copied the rows of the other one."""
        ...

    def run(self, data: Path, statement: str, parameters: Sequence[Any] = ()) -> Rows:
        """Run a statement, with ``?`` for its parameters, past every layer of the vault."""
        ...

    def run_all(self, data: Path, statements: Sequence[str]) -> list[Rows]:
        """Run several statements over one connection."""
        ...

    def folders(self, data: Path) -> list[Path]:
        """Where everything that is stored lies."""
        ...

    def hurry(self, vault: Vault) -> None:
        """Let an opened vault not wait for the disk: what is stored does not depend on that."""
        ...

    def forget(self, data: Path) -> None:
        """Drop a database that nobody needs any more: there may be hundreds."""
        ...


class SqliteHome:
    """A file in the data folder, as by default."""

    def section(self, data: Path) -> Mapping[str, Any]:  # noqa: ARG002  # servers need it
        return {}

    def copy(self, source: Path, target: Path) -> None:
        """Do nothing: the file came with the folder."""

    def run(self, data: Path, statement: str, parameters: Sequence[Any] = ()) -> Rows:
        with closing(sqlite3.connect(data / "strongroom.db")) as connection, connection:
            return connection.execute(statement, parameters).fetchall()

    def run_all(self, data: Path, statements: Sequence[str]) -> list[Rows]:
        with closing(sqlite3.connect(data / "strongroom.db")) as connection, connection:
            return [connection.execute(statement).fetchall() for statement in statements]

    def folders(self, data: Path) -> list[Path]:
        return [data]

    def hurry(self, vault: Vault) -> None:
        vault.engine.database.execute_sql("PRAGMA synchronous = off")

    def forget(self, data: Path) -> None:
        """Do nothing: it goes with the folder."""


class ServerHome:
    """Databases on one server.

    Args:
        server: it.
        folder: for the password's file.
    """

    def __init__(self, server: Postgresql | Mariadb, folder: Path) -> None:
        self.server = server
        self._secret = folder / "password"
        self._secret.touch(0o600)
        self._secret.write_text(PASSWORD)
        self._addresses: dict[Path, ServerAddress] = {}

    def address(self, data: Path) -> ServerAddress:
        """The database of the vault with this data folder."""
        data = data.resolve()
        if data not in self._addresses:
            self._addresses[data] = self.server.new_database()
        return self._addresses[data]

    def section(self, data: Path) -> Mapping[str, Any]:
        return section_of(self.address(data), self._secret)

    def copy(self, source: Path, target: Path) -> None:
        self._addresses[target.resolve()] = self.server.copy_database(self.address(source))

    def run(self, data: Path, statement: str, parameters: Sequence[Any] = ()) -> Rows:
        return run_on(self.server, self.address(data), statement, parameters)

    def run_all(self, data: Path, statements: Sequence[str]) -> list[Rows]:
        with closing(self.server.administrator(self.address(data).database)) as connection:
            return [_rows_of(connection, statement) for statement in statements]

    def folders(self, data: Path) -> list[Path]:
        # The server's own files and logs, too.
        return [data, self.server.folder]

    def hurry(self, vault: Vault) -> None:
        """Do nothing: the tests' servers never wait."""

    def forget(self, data: Path) -> None:
        address = self._addresses.pop(data.resolve(), None)
        if address is not None:
            self.server.drop_database(address)


_chosen: list[DatabaseHome] = [SqliteHome()]


def chosen_home() -> DatabaseHome:
    """The one that this session's vaults have."""
    return _chosen[-1]


@contextmanager
def choose(home: DatabaseHome) -> Iterator[None]:
    """Give this session's vaults another one."""
    _chosen.append(home)
    try:
        yield
    finally:
        _chosen.remove(home)


def variables_for(arguments: Sequence[str | Path]) -> dict[str, str]:
    """What a command with these arguments needs in its environment to find the database of its vault."""
    data = _data_folder(arguments)
    return {} if data is None else variables(chosen_home().section(data))


def _data_folder(arguments: Sequence[str | Path]) -> Path | None:
    """The data folder that a command works on; that of a configuration file is ``data`` beside it."""
    for option, value in itertools.pairwise(arguments):
        if option == "--data":
            return Path(value)
        if option == "--config":
            return Path(value).parent / "data"
    return None


def section_of(address: ServerAddress, secret: Path) -> dict[str, Any]:
    """``[database]`` for an address, with its password in a file."""
    return {
        "url": address.place.replace("://", f"://{address.user}@", 1),
        "password": {"file": str(secret)},
    }


def run_on(
    server: Postgresql | Mariadb, address: ServerAddress, statement: str, parameters: Sequence[Any] = ()
) -> Rows:
    """Run a statement, with ``?`` for its parameters, as the server's administrator."""
    text = statement.replace("%", "%%").replace("?", "%s") if parameters else statement
    with closing(server.administrator(address.database)) as connection:
        return _rows_of(connection, text, tuple(parameters) or None)


def _rows_of(connection: Any, text: str, parameters: tuple[Any, ...] | None = None) -> Rows:
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        return list(cursor.fetchall()) if cursor.description else []


def variables(section: Mapping[str, Any], place: str = "DATABASE") -> dict[str, str]:
    """A section as the environment has it."""
    found: dict[str, str] = {}
    for name, value in section.items():
        inner = f"{place}__{name.upper()}"
        found |= (
            variables(value, inner) if isinstance(value, Mapping) else {f"STRONGROOM_{inner}": str(value)}
        )
    return found
