"""``strongroom transfer``: a whole vault into another database; exit code 3 if the copies differ."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from vault import bootstrap
from vault.cli.failure import PROBLEM_FOUND, Failure
from vault.cli.host import reports_misconfiguration
from vault.cli.output import print_json, print_table
from vault.config import DELIMITER, PREFIX, Configuration, load_configuration
from vault.core.errors import IntegrityError, MisconfiguredError, UnavailableError
from vault.storage.transfer import Comparison

_URL = re.compile(r"[a-z][a-z0-9+]*:", re.ASCII | re.IGNORECASE)
_OF_DATABASE = f"{PREFIX}DATABASE{DELIMITER}"
_SECONDS_BETWEEN = 1.0
_GO_ON = "What was copied stays; the same command goes on from there."


@click.command("transfer")
@click.option("--from", "source", required=True, metavar="URL|FILE", help="Where the vault is.")
@click.option(
    "--to", "target", required=True, metavar="URL|FILE", help="Where it goes: a database without rows."
)
@click.option(
    "--from-password", metavar="FILE", help="File with the password of --from, if that is a server's URL."
)
@click.option(
    "--to-password", metavar="FILE", help="File with the password of --to, if that is a server's URL."
)
@click.option("--json", "as_json", is_flag=True, help="JSON lines instead of text.")
@reports_misconfiguration
def command(
    source: str, target: str, from_password: str | None, to_password: str | None, as_json: bool
) -> None:
    """Copy a whole vault into another database; exit 3 if the copies differ.

    URL as in [database] url, or a configuration FILE, of which [database] counts. Stop every server and worker first.
    Ended at any moment, even by kill -9, the same command goes on. No key is needed, and no record is opened.
    """
    os.umask(0o077)
    _refuse_overrides()
    places = (_place("--from", source, from_password), _place("--to", target, to_password))
    if bootstrap.is_same_database(*places):
        raise click.UsageError("--from and --to name the same database.")
    try:
        with _shown(as_json=as_json) as watcher:
            comparisons = bootstrap.transfer(*places, watcher)
    except UnavailableError as error:
        raise Failure(str(error), next_step=_GO_ON) from error
    except IntegrityError as error:
        raise Failure(
            f"{error}: this row holds what no vault writes, and another engine would not keep it.",
            next_step="Run strongroom verify on the source.",
        ) from error
    _print(comparisons, places[1], as_json=as_json)


def _refuse_overrides() -> None:
    """Raise if the environment would name one database for both sides."""
    found = sorted(name for name in os.environ if name.upper().startswith(_OF_DATABASE))
    if found:
        raise click.UsageError(
            f"The environment variable {found[0]} sets [database], of which a transfer has two; unset it."
        )


def _place(option: str, text: str, password: str | None) -> Configuration:
    if not _URL.match(text) or Path(text).is_file():
        if password is not None:
            raise click.UsageError(
                f"{option}-password is for a URL; a configuration file names its own password."
            )
        return load_configuration(Path(text), None)
    section: dict[str, Any] = {"url": text}
    if password is not None:
        section["password"] = {"file": password}
    try:
        # Relative paths begin where the command is typed.
        return load_configuration(None, Path(), {"database": section})
    except MisconfiguredError as error:
        # The embedded default has no other section that could be wrong.
        sentences = "; ".join(line.strip() for line in error.detail.splitlines()[1:])
        raise click.UsageError(f"{option}: {sentences or error.detail}") from error


def _print(comparisons: Sequence[Comparison], target: Configuration, *, as_json: bool) -> None:
    different = [each for each in comparisons if not each.is_same]
    if as_json:
        for each in comparisons:
            print_json({"event": "table", "same": each.is_same, **_members(each)})
        print_json({"event": "done" if not different else "different", "rows": _rows(comparisons)})
    else:
        lines = [(each.table, each.source.rows, each.source.sha256) for each in comparisons]
        print_table(
            ("table", "rows", "sha256, both sides" if not different else "sha256 of the source"), lines
        )
    if different:
        raise Failure(
            "The copies differ, and the target stays closed.",
            details=tuple(
                f"{each.table}: {each.source.rows:,} rows and {each.target.rows:,}, first different at #"
                f"{each.first_difference}"
                for each in different
            ),
            next_step="Find out who wrote to either of them, empty the target and begin again.",
            exit_code=PROBLEM_FOUND,
        )
    if not as_json:
        click.echo(f"{_rows(comparisons):,} rows are the same on both sides.")
        click.echo(
            f"Next: point [database] at {target.database_place}, start strongroom serve, and do not start one on the old "
            "database again: from now on they would differ."
        )


def _members(each: Comparison) -> dict[str, Any]:
    return {
        "table": each.table,
        "rows": each.source.rows,
        "sha256": each.source.sha256,
        "target_rows": each.target.rows,
        "target_sha256": each.target.sha256,
        "first_difference": each.first_difference,
    }


def _rows(comparisons: Sequence[Comparison]) -> int:
    return sum(each.source.rows for each in comparisons)


@contextmanager
def _shown(*, as_json: bool) -> Iterator[bootstrap.Watcher]:
    """Show how far it is: a bar on a terminal, JSON lines if asked for, else nothing."""
    if as_json:
        yield _Lines().watcher
        return
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        yield bootstrap.Watcher(
            *_bars(
                progress, [progress.add_task(what, total=None, rate="") for what in ("copied", "compared")]
            )
        )


def _bars(progress: Progress, tasks: Sequence[TaskID]) -> Iterator[Callable[[int], None]]:
    def begin(total: int) -> None:
        for task in tasks:
            progress.update(task, total=total)

    def advance(task: TaskID, rows: int) -> None:
        progress.advance(task, rows)
        speed = next(each.speed for each in progress.tasks if each.id == task)
        progress.update(task, rate=f"{speed:,.0f}/s" if speed else "")

    yield begin
    yield lambda rows: advance(tasks[0], rows)
    yield lambda rows: advance(tasks[1], rows)


class _Lines:
    """Progress as JSON lines, one a second at most."""

    def __init__(self) -> None:
        self._total = 0
        self._done = {"copied": 0, "compared": 0}
        self._next = 0.0
        self.watcher = bootstrap.Watcher(
            self._begin, lambda rows: self._add("copied", rows), lambda rows: self._add("compared", rows)
        )

    def _begin(self, total: int) -> None:
        self._total = total
        self._show()

    def _add(self, what: str, rows: int) -> None:
        self._done[what] += rows
        if time.monotonic() >= self._next:
            self._show()

    def _show(self) -> None:
        self._next = time.monotonic() + _SECONDS_BETWEEN
        print_json({"event": "progress", **self._done, "total": self._total})
        # Somebody may read along through a pipe.
        sys.stdout.flush()
