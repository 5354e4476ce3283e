"""Real database servers for tests: of a user without privileges, in a folder of their own, stopped by their process id."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_START_SECONDS = 60.0


def as_nobody() -> dict[str, Any]:
    """What a process is started with: as root, database servers refuse to run."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@contextmanager
def own_folder(name: str) -> Iterator[Path]:
    """A new folder that belongs to the server's user: pytest's own lets nobody else in."""
    folder = Path(tempfile.mkdtemp(prefix=f"strongroom-{name}-"))
    user = as_nobody()
    if user:
        os.chown(folder, user["user"], user["group"])
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run_as_nobody(command: Sequence[str | Path], **options: Any) -> None:
    """Run a command of the server's user to its end."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, **as_nobody(), **options
    )
    assert done.returncode == 0, done.stdout + done.stderr


class ServerProcess:
    """A server that can be started, stopped, killed and paused.

    Args:
        command: what runs it in the foreground.
        log: where it writes.
        is_ready: whether it answers.
        environment: its environment.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        is_ready: Callable[[], bool],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        self._log = log
        self._is_ready = is_ready
        self._environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._log.parent,
                env=self._environment,
                **as_nobody(),
            )
        latest = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < latest, self._log.read_text()
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it and its children at one instant, as a power cut would."""
        assert self.process is not None
        self.signal(signal.SIGSTOP)  # it starts nobody else meanwhile
        number = self.process.pid
        children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
        for each in (number, *map(int, children)):
            os.kill(each, signal.SIGKILL)
        self.process.wait(30)

    def stop(self, number: int) -> None:
        """Send a signal that ends it, and wait for that."""
        if self.process is not None and self.process.poll() is None:
            self.signal(number)
            self.process.wait(30)
