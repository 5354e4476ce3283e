"""A real server with its worker processes, which may be killed at any moment, and plain clients that notice."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.database_homes import chosen_home, variables

HOST = "127.0.0.1"
READY_SECONDS = 30.0
# Ports from 32768 on are what the system gives to outgoing connections.
PORTS = range(20_000, 32_000)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body) if self.body else None

    @property
    def problem(self) -> tuple[int, str]:
        return self.status, str(self.json["type"]).removeprefix("urn:strongroom:error:")


class Caller:
    """One keep-alive connection. What breaks it is an OSError or an HTTPException, and never a retry."""

    def __init__(self, port: int, credential: str | None) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=30)
        self._headers = {"Authorization": f"Bearer {credential}"} if credential else {}

    def connect(self) -> None:
        self._connection.connect()

    def ask(self, method: str, path: str, document: Any = None, **headers: str) -> Reply:
        body = None if document is None else json.dumps(document).encode()
        sent = self._headers | {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent["Content-Type"] = "application/json"
        self._connection.request(method, path, body=body, headers=sent)
        response = self._connection.getresponse()
        return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())

    def close(self) -> None:
        self._connection.close()


def free_port() -> int:
    for port in random.SystemRandom().sample(PORTS, 100):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")


def wait_for(condition: Callable[[], bool], what: str, *, seconds: float = READY_SECONDS) -> float:
    """Wait until it holds and return how long that took."""
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        assert waited < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return time.monotonic() - start


class LiveServer:
    """``strongroom serve`` in a process group of its own.

    Args:
        data: the data folder.
        credential: the administrator's.
        log: where its output goes; appended to over restarts.
    """

    def __init__(
        self, data: Path, credential: str, log: Path, *, before: Callable[[], None] | None = None
    ) -> None:
        self.data = data
        self.log = log
        self.port = free_port()
        self._credential = credential
        self._before = before
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it is ready."""
        command = [*self.command(), "serve", "--data", str(self.data), "--listen", f"{HOST}:{self.port}"]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")
        } | variables(chosen_home().section(self.data))
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
                preexec_fn=self._before,  # noqa: PLW1509  # limits must be set between fork and exec
            )
        wait_for(self._is_ready, "server ready")

    def command(self) -> list[str]:
        """How the command ``strongroom`` is run."""
        return [sys.executable, "-P", "-m", "vault.cli"]

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        try:
            with self.caller() as caller:
                return caller.ask("GET", "/readyz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    @contextmanager
    def caller(self) -> Iterator[Caller]:
        caller = Caller(self.port, self._credential)
        try:
            yield caller
        finally:
            caller.close()

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        return [pid for pid in children_of(self.pid) if is_worker(pid)]

    def kill_all(self) -> None:
        """End server and workers at one instant, as a power cut would."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def wait_ended(self) -> None:
        """Wait until the server has ended by itself."""
        assert self._process is not None
        self._process.wait(10)

    def kill_parent(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill_all()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_worker(pid: int) -> bool:
    """Whether the process answers requests: no helper of multiprocessing, and not the background worker."""
    try:
        return b"\0serve\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def running(
    data: Path, credential: str, log: Path, *, before: Callable[[], None] | None = None
) -> Iterator[LiveServer]:
    server = LiveServer(data, credential, log, before=before)
    try:
        server.start()
        yield server
    finally:
        server.stop()
