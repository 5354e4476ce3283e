"""``strongroom verify``: check everything that is stored; exit code 3 if anything is wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from vault import bootstrap
from vault.cli.failure import PROBLEM_FOUND
from vault.cli.host import host_options, reports_misconfiguration
from vault.config import load_configuration
from vault.core.errors import IntegrityError
from vault.core.verification import Finding, VerificationReport


@click.command("verify")
@host_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@reports_misconfiguration
def command(config: Path | None, data: Path | None, as_json: bool) -> None:
    """Check every stored byte; exit 3 if something is wrong.

    Opens every record and checks every MAC, index row, binding and log entry. The server may run meanwhile.
    """
    report = _report(config, data, is_quiet=as_json or not sys.stderr.isatty())
    if as_json:
        click.echo(
            json.dumps(
                {
                    "ok": not report.findings,
                    "rows": dict(report.rows),
                    "opened": report.opened,
                    "findings": [{"code": item.code, "where": item.where} for item in report.findings],
                }
            )
        )
    else:
        _print(report)
    if report.findings:
        sys.exit(PROBLEM_FOUND)


def _report(config: Path | None, data: Path | None, *, is_quiet: bool) -> VerificationReport:
    configuration = load_configuration(config, data)
    try:
        vault = bootstrap.open_vault(configuration)
        try:
            with _progress(is_quiet=is_quiet) as advance:
                return vault.verify(advance)
        finally:
            vault.close()
    except IntegrityError as error:
        # Without sound keys, or in pages that SQLite cannot read, nothing more can be checked.
        return VerificationReport(findings=[Finding(error.finding, error.where)])


@contextmanager
def _progress(*, is_quiet: bool) -> Iterator[Callable[[], None]]:
    columns = (SpinnerColumn(), TextColumn("{task.completed:,.0f} rows checked"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=is_quiet, transient=True) as progress:
        task = progress.add_task("verify", total=None)
        yield lambda: progress.advance(task)


def _print(report: VerificationReport) -> None:
    for item in report.findings:
        click.echo(f"FOUND {item.code}: {item.where}")
    rows = ", ".join(f"{count:,} {table}" for table, count in sorted(report.rows.items()))
    click.echo(f"Checked {rows or 'nothing'}; opened {report.opened:,} documents.")
    if report.findings:
        findings = "1 finding" if len(report.findings) == 1 else f"{len(report.findings):,} findings"
        click.echo(
            f"{findings}. Find out who wrote to the database, and restore a backup that verify finds sound. "
            "What each word means: docs/operations/running.md."
        )
    else:
        click.echo("All is as the vault wrote it.")
