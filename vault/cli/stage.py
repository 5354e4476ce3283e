"""How the demo looks: numbered steps, the requests as they were sent, and little else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.text import Text

from vault.cli.output import printable, text_of
from vault.client import Exchange

_INDENT = "    "
_LABEL_WIDTH = 17


class Stage:
    """Prints on standard output; colours on a terminal, the same words without them elsewhere."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, markup=False, emoji=False)

    def headline(self, text: str) -> None:
        """Print a line above everything that follows."""
        self._print(Text(text, style="bold"))

    def say(self, text: str = "") -> None:
        """Print an ordinary line."""
        self._print(Text(printable(text)))

    def step(self, number: int, title: str) -> None:
        """Start a step."""
        self._print(Text())
        self._print(Text.assemble((f"{number:>2}  ", "cyan"), (title, "bold")))

    def request(self, exchange: Exchange) -> None:
        """Print the request line of an exchange, and how it was answered."""
        status = "no answer" if exchange.status is None else str(exchange.status)
        self._print(
            Text.assemble(_INDENT, (f"{exchange.method} {exchange.path}", "cyan"), (f"  -> {status}", "dim"))
        )

    def command(self, line: str) -> None:
        """Print a command that was run."""
        self._print(Text.assemble(_INDENT, (line, "cyan")))

    def value(self, label: str, value: str) -> None:
        """Print a named value."""
        self._print(Text.assemble(_INDENT, (f"{label:<{_LABEL_WIDTH}}", "dim"), printable(value)))

    def remark(self, text: str) -> None:
        """Print what the reader should notice."""
        self._print(Text.assemble(_INDENT, (text, "green")))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Print rows under their columns."""
        cells = [[text_of(value) for value in row] for row in rows]
        widths = [max(len(line[place]) for line in [[*columns], *cells]) for place in range(len(columns))]
        for line, style in [([*columns], "dim"), *((line, "") for line in cells)]:
            padded = "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
            self._print(Text.assemble(_INDENT, (padded.rstrip(), style)))

    @contextmanager
    def waiting(self, text: str) -> Iterator[Callable[[float], None]]:
        """Show that something is going on; the yielded function takes the seconds so far."""
        if not self._console.is_terminal:
            self.say(text)
            yield lambda _seconds: None
            return
        with self._console.status(text, spinner="line") as status:
            yield lambda seconds: status.update(f"{text} {seconds:.1f} s")

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)
