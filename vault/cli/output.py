"""What commands print: tables for people, JSON lines for programs, and never a stored control character."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import click

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
    """Print rows aligned by spaces, with nothing cut off or folded: a token in two pieces cannot be copied."""
    lines = [[*columns], *([text_of(value) for value in row] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for number, line in enumerate(lines):
        text = "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        # Without a terminal, echo leaves the style out.
        click.echo(text if number else click.style(text, bold=True))
