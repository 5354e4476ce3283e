"""Looking at stored rows as they are: for ``verify``, and to show people what the database really holds."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from vault.core.rows import Row
from vault.storage.engine import Engine
from vault.storage.statements import RowMapper, slot

R = TypeVar("R", bound=Row)

_PAGE_ROWS = 500


class SqlInspector:
    """Reads whole tables.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def rows(self, row_type: type[R]) -> Iterator[R]:
        """All rows of one table in the order of their ids; see :class:`vault.core.ports.Inspector`."""
        mapper = RowMapper(row_type)
        row_id = mapper.table.id
        # In pages: the drivers of servers fetch all of an answer before they show its first row.
        statement = mapper.select(order_by=row_id, limit=True)
        following = mapper.select(row_id > slot("after"), order_by=row_id, limit=True)
        values = {"limit": _PAGE_ROWS}
        with self._engine.read() as database:
            while page := mapper.all(statement.run(database, values)):
                yield from page
                statement, values = following, {"limit": _PAGE_ROWS, "after": page[-1].id or 0}


def raw_record(database_path: Path, token: uuid.UUID) -> dict[str, bytes | int | str | None]:
    """Fetch the raw columns of one record, past every layer of the vault.

    Raises:
        LookupError: there is no such row.
    """
    uri = f"{database_path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as connection:
        cursor = connection.execute("SELECT * FROM record WHERE token = ?", (token.bytes,))
        row = cursor.fetchone()
        if row is None:
            raise LookupError(f"no record row with token {token}")
        return dict(zip((column[0] for column in cursor.description), row, strict=True))
