"""``strongroom keys``: the keyrings, their versions, what depends on each, and how they come and go."""

from __future__ import annotations

import sys
import time

import click

from vault.cli import LazyGroup
from vault.cli.connection import Connection, connected
from vault.cli.failure import FAILED, Failure
from vault.cli.output import print_fields, print_json, print_table, text_of
from vault.client import Client, Job, KeyExposure, KeyVersion

_POLL_SECONDS = 0.5


ON_THE_HOST: dict[str, tuple[str, str]] = {
    "init": ("vault.cli.keys_init", "Make the keyring of the table [keyrings.KEYRING]."),
    "check": ("vault.cli.keys_check", "Try every key; exit 3 if one does not work."),
    "policy": (
        "vault.cli.keys_policy",
        "Print the least privileges that the keyrings of a transit provider need there.",
    ),
    "backup": ("vault.cli.keys_backup", "Copy a provider's keys to the new FILE (mode 0600)."),
    "passphrase": ("vault.cli.keys_passphrase", "Change the passphrase of a key file."),
    "conformance": (
        "vault.cli.keys_conformance",
        "Ask a key provider everything that it promises; exit 3 if a promise is not kept.",
    ),
}


@click.group(cls=LazyGroup, table=ON_THE_HOST)
def command() -> None:
    """Show, make, rotate and check keys."""


@command.command("list")
@connected
def list_keys(connection: Connection) -> None:
    """List every key version with the number of things that need it, and what is in memory."""
    with connection.open() as client:
        keyrings = client.keyrings()
        exposure = None if connection.as_json else client.exposure()
    if exposure is None:
        for keyring in keyrings:
            print_json(keyring)
        return
    print_table(
        [
            "KEYRING",
            "VERSION",
            "STATE",
            "PROVIDER",
            "ALGORITHM",
            "CREATED",
            "RECORDS",
            "HISTORY",
            "STORED KEYS",
        ],
        [
            [
                keyring.name,
                version.version,
                _state(version),
                version.provider,
                version.algorithm,
                version.created_at,
                version.records,
                version.history,
                version.stored_keys,
            ]
            for keyring in keyrings
            for version in keyring.versions
        ],
    )
    click.echo(_sentence(exposure))


@command.command()
@click.argument("keyring")
@click.option("--wait", "waits", is_flag=True, help="Wait until the new version is active.")
@connected
def rotate(connection: Connection, keyring: str, waits: bool) -> None:
    """Ask for the next version of KEYRING; a worker with the administration door makes it.

    The version is pending until every process that works on the vault has proved it, and then takes the place of the
    active one. The one before goes on opening what it wrapped.
    """
    with connection.open() as client:
        try:
            job = client.rotate(keyring)
        except ValueError as error:
            raise Failure(f"{error}.") from error
        if waits:
            job = _wait(client, job, is_told=not connection.as_json)
    if connection.as_json:
        print_json(job)
    else:
        names = ("id", "state", "waits_for", "keyring", "key_version", "error")
        print_fields(
            (name.replace("_", " "), getattr(job, name)) for name in names if getattr(job, name) is not None
        )
    if job.state == "failed":
        sys.exit(FAILED)


def _wait(client: Client, job: Job, *, is_told: bool) -> Job:
    told = None
    while not job.is_over:
        if is_told and job.waits_for not in (None, told):
            told = job.waits_for
            click.echo(f"waits for {text_of(told)}", err=True)
        time.sleep(_POLL_SECONDS)
        job = client.job(job.id)
    return job


def _state(version: KeyVersion) -> str:
    words = [version.state]
    if version.adopted_at is not None:
        words.append("adopted")
    if version.compromised:
        words.append("compromised")
    return ", ".join(words)


def _sentence(exposure: KeyExposure) -> str:
    if not exposure.data_keys:
        return "No process keeps unwrapped data keys in memory."
    number = len([process for process in exposure.processes if process.data_keys])
    return (
        f"{exposure.data_keys:,} unwrapped data keys are in the memory of {number} processes, until "
        f"{text_of(exposure.until)}."
    )
