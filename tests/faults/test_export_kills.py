"""kill -9, Ctrl-C and a server that goes away in mid-export: in the end every record is in the file once."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.imports import Import, ended_by_kill
from tests.faults.live_server import LiveServer, running
from tests.faults.small_vault import IS_GATE, PEOPLE, SmallVault, make_empty_vault

COUNT = 20_000 if IS_GATE else 4_000
PAGE = 500


@pytest.fixture
def made(tmp_path: Path) -> SmallVault:
    return make_empty_vault(tmp_path / "data")


@pytest.fixture
def server(made: SmallVault, tmp_path: Path) -> Iterator[LiveServer]:
    with running(made.folder, made.credential, tmp_path / "server.log") as live:
        credential = tmp_path / "credential"
        credential.write_text(made.credential)
        credential.chmod(0o600)
        file = tmp_path / "people.jsonl"
        with file.open("w") as lines:
            lines.writelines(f'{{"email":"p{number}@example.com"}}\n' for number in range(COUNT))
        Import(live, file, PEOPLE, credential).run()
        yield live


@contextmanager
def exporting(server: LiveServer, output: Path) -> Iterator[subprocess.Popen[str]]:
    command = [
        *server.command(), "records", "export", "--collection", PEOPLE, "--output", str(output), "--reveal", "plain",
        "--purpose", "move", "--server", f"http://127.0.0.1:{server.port}", "--credential-file",
        str(output.with_name("credential")),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def pages_in(output: Path) -> int:
    state = output.with_name(output.name + ".strongroom-export")
    return max(0, state.read_text().count("\n") - 1) if state.exists() else 0


def wait_for_pages(process: subprocess.Popen[str], output: Path, count: int) -> None:
    deadline = time.monotonic() + 60
    while pages_in(output) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def check(output: Path) -> None:
    text = gzip.decompress(output.read_bytes()).decode()
    emails = [json.loads(line)["data"]["email"] for line in text.splitlines()]
    assert sorted(emails) == sorted(f"p{number}@example.com" for number in range(COUNT))
    assert not list(output.parent.glob("*.part"))
    assert not list(output.parent.glob("*.strongroom-export"))


def test_an_export_is_whole_whatever_ended_it(server: LiveServer, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl.gz"
    for _ in range(3):
        with exporting(server, output) as process:
            wait_for_pages(process, output, pages_in(output) + 1)
            ended_by_kill(process)
        assert not output.exists()
    with exporting(server, output) as process:
        wait_for_pages(process, output, pages_in(output) + 1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"To go on: strongroom records export --collection {PEOPLE}" in said
    before = pages_in(output)
    assert 4 <= before < COUNT // PAGE
    with exporting(server, output) as process:
        wait_for_pages(process, output, before + 1)
        server.kill_all()
        assert process.stderr is not None
        while "Waiting" not in process.stderr.readline():
            pass
        server.start()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert f"{COUNT:,} records exported plain" in said
    check(output)
