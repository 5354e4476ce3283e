"""A vault server as a child process: started, waited for, shown when it fails, and stopped by its own id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vault.cli.failure import Failure
from vault.client import Client, ConnectionFailed

HOST = "127.0.0.1"
DEFAULT_PORT = 8420
_PORTS_TRIED = 50
_READY_SECONDS = 60.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.1
_LOG_LINES = 15


def strongroom_command(*arguments: str | Path) -> list[str]:
    """Return the argument list that runs a command of this very installation.

    Security: ``-P`` keeps the current folder off the module path, where another ``vault`` could lie.
    """
    return [sys.executable, "-P", "-m", "vault.cli", *map(str, arguments)]


def own_environment() -> dict[str, str]:
    """Return the environment without our variables: one of them could point a demo at somebody's real database."""
    return {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}


def run_strongroom(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one command of this installation to its end and return what it said, both streams in one.

    The end is waited for even if somebody interrupts: half an ``init`` would stand in the way of the next one.
    """
    command = strongroom_command(*arguments)
    with subprocess.Popen(  # noqa: S603 - our own interpreter and arguments, no shell
        command,
        env=own_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as process:
        try:
            said, _ = process.communicate()
        except KeyboardInterrupt:
            process.communicate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, said)


def choose_port(wanted: int | None) -> int:
    """Return the port that was asked for, or else the first free one from 8420 on.

    Raises:
        Failure: it is taken.
    """
    if wanted is not None:
        if not _is_free(wanted):
            raise Failure(f"Port {wanted} is taken.", next_step="Choose another, or leave --port out.")
        return wanted
    for port in range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED):
        if _is_free(port):
            return port
    raise Failure(
        f"No port is free from {DEFAULT_PORT} to {DEFAULT_PORT + _PORTS_TRIED - 1}.",
        next_step="Choose one with --port.",
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A connection that has just ended still holds the port for this test, but not for a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class ChildServer:
    """A server on loopback, in a process group of its own, so that Ctrl-C reaches it through us and only once.

    Args:
        command: the whole argument list.
        port: where it will listen.
        log: the file for its output; what was there is overwritten.
    """

    def __init__(self, command: Sequence[str], *, port: int, log: Path) -> None:
        self.url = f"http://{HOST}:{port}"
        self._log = log
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments, no shell
                command,
                env=own_environment(),
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        finally:
            os.close(descriptor)

    @property
    def is_running(self) -> bool:
        """Whether the process is alive."""
        return self._process.poll() is None

    def wait_ready(
        self, on_wait: Callable[[float], None], *, within_seconds: float = _READY_SECONDS
    ) -> float:
        """Wait until the server says it is ready and return the seconds that took.

        Args:
            on_wait: called now and then with the seconds waited so far.
            within_seconds: when to give up.

        Raises:
            Failure: it ended, or is not ready in time; shows its last log lines.
        """
        start = time.monotonic()
        with Client(self.url, timeout_seconds=2) as client:
            while (waited := time.monotonic() - start) < within_seconds:
                self.check_running()
                on_wait(waited)
                try:
                    # Another server could answer on a port that ours failed to get: ours must live, too.
                    if client.ready() and self.is_running:
                        return waited
                except ConnectionFailed:
                    pass
                time.sleep(_POLL_SECONDS)
        raise self._failure(f"The server is not ready after {within_seconds:.0f} s.")

    def check_running(self) -> None:
        """Do nothing as long as the process lives.

        Raises:
            Failure: it ended; shows its last log lines.
        """
        code = self._process.poll()
        if code is not None:
            raise self._failure(f"The server ended by itself with exit code {code}.")

    def wait(self) -> None:
        """Wait until the process ends."""
        self._process.wait()

    def stop(self) -> None:
        """Ask the process to end, wait for it, and end its group by force if it does not."""
        if not self.is_running:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _failure(self, message: str) -> Failure:
        lines = self._log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return Failure(message, details=tuple(lines), next_step=f"Its whole log: {self._log}")
