"""``strongroom keys check``: try every provider and every key version, on the vault's host."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from vault.bootstrap.diagnosing import examine_keys
from vault.cli.failure import PROBLEM_FOUND
from vault.cli.host import host_options, reports_misconfiguration
from vault.cli.output import print_table, printable
from vault.config import load_configuration
from vault.core.key_check import Level


@click.command("check")
@host_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each finding.")
@reports_misconfiguration
def command(config: Path | None, data: Path | None, as_json: bool) -> None:
    """Try every key; exit 3 if one does not work.

    Each provider opens what it wrapped, each version in use wraps and unwraps, and providers and database say the same of
    every version. Shows versions that nobody asked for, and what each process has proved. Changes nothing.
    """
    found = examine_keys(load_configuration(config, data))
    if as_json:
        for finding in found:
            click.echo(
                printable(
                    json.dumps(
                        {
                            "subject": finding.subject,
                            "level": finding.level.value,
                            "sentence": finding.sentence,
                            "next_step": finding.next_step,
                        }
                    )
                )
            )
    else:
        print_table(["KEY", "", "FOUND"], [[each.subject, each.level.value, each.sentence] for each in found])
        for finding in found:
            if finding.next_step:
                click.echo(printable(f"{finding.subject}: {finding.next_step}"))
    if any(finding.level is Level.PROBLEM for finding in found):
        sys.exit(PROBLEM_FOUND)
