"""Rows from one database to another as they are: read in the order of their ids, written in batches, and compared."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from peewee import fn

from vault.core.encoding import encode_fields
from vault.core.errors import IntegrityError
from vault.storage.engine import Engine
from vault.storage.statements import Statement, slot

_PAGE_ROWS = 64
"""The largest document has 1 MiB, so this is also how many MiB a page may take."""
_BATCH_ROWS = 512
_BATCH_BYTES = 4 << 20
_STATEMENT_BYTES = 1 << 20
"""MariaDB takes 8 MiB or more in one statement, and its text may be twice as long as the values."""
_LABEL = "strongroom/transferred-row/v1"
_SIGN_OFFSET = 2**63
_BEFORE_ALL = -_SIGN_OFFSET

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Digest:
    """What a table holds.

    Attributes:
        rows: how many.
        sha256: over the canonical bytes of every row in the order of their ids, hexadecimal.
    """

    rows: int
    sha256: str


class TableRows:
    """One table of one database, with every column.

    Args:
        engine: the database.
        model: the table; it may be bound to another database.
    """

    def __init__(self, engine: Engine, model: Any) -> None:
        self.table = str(model._meta.table_name)  # noqa: SLF001  # peewee's documented place for a model's names
        self.columns: tuple[str, ...] = tuple(model._meta.sorted_field_names)  # noqa: SLF001  # the same
        self._id = self.columns.index("id")
        self._engine = engine
        self._model = model
        fields = [getattr(model, name) for name in self.columns]
        every = model.select(*fields)
        self._page = self._statement(
            every.where(model.id > slot("after")).order_by(model.id).limit(_PAGE_ROWS)
        )
        self._one = self._statement(every.where(model.id == slot("id")))
        self._facts = self._statement(model.select(fn.COUNT(model.id), fn.MAX(model.id)))
        self._insert_of = functools.lru_cache(_PAGE_ROWS)(self._insert)

    def count(self) -> int:
        """How many rows there are."""
        return self._count_and_last()[0]

    def last_id(self) -> int:
        """The highest id that is there; 0 if there is none."""
        return self._count_and_last()[1]

    def last_given_id(self) -> int:
        """The highest id that was ever given, so that no later row gets it again."""
        return max(self.last_id(), self._engine.id_counter(self.table))

    def give_ids_after(self, last: int) -> None:
        """Let the ids of new rows begin after this one."""
        if last > self._engine.id_counter(self.table):
            self._engine.set_id_counter(self.table, last)

    def row(self, row_id: int) -> Row | None:
        """One row; None if it is not there."""
        with self._engine.read() as database:
            found = self._one.run(database, {"id": row_id}).fetchone()
        return None if found is None else tuple(found)

    def rows(self, after: int = _BEFORE_ALL) -> Iterator[Row]:
        """The rows with higher ids, in their order."""
        while True:
            with self._engine.read() as database:
                page = self._page.run(database, {"after": after}).fetchall()
            if not page:
                return
            yield from map(tuple, page)
            after = page[-1][self._id]

    def id_of(self, row: Row) -> int:
        """The id of a row."""
        row_id: int = row[self._id]
        return row_id

    def add(self, rows: Iterable[Row], wrote: Callable[[int], object]) -> None:
        """Commit rows batch by batch, in their order.

        Args:
            rows: in the order of their ids.
            wrote: is told of each batch how many rows it had, once they are committed.

        Raises:
            IntegrityError: ``row-not-movable``; a value is of a type, or a text, that only SQLite keeps.
        """
        for batch in _cut(self._movable(rows), most_rows=_BATCH_ROWS, most_bytes=_BATCH_BYTES):
            with self._engine.write() as database:
                for part in _cut(batch, most_rows=_PAGE_ROWS, most_bytes=_STATEMENT_BYTES):
                    values = enumerate(itertools.chain.from_iterable(part))
                    self._insert_of(len(part)).run(database, {str(place): value for place, value in values})
            wrote(len(batch))

    def bytes_of(self, row: Row) -> bytes:
        """The canonical bytes of a row, the same whichever engine it was read from.

        Table, and for each column that is not NULL name, type and value, each with its length before it.
        """
        parts: list[str | bytes | int] = []
        for name, value in zip(self.columns, row, strict=True):
            if isinstance(value, int):
                parts += (name, "i", value + _SIGN_OFFSET)
            elif isinstance(value, str):
                parts += (name, "t", value.encode("utf-8", "surrogateescape"))
            elif value is not None:
                parts += (name, "b", bytes(value) if isinstance(value, bytes) else repr(value))
        return encode_fields(_LABEL, self.table, *parts)

    def _movable(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if not all(map(_is_movable, row)):
                raise IntegrityError("row-not-movable", where=f"{self.table} #{self.id_of(row)}")
            yield row

    def _count_and_last(self) -> tuple[int, int]:
        with self._engine.read() as database:
            count, last = self._facts.run(database, {}).fetchone()
        return count, last or 0

    def _insert(self, rows: int) -> Statement:
        places = itertools.count()
        values = [[slot(str(next(places))) for _ in self.columns] for _ in range(rows)]
        fields = [getattr(self._model, name) for name in self.columns]
        return self._statement(self._model.insert_many(values, fields=fields).returning())

    def _statement(self, query: Any) -> Statement:
        # Of this database, whichever one the model is bound to: the two sides of a transfer are open at once.
        return Statement(query.bind(self._engine.database))


def compare(
    source: TableRows, target: TableRows, compared: Callable[[int], object]
) -> tuple[Digest, Digest, int | None]:
    """Read a table on both sides.

    Args:
        source: one side.
        target: the other side.
        compared: is told, now and then, how many rows of the source were read.

    Returns:
        What each side holds, and the id of the first row that differs; None if none does.
    """
    hashes = (hashlib.sha256(), hashlib.sha256())
    counts = [0, 0]
    first: int | None = None
    for pair in itertools.zip_longest(source.rows(), target.rows()):
        content = [
            None if row is None else side.bytes_of(row)
            for side, row in zip((source, target), pair, strict=True)
        ]
        if first is None and content[0] != content[1]:
            first = min(source.id_of(row) for row in pair if row is not None)
        for side, each in enumerate(content):
            if each is not None:
                hashes[side].update(len(each).to_bytes(8, "big") + each)
                counts[side] += 1
        if content[0] is not None:
            compared(1)
    ours, theirs = (Digest(count, sha.hexdigest()) for count, sha in zip(counts, hashes, strict=True))
    return ours, theirs, first


def _is_movable(value: Any) -> bool:
    if isinstance(value, str):
        try:
            # PostgreSQL keeps no NUL in a text; and a tampered text column of SQLite may hold bytes that are no UTF-8.
            return b"\0" not in value.encode()
        except UnicodeEncodeError:
            return False
    return value is None or isinstance(value, int | bytes)


def _cut(rows: Iterable[Row], *, most_rows: int, most_bytes: int) -> Iterator[Sequence[Row]]:
    part: list[Row] = []
    size = 0
    for row in rows:
        length = sum(len(value) for value in row if isinstance(value, bytes | str))
        if part and (len(part) == most_rows or size + length > most_bytes):
            yield part
            part, size = [], 0
        part.append(row)
        size += length
    if part:
        yield part
