"""Looking at a database on a server that may be in any state: without keys, and without changing anything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from vault.storage.address import ServerAddress
from vault.storage.diagnosis import Diagnosis, MissingIndex, create_index
from vault.storage.engine import Engine
from vault.storage.opening import open_engine
from vault.storage.schema import HISTORY_TABLE
from vault.storage.tables import MODELS


class ServerDiagnosis(Diagnosis):
    """Reads facts from a database on a server.

    Args:
        engine: the database.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def missing_indexes(self) -> Iterator[MissingIndex]:
        """The indexes that are not there."""
        with self._engine.read() as database:
            for model in MODELS:
                table: str = model._meta.table_name  # noqa: SLF001  # peewee's documented place for a model's names
                there = {(tuple(index.columns), index.unique) for index in database.get_indexes(table)}
                for columns, is_unique in model._meta.indexes:  # noqa: SLF001  # the same
                    if (tuple(columns), is_unique) not in there:
                        yield MissingIndex(table, tuple(columns), create_index(table, columns, is_unique))

    def _plain(self, table: Any, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        # Some of the names mean something to one server or the other.
        left, right = self._engine.database.quote
        quoted = ", ".join(f"{left}{name}{right}" for name in names)
        for row in self._rows(f"SELECT {quoted} FROM {table._meta.table_name} ORDER BY id"):  # noqa: S608, SLF001  # ours
            yield dict(zip(names, row, strict=True))

    def _upgrades_done(self) -> set[str]:
        with self._engine.read() as database:
            if HISTORY_TABLE not in database.get_tables():
                return set()
        return {str(row[0]) for row in self._rows(f"SELECT name FROM {HISTORY_TABLE}")}  # noqa: S608  # our own name

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._engine.read() as database:
            found: list[Any] = database.execute_sql(statement.replace("?", "%s"), list(values)).fetchall()
        return found


@contextmanager
def look_at_server(address: ServerAddress) -> Iterator[Diagnosis]:
    """Connect for looking.

    Raises:
        MisconfiguredError: the server refuses us.
        UnavailableError: it cannot be reached.
    """
    engine = open_engine(address)
    try:
        yield ServerDiagnosis(engine)
    finally:
        engine.close()
