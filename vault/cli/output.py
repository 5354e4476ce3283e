"""What commands print: tables for people, JSON lines for programs, and never a stored control character."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vault.client.documents import encode

# A stored value could carry an escape sequence that rewrites the reader's terminal, or a mark that turns the
# direction of the text: both are shown, not obeyed. The form \uXXXX is valid inside JSON, too.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """Return the text with control characters shown as their JSON escapes (tab and line feed stay)."""
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_json(value: Any) -> None:
    """Print one value as one line of JSON."""
    click.echo(printable(encode(plain(value)).decode()))


def plain(value: Any) -> Any:
    """Turn results into what JSON can hold: times as RFC 3339, tokens as text."""
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case UUID():
            return str(value)
        case Mapping():
            return {name: plain(member) for name, member in value.items()}
        case list() | tuple():
            return [plain(member) for member in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        case _:
            return value


def text_of(value: Any) -> str:
    """Return a value as a cell of a table shows it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case str():
            return printable(value).replace("\n", "\\n").replace("\t", "\\t")
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        case UUID() | int():
            return str(value)
        case _:
            return printable(encode(plain(value)).decode())


def print_fields(pairs: Iterable[tuple[str, Any]], *, indent: int = 0) -> None:
    """Print names and values, one pair a line, values aligned."""
    rows = [(name, text_of(value)) for name, value in pairs]
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        click.echo(f"{' ' * indent}{printable(name):<{width}}  {value}".rstrip())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows: framed on a terminal, else aligned by spaces with nothing cut off."""
    cells = [[text_of(value) for value in row] for row in rows]
    console = Console()
    if not console.is_terminal:
        widths = [max(len(line[place]) for line in [[*columns], *cells]) for place in range(len(columns))]
        for line in [[*columns], *cells]:
            click.echo(
                "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
            )
        return
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line))
    console.print(table)
