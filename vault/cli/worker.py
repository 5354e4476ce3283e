"""``strongroom worker``: background jobs on their own, any number of times."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from vault.bootstrap.serving import start_logs
from vault.bootstrap.working import work, work_once
from vault.cli.failure import PROBLEM_FOUND
from vault.cli.host import host_options, reports_misconfiguration
from vault.config import load_configuration
from vault.core.stop_signal import StopSignal
from vault.rotation.worker import Outcome


@click.command("worker")
@host_options
@click.option("--once", is_flag=True, help="Do what waits now, and end; exit 3 if rows could not be done.")
@click.option(
    "--admin",
    "administers",
    is_flag=True,
    help="Open the administration doors of the key providers, and carry out rotations.",
)
@click.option("--server-pid", type=int, hidden=True, help="The server that this worker ends with.")
@reports_misconfiguration
def command(
    config: Path | None, data: Path | None, once: bool, administers: bool, server_pid: int | None
) -> None:
    """Do background work, such as erasing expired records.

    A server runs one of these by itself. More of them, here or beside it, share the work and do nothing twice.
    Only one with --admin can make new key versions.
    """
    os.umask(0o077)
    configuration = load_configuration(config, data)
    start_logs(configuration)
    stop = StopSignal()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if once:
        outcomes = work_once(configuration, stop, administers=administers)
        for outcome in outcomes:
            click.echo(_sentence(outcome))
        if any(outcome.failed for outcome in outcomes):
            sys.exit(PROBLEM_FOUND)
        return
    if server_pid is None:
        click.echo(f"strongroom works in the background on {configuration.database_place}; stop with Ctrl-C")
    work(configuration, stop, server_pid=server_pid, administers=administers)


def _sentence(outcome: Outcome) -> str:
    if outcome.is_elsewhere:
        return f"{outcome.job}: {outcome.done:,} rows done; another worker is at the rest"
    failed = f", {outcome.failed:,} could not be done: run strongroom verify" if outcome.failed else ""
    return f"{outcome.job}: {outcome.done:,} rows done{failed}"
