from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vault.cli import child_server
from vault.cli.child_server import (
    ChildServer,
    choose_port,
    own_environment,
    run_strongroom,
    strongroom_command,
)
from vault.cli.failure import Failure

ANSWERING = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        self.send_response(200 if Handler.asked > 2 else 503)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
worker = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"])
print(worker.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def _start(code: str, port: int, folder: Path) -> ChildServer:
    return ChildServer([sys.executable, "-c", code, str(port)], port=port, log=folder / "log")


def test_waits_until_it_is_ready_and_stops_by_its_id(tmp_path: Path, port: int) -> None:
    waited: list[float] = []
    server = _start(ANSWERING, port, tmp_path)
    try:
        seconds = server.wait_ready(waited.append)
        assert server.is_running
    finally:
        server.stop()
    assert seconds > 0
    assert len(waited) >= 3
    assert not server.is_running
    server.stop()
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_a_server_that_ends_shows_its_last_lines(tmp_path: Path, port: int) -> None:
    code = (
        "import sys; [print('line', n) for n in range(50)]; print('a sentence', file=sys.stderr); sys.exit(7)"
    )
    server = _start(code, port, tmp_path)
    with pytest.raises(Failure, match="exit code 7") as caught:
        server.wait_ready(lambda _: None)
    assert caught.value.details[-1] == "a sentence"
    assert len(caught.value.details) == 15
    assert str(tmp_path / "log") in caught.value.next_step


def test_another_servers_answer_does_not_count(tmp_path: Path, port: int) -> None:
    other = _start(ANSWERING, port, tmp_path)
    try:
        other.wait_ready(lambda _: None)
        late = _start("import time; time.sleep(0.5); raise SystemExit(1)", port, tmp_path)
        ended_before = [late.wait()]
        with pytest.raises(Failure, match="exit code 1"):
            late.wait_ready(lambda _: None)
        assert ended_before == [None]
    finally:
        other.stop()


def test_a_server_that_never_gets_ready_is_given_up(tmp_path: Path, port: int) -> None:
    server = _start("import time; time.sleep(60)", port, tmp_path)
    try:
        with pytest.raises(Failure, match="not ready after 0 s"):
            server.wait_ready(lambda _: None, within_seconds=0.3)
    finally:
        server.stop()


def test_a_stubborn_server_is_ended_with_its_workers(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_server, "_STOP_SECONDS", 0.1)
    server = _start(STUBBORN, port, tmp_path)
    while not (worker := (tmp_path / "log").read_text().strip()):
        time.sleep(0.02)
    server.stop()
    assert not server.is_running
    for _ in range(100):
        if not _is_alive(int(worker)):
            return
        time.sleep(0.05)
    pytest.fail("the worker lives on")


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_taken_port_is_refused_if_it_was_asked_for(taken: int, port: int) -> None:
    with pytest.raises(Failure, match=f"Port {taken} is taken"):
        choose_port(taken)
    assert choose_port(port) == port


def test_else_the_next_free_one_is_taken(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_server, "DEFAULT_PORT", taken)
    assert taken < choose_port(None) < taken + 50
    monkeypatch.setattr(child_server, "_PORTS_TRIED", 1)
    with pytest.raises(Failure, match="No port is free"):
        choose_port(None)


def test_no_variable_of_ours_reaches_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRONGROOM_DATABASE__URL", "postgresql://production")
    monkeypatch.setenv("HOME_OF_TEST", "kept")
    environment = own_environment()
    assert not [name for name in environment if name.startswith("STRONGROOM_")]
    assert environment["HOME_OF_TEST"] == "kept"
    assert os.environ["STRONGROOM_DATABASE__URL"]


def test_a_vault_in_the_current_folder_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / "__init__.py").write_text("raise SystemExit(99)")
    monkeypatch.setenv("PYTHONPATH", str(Path(child_server.__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    assert run_strongroom("--version").stdout.startswith("strongroom, version")
    unprotected = [part for part in strongroom_command("--version") if part != "-P"]
    assert subprocess.run(unprotected, capture_output=True, check=False).returncode == 99


def test_a_command_is_waited_for_even_if_somebody_interrupts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import pathlib, sys, time; time.sleep(1); pathlib.Path(sys.argv[1]).touch()"
    done = tmp_path / "done"
    monkeypatch.setattr(child_server, "strongroom_command", lambda: [sys.executable, "-c", code, str(done)])
    # Who runs in the background of a script was started with it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run_strongroom()
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
    assert done.exists()
