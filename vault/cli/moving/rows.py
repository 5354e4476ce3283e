"""What a file consists of before anything is made of it: rows of cells or lines of JSON, and those that are broken."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from vault.cli.failure import Failure
from vault.cli.moving.lines import Line

MAX_CELL_CHARACTERS = 1024 * 1024
"""The longest cell: a quoted one that goes on longer was never closed."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A row that is none.

    Attributes:
        rule: the rule that it breaks.
    """

    rule: str


@dataclass(frozen=True, slots=True)
class Row:
    """One record of the file, or what stands in the place of one.

    Attributes:
        line: the line where it begins.
        last_line: the line where it ends.
        content: cells of CSV, one line of JSON, or what is wrong.
    """

    line: int
    last_line: int
    content: list[str] | str | Broken = field(repr=False)


RowReader: TypeAlias = Callable[[Iterable[Line]], Iterator[Row]]


def json_rows(lines: Iterable[Line]) -> Iterator[Row]:
    """Yield the lines that are not blank."""
    for line in lines:
        if line.is_too_long:
            yield Row(line.number, line.number, Broken("too-large"))
        elif text := line.text.strip(" \t\r\n"):
            yield Row(line.number, line.number, text)


def csv_rows(lines: Iterable[Line], *, delimiter: str) -> Iterator[Row]:
    """Yield the rows of CSV, the header first; blank lines are none.

    A broken row takes its lines with it: where its quotes go wrong nobody can tell what its cells were, and reading
    on in the middle of it could make a record that nobody wrote.

    Raises:
        Failure: a quoted cell does not end; everything after it would be part of it.

    Source: RFC 4180.
    """
    # For the whole process: there is no other way to set it, and nothing else here reads CSV.
    csv.field_size_limit(MAX_CELL_CHARACTERS)
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.begin_row()
        try:
            cells: list[str] | Broken = next(reader)
        except StopIteration:
            return
        except _TooLongLineError:
            cells = Broken("too-large")
        except csv.Error as error:
            cells = _explain(str(error), feed)
        if isinstance(cells, Broken) and cells.rule == "too-large" and feed.first != feed.last:
            raise _unclosed(feed.first)
        if cells:
            yield Row(feed.first, feed.last, cells)


def _explain(message: str, feed: _Feed) -> Broken:
    # The messages are Python's own, and hold nothing of the file.
    if message.startswith("unexpected end of data"):
        raise _unclosed(feed.first)
    if message.startswith("field larger than field limit"):
        return Broken("too-large")
    if message.startswith("new-line character"):
        raise Failure(
            f"Line {feed.first} holds a carriage return that ends no line.",
            next_step="If the file ends its lines with CR alone, convert it: tr '\\r' '\\n' < OLD > NEW.",
        )
    return Broken("quotes")


def _unclosed(line: int) -> Failure:
    return Failure(
        f"Line {line}: the quoted cell that begins here does not end.",
        next_step='Look for a " that stands alone; inside a quoted cell it is written twice.',
    )


class _TooLongLineError(Exception):
    """Passes through the csv module, which then starts afresh with the next line."""


class _Feed:
    """Gives the csv module its lines, and remembers which ones a row took."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self.first = 0
        self.last = 0

    def begin_row(self) -> None:
        self.first = 0

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.first = self.first or line.number
        self.last = line.number
        if line.is_too_long:
            raise _TooLongLineError
        return line.text
