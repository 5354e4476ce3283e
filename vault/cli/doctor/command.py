"""The command itself: what is printed, and the exit code."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

import vault
from vault.cli.doctor.examination import examine
from vault.cli.doctor.findings import Code, Finding, Level
from vault.cli.failure import PROBLEM_FOUND
from vault.cli.host import host_options
from vault.cli.output import printable

_STYLES = {Level.OK: "green", Level.NOTE: "cyan", Level.WARNING: "yellow", Level.ERROR: "bold red"}
_CHECK_WIDTH = 13
_LEVEL_WIDTH = 7
_INDENT = " " * (_CHECK_WIDTH + _LEVEL_WIDTH + 4)


@click.command("doctor")
@host_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def command(config: Path | None, data: Path | None, as_json: bool) -> None:
    """Look at everything around the vault; exit 3 if something needs mending.

    Configuration, files, clock, disk, database, schema, keys, access log, processes, jobs: each with the command that
    mends it. Changes nothing. The server may run meanwhile, and need not.
    """
    findings = examine(config, data)
    if as_json:
        click.echo(printable(json.dumps(_document(findings))))
    else:
        _print(findings)
    if any(finding.is_problem for finding in findings):
        sys.exit(PROBLEM_FOUND)


def _document(findings: list[Finding]) -> dict[str, object]:
    return {
        "ok": not any(finding.is_problem for finding in findings),
        "release": vault.__version__,
        "findings": [
            {
                "check": finding.check,
                "level": finding.level.value,
                "code": finding.code.value,
                "sentence": finding.sentence,
                "mend": finding.mend,
            }
            for finding in findings
        ],
    }


def _print(findings: list[Finding]) -> None:
    console = Console(highlight=False, markup=False, emoji=False)
    last = None
    for finding in findings:
        for text in _lines(finding, "" if finding.check == last else finding.check, console.width):
            console.print(text, soft_wrap=True)
        last = finding.check
    console.print(_summary(findings), soft_wrap=True)


def _lines(finding: Finding, check: str, width: int) -> Iterator[Text]:
    sentence = printable(finding.sentence)
    if finding.code not in {Code.FINE, Code.NOT_CHECKED}:
        sentence = f"{finding.code}: {sentence}"
    # Paths and commands stay whole: they are to be copied.
    first, *others = textwrap.wrap(
        sentence, max(width - len(_INDENT), 40), break_long_words=False, break_on_hyphens=False
    )
    level = (f"{finding.level:<{_LEVEL_WIDTH}}  ", _STYLES[finding.level])
    yield Text.assemble(f"{check:<{_CHECK_WIDTH}}  ", level, first)
    for other in others:
        yield Text(_INDENT + other)
    if finding.mend is not None:
        yield Text.assemble(f"{_INDENT}mend: ", (printable(finding.mend), "bold"))


def _summary(findings: list[Finding]) -> str:
    counts = [
        f"{count} {level.value}{'s' if count > 1 else ''}"
        for level in (Level.ERROR, Level.WARNING)
        if (count := sum(finding.level is level for finding in findings))
    ]
    if not counts:
        return "Nothing needs mending."
    return f"{' and '.join(counts)}. What each word means: docs/operations/doctor.md"
