"""A server for a benchmark: the embedded default with two workers, on a vault of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

COMMAND = [sys.executable, "-P", "-m", "vault.cli"]


@dataclass(frozen=True)
class Served:
    url: str
    pid: int
    credential: Path

    def peak_memory(self) -> float:
        """The greatest resident size that any process of the server ever had, in MiB."""
        return max(peak_memory(pid) for pid in [self.pid, *children(self.pid)])


@contextlib.contextmanager
def served(
    folder: Path, variables: Mapping[str, str] | None = None, administration: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Make a vault and serve it.

    Args:
        folder: for the vault, its credential and its log.
        variables: configuration by environment.
        administration: more of it, for making the vault only.
    """
    environment = os.environ | dict(variables or {})
    port = next(port for port in range(18400, 18500) if not is_open(port))
    data, credential = str(folder / "vault"), folder / "credential"
    subprocess.run(
        [*COMMAND, "init", "--data", data, "--credential-file", str(credential)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=environment | dict(administration or {}),
    )
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*COMMAND, "serve", "--data", data, "--listen", f"127.0.0.1:{port}"],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=environment,
        )
    try:
        wait_until_ready(port, server)
        yield Served(f"http://127.0.0.1:{port}", server.pid, credential)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=30)


def wait_until_ready(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and server.poll() is None:
        if is_open(port):
            return
        time.sleep(0.05)
    sys.exit("the server did not start")


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def children(pid: int) -> list[int]:
    """All processes that descend from this one."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [each for child in found for each in (int(child), *children(int(child)))]


def peak_memory(pid: int) -> float:
    """The greatest resident size of one process so far, in MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kibibytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return int(kibibytes) / 1024


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"
