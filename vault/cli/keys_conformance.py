"""``strongroom keys conformance``: show whether a configured key provider keeps the promises of the key door."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import click

from keyproviders import conformance
from keyproviders.conformance import SCRATCH_KEY, CheckResult, Outcome, Report, Subject
from keyproviders.registry import open_administration, open_provider
from vault.bootstrap.key_doors import administration_settings, provider_settings
from vault.cli.failure import PROBLEM_FOUND
from vault.cli.host import host_options, reports_misconfiguration, reserved_file
from vault.cli.output import print_table, printable
from vault.config import Configuration, load_configuration
from vault.core.errors import MisconfiguredError

_MARKS = {Outcome.OK: "ok", Outcome.FAILED: "FAILED", Outcome.NOT_APPLICABLE: "-"}


@click.command("conformance")
@host_options
@click.option("--provider", required=True, help="Name of the provider in the configuration.")
@click.option("--key", help=f"Key to work on ({SCRATCH_KEY}); with --use-only an existing one.")
@click.option(
    "--use-only", is_flag=True, help="Make, rotate and end no key: only use the one named by --key."
)
@click.option("--samples", default=50, show_default=True, help="Calls to measure of each kind; 0 for none.")
@click.option(
    "--large-batch", default=1000, show_default=True, help="Items of the largest batch, for slow providers."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), help="Also write the JSON to this new file."
)
@reports_misconfiguration
def command(  # noqa: PLR0913  # one argument per option
    config: Path | None,
    data: Path | None,
    *,
    provider: str,
    key: str | None,
    use_only: bool,
    samples: int,
    large_batch: int,
    as_json: bool,
    report: Path | None,
) -> None:
    """Ask a key provider everything that it promises; exit 3 if a promise is not kept.

    Makes a scratch key at the provider and ends it again. Not for a provider under load: it rotates, forks,
    and sends batches of a thousand.
    """
    os.umask(0o077)
    configuration = load_configuration(config, data)
    if provider not in configuration.settings.providers:
        raise MisconfiguredError(f"There is no table [providers.{provider}] in the configuration.")
    if use_only and key is None:
        raise click.UsageError("--use-only needs --key: the name of an existing key.")
    subject = _subject(configuration, provider, key or SCRATCH_KEY, use_only=use_only)
    with contextlib.ExitStack() as stack:
        write = None if report is None else stack.enter_context(reserved_file(report))
        found = conformance.run(
            subject,
            samples=samples,
            large_batch=large_batch,
            progress=(lambda _: None) if as_json else _print_check,
        )
        if write is not None:
            write(found.as_json() + "\n")
    if as_json:
        click.echo(found.as_json())
    else:
        _print(found)
    if not found.is_conformant:
        sys.exit(PROBLEM_FOUND)


def _subject(configuration: Configuration, name: str, key: str, *, use_only: bool) -> Subject:
    kind = configuration.settings.providers[name].type
    return Subject(
        name,
        lambda: open_provider(kind, provider_settings(configuration, name)),
        None if use_only else lambda: open_administration(kind, administration_settings(configuration, name)),
        key=key,
    )


def _print_check(result: CheckResult) -> None:
    reason = f": {printable(result.reason)}" if result.reason else ""
    click.echo(f"{_MARKS[result.outcome]:>6}  {result.name}{reason}")


def _print(report: Report) -> None:
    if report.capabilities is not None:
        said = report.capabilities
        click.echo(
            f"\nIt says: binds contexts {_yes(said.binds_context)}, rewraps inside {_yes(said.rewraps_inside)}, "
            f"generates inside {_yes(said.generates_inside)}, remote {_yes(said.is_remote)}, "
            f"{said.max_batch:,} in a batch."
        )
    if report.latency:
        click.echo()
        print_table(
            ["CALL", "p50 ms", "p90 ms", "p99 ms", "MOST ms"],
            [
                [call, *(f"{each:.3f}" for each in (took.p50_ms, took.p90_ms, took.p99_ms, took.most_ms))]
                for call, took in report.latency.items()
            ],
        )
    for sentence in report.left_behind:
        click.echo(f"Left behind: {printable(sentence)}")
    outcomes = [each.outcome for each in report.results]
    click.echo(
        f"\n{outcomes.count(Outcome.OK)} ok, {outcomes.count(Outcome.FAILED)} failed, "
        f"{outcomes.count(Outcome.NOT_APPLICABLE)} not applicable."
    )


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"
