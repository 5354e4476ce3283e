"""``strongroom records import`` as a process that may be ended at any moment, and what there is afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tests.faults.live_server import LiveServer

SECONDS = 120.0


@dataclass
class Import:
    """One import command with its files, started as often as a test wants.

    Attributes:
        options: beyond file, collection and connection.
    """

    server: LiveServer
    file: Path
    collection: str
    credential_file: Path
    options: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    @property
    def state(self) -> Path:
        return self.file.with_name(self.file.name + ".strongroom-import")

    @property
    def report(self) -> Path:
        return self.file.with_name(self.file.name + ".refused.jsonl")

    @property
    def finished_batches(self) -> int:
        return self.state.read_text().count('{"batch"') if self.state.exists() else 0

    @contextmanager
    def running(
        self, *more: str, before: Callable[[], None] | None = None
    ) -> Iterator[subprocess.Popen[str]]:
        command = [
            *self.server.command(),
            "records",
            "import",
            str(self.file),
            "--collection",
            self.collection,
        ]
        command += [
            "--server",
            f"http://127.0.0.1:{self.server.port}",
            "--credential-file",
            str(self.credential_file),
        ]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")
        }
        with subprocess.Popen(
            [*command, *self.options, *more],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=before,  # noqa: PLW1509 - limits must be set between fork and exec
        ) as process:
            self.process = process
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    def run(self, *more: str, exits: int = 0, before: Callable[[], None] | None = None) -> str:
        """Run it to its end, assert how it ends and give what it said."""
        with self.running(*more, before=before) as process:
            out, err = process.communicate(timeout=900)
        assert process.returncode == exits, (out, err)
        assert "Traceback" not in err
        return out + err

    def wait_for_batches(self, count: int) -> None:
        """Wait until so many batches are written down."""
        assert self.process is not None
        deadline = time.monotonic() + SECONDS
        while self.finished_batches < count:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)


def read_events(stream: IO[str] | None, until: Callable[[dict[str, Any]], bool]) -> None:
    """Read lines of JSON up to one that a test waits for."""
    assert stream is not None
    while not until(json.loads(stream.readline())):
        pass


def ended_by_kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL


def all_documents(server: LiveServer, collection: str) -> dict[str, Any]:
    """Every record of a collection in plain, by its token."""
    path = f"/v1/collections/{collection}/records"
    documents: dict[str, Any] = {}
    cursor: str | None = ""
    with server.caller() as caller:
        while cursor is not None:
            page = caller.ask("GET", f"{path}?limit=500" + (f"&cursor={cursor}" if cursor else "")).json
            tokens = [item["token"] for item in page["items"]]
            operations = [{"op": "get", "token": token, "reveal": "plain"} for token in tokens]
            items = (
                caller.ask("POST", f"{path}/bulk", {"operations": operations}).json["items"] if tokens else []
            )
            documents |= {item["token"]: item["data"] for item in items}
            cursor = page["next_cursor"]
    return documents
