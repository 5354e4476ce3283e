"""How far it is, for whoever watches: a bar on a terminal, lines for a log, JSON for a program; all of it on standard error but the JSON."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

from vault.cli.output import print_json, printable

LINE_SECONDS = 10.0
_JSON_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Count:
    """How far it is.

    Attributes:
        done: records that are done with.
        refused: those of them that were refused, or left out.
        total: all there are; None if nobody knows.
        seconds: since the beginning of this run.
        fresh: those of ``done`` that this run did.
    """

    done: int
    refused: int
    total: int | None
    seconds: float
    fresh: int

    @property
    def per_second(self) -> float:
        """How many records this run does in a second."""
        return self.fresh / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """How long it takes from here, if that can be known."""
        if self.total is None or not self.per_second:
            return None
        return max(0, self.total - self.done) / self.per_second


class Display(Protocol):
    """Shows progress and single sentences."""

    def show(self, count: Count) -> None:
        """Show how far it is; may leave out what comes too fast."""

    def say(self, event: str, sentence: str, **members: Any) -> None:
        """Show one sentence; ``event`` and members are what a program reads instead."""


class Meter:
    """Counts what is done and shows it. Safe to call from several threads.

    Args:
        display: where it is shown.
        done: records that earlier runs did.
        refused: those of them that were refused.
        total: all there are, or None.
        clock: seconds.
    """

    def __init__(
        self,
        display: Display,
        *,
        done: int,
        refused: int,
        total: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._display = display
        self._earlier = done
        self._done = done
        self._refused = refused
        self._total = total
        self._clock = clock
        self._start = clock()
        self._lock = threading.Lock()

    @property
    def count(self) -> Count:
        """How far it is."""
        seconds = self._clock() - self._start
        return Count(self._done, self._refused, self._total, seconds, self._done - self._earlier)

    def add(self, *, done: int, refused: int) -> None:
        """Count some more."""
        with self._lock:
            self._done += done
            self._refused += refused
            self._display.show(self.count)

    def say(self, event: str, sentence: str, **members: Any) -> None:
        """Show a sentence."""
        with self._lock:
            self._display.say(event, sentence, **members)


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def show(self, count: Count) -> None:
        left = count.seconds_left
        self._progress.update(
            self._task,
            completed=count.done,
            total=count.total,
            rate=f"{count.per_second:,.0f}/s",
            left="" if left is None else f"{_span(left)} left",
            refused=f"{count.refused:,} refused",
        )

    def say(self, event: str, sentence: str, **members: Any) -> None:  # noqa: ARG002 - people read sentences
        self._progress.console.print(printable(sentence), markup=False, highlight=False, soft_wrap=True)


class _Lines:
    def __init__(self) -> None:
        self._next = time.monotonic() + LINE_SECONDS

    def show(self, count: Count) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + LINE_SECONDS
        total = "" if count.total is None else f" of {count.total:,}"
        left = "" if count.seconds_left is None else f", {_span(count.seconds_left)} left"
        click.echo(
            f"{count.done:,}{total} records, {count.per_second:,.0f}/s{left}, {count.refused:,} refused",
            err=True,
        )

    def say(self, event: str, sentence: str, **members: Any) -> None:  # noqa: ARG002 - people read sentences
        click.echo(printable(sentence), err=True)


class _JsonLines:
    def __init__(self) -> None:
        self._next = 0.0

    def show(self, count: Count) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _JSON_SECONDS
        left = count.seconds_left
        _print_event(
            "progress",
            done=count.done,
            total=count.total,
            refused=count.refused,
            records_per_second=round(count.per_second, 1),
            seconds_left=None if left is None else round(left, 1),
        )

    def say(self, event: str, sentence: str, **members: Any) -> None:
        _print_event(event, **members, detail=sentence)


def _print_event(event: str, **members: Any) -> None:
    print_json({"event": event, **members})
    # Somebody may read along through a pipe.
    sys.stdout.flush()


@contextmanager
def display(*, as_json: bool) -> Iterator[Display]:
    """Give the display that fits: JSON lines if asked for, a bar on a terminal, else a line now and then."""
    if as_json:
        yield _JsonLines()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines()
        return
    with Progress(
        SpinnerColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        *(TextColumn(f"{{task.fields[{name}]}}") for name in ("rate", "left", "refused")),
        console=console,
        transient=True,
    ) as progress:
        yield _Bar(progress, progress.add_task("", total=None, rate="", left="", refused=""))


def _span(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
