"""A stand-in for AWS KMS on loopback, and the doors to it. It shows our side of the wire, not AWS."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyproviders.conformance import Hooks
from keyproviders.interface import ProviderSettings

HOST, REGION = "127.0.0.1", "eu-central-1"
SECRET = "moto-takes-any-secret-access-key"
_START_SECONDS = 60
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Moto:
    """The server: a process of its own, so that a forked child and its parent really share connections."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def weather(self, what: str = "") -> str:
        """Make it ``fair``, ``away``, ``slow``, ``throttled``, ``denied`` or a lie; say what it is."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request("PUT", "/weather", what)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def hooks(self, lie: str = "object") -> Hooks:
        def fair() -> str:
            return self.weather("fair")

        return Hooks(
            seal=lambda: self.weather("away"),
            unseal=fair,
            slow_down=lambda: self.weather("slow"),
            speed_up=fair,
            lie=lambda: self.weather(lie),
            stop_lying=fair,
        )

    def settings(self, **options: object) -> ProviderSettings:
        """A provider of its own: another prefix sees no key of another test."""
        number = next(_numbers)
        secret = self.folder / f"secret{number}"
        secret.touch(0o600)
        secret.write_text(SECRET)
        own = {"access_key_id": "AKIATEST", "secret_access_key": {"file": str(secret)}}
        table = {"region": REGION, "endpoint": self.url, "prefix": f"test{number}"} | own | options
        return ProviderSettings("cloud", table, self.folder, own)


@pytest.fixture(scope="session")
def moto_server(
    free_port: Callable[[], int], missing: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Moto]:
    """The shared server."""
    if importlib.util.find_spec("moto") is None:
        missing("moto (pip install moto flask-cors)")
    server = Moto(free_port(), tmp_path_factory.mktemp("moto"))
    script = Path(__file__).with_name("strict_moto.py")
    with (server.folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", script, str(server.port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def moto(moto_server: Moto) -> Iterator[Moto]:
    """The shared server in fair weather."""
    moto_server.weather("fair")
    yield moto_server
    moto_server.weather("fair")


def _wait(server: Moto, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError):
            if server.weather() == "fair":
                return
        assert process.poll() is None, (server.folder / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
