"""``strongroom demo``: start a real vault, walk through it in front of the reader, and leave it running."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import click

from vault.cli.by_hand import curl_lines, write_headers
from vault.cli.child_server import (
    DEFAULT_PORT,
    HOST,
    ChildServer,
    choose_port,
    run_strongroom,
    strongroom_command,
)
from vault.cli.connection import explained
from vault.cli.failure import Failure
from vault.cli.stage import Stage
from vault.cli.walk import DATABASE_NAME, Walk
from vault.client import Client, StrongroomError
from vault.client.credential import read_credential

_CREDENTIAL_NAME = "admin-credential"
_LOG_NAME = "demo-server.log"
_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_DEFAULT_DATA = Path("strongroom-data")


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
              help="Data folder; ./strongroom-data if not given, with --check a temporary one.")  # fmt: skip
@click.option(
    "--check", is_flag=True, help="End after the walk: exit code 0 if every step gave what it should."
)
@click.option("--port", type=click.IntRange(1, 65535), metavar="N",
              help=f"Port on {HOST}; {DEFAULT_PORT} or the next free one if not given.")  # fmt: skip
def command(data: Path | None, check: bool, port: int | None) -> None:
    """Walk through a real vault, step by step."""
    stage = Stage()
    with ExitStack() as leaving:
        leaving.enter_context(_interruptible())
        if data is None and check:
            folder = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="strongroom-demo-")))
        else:
            folder = (data or _DEFAULT_DATA).resolve()
        chosen = choose_port(port)
        stage.headline(f"Strongroom, in front of you. Its data folder is {folder}")
        credential_file = _prepare_vault(folder, stage)
        if port is None and chosen != DEFAULT_PORT:
            stage.say(f"Port {DEFAULT_PORT} is taken, so this server takes {chosen}.")
        server = ChildServer(
            strongroom_command("serve", "--data", folder, "--listen", f"{HOST}:{chosen}"),
            port=chosen,
            log=folder / _LOG_NAME,
        )
        leaving.callback(_stop, server)
        with stage.waiting("Starting the server ...") as on_wait:
            seconds = server.wait_ready(on_wait)
        stage.say(f"The server is ready at {server.url} after {seconds:.1f} s.")
        try:
            with Client(
                server.url, credential_file=credential_file, purpose="demo", observer=stage.request
            ) as client:
                Walk(client, stage, folder).run()
            credential = read_credential(credential_file)
        except StrongroomError as error:
            raise explained(error) from error
        stage.say()
        if check:
            stage.headline(
                "Every step gave what it should. Without --check the server stays up to try them by hand."
            )
            return
        stage.headline("Every step gave what it should. By hand, in another terminal:")
        stage.say()
        stage.say(curl_lines(server.url, write_headers(folder, credential)))
        _stay(server, stage)


def _prepare_vault(folder: Path, stage: Stage) -> Path:
    credential_file = folder / _CREDENTIAL_NAME
    if (folder / DATABASE_NAME).exists():
        if not credential_file.exists():
            raise Failure(
                f"{folder} holds a vault, but not its credential ({_CREDENTIAL_NAME}).",
                next_step=(
                    "Name another folder with --data, or make a new credential: "
                    f"strongroom init --new-credential --data {folder} --credential-file {credential_file}"
                ),
            )
        return credential_file
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with stage.waiting("Making a vault: key, database and administrator credential ..."):
        made = run_strongroom("init", "--data", folder, "--credential-file", credential_file)
    if made.returncode != 0:
        raise Failure("The vault could not be made.", details=tuple(made.stdout.splitlines()))
    return credential_file


def _stay(server: ChildServer, stage: Stage) -> None:
    stage.say()
    stage.say(f"API reference: {server.url}/docs")
    stage.say("Key and data lie side by side here: good for a first look, not for real people's records.")
    stage.headline("The server stays up. Ctrl-C stops it.")
    try:
        server.wait()
    except KeyboardInterrupt:
        stage.say("\nStopping.")
        return
    server.check_running()


def _stop(server: ChildServer) -> None:
    # An impatient second Ctrl-C must not leave the server behind.
    for number in _ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    server.stop()


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a closed terminal or a ``kill`` end the demo as Ctrl-C does: server first."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _ENDING_SIGNALS}
    for number in _ENDING_SIGNALS:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
