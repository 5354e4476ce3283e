"""The server's hold on its background worker: started again when it dies, never when it was told to end."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from tests import waiting
from vault.bootstrap import supervising
from vault.bootstrap.supervising import child_worker

until = functools.partial(waiting.until, seconds=20.0)


class Child:
    """A Python program that writes down each of its lives."""

    def __init__(self, folder: Path, program: str) -> None:
        self._lives = folder / "lives"
        self.command = [
            sys.executable,
            "-c",
            f"import os, signal, sys, time; open({str(self._lives)!r}, 'a').write(f'{{os.getpid()}}\\n'); {program}",
        ]

    @property
    def lives(self) -> list[int]:
        return [int(line) for line in self._lives.read_text().split()] if self._lives.exists() else []

    @property
    def is_alive(self) -> bool:
        return bool(self.lives) and Path(f"/proc/{self.lives[-1]}").exists()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the supervisor asked to wait for, each of which takes no time."""
    waited: list[float] = []

    class Hurried(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout is not None and threading.current_thread().name == "worker-watch":
                waited.append(timeout)
                timeout = min(timeout, 0.01)
            return super().wait(timeout)

    class Threading:
        Event = Hurried
        Lock = threading.Lock
        Thread = threading.Thread

    monkeypatch.setattr(supervising, "threading", Threading)
    return waited


def test_it_lives_as_long_as_the_body(tmp_path: Path) -> None:
    child = Child(tmp_path, "time.sleep(99)")
    with child_worker(child.command):
        until(lambda: child.is_alive, "it starts")

    assert not child.is_alive
    assert len(child.lives) == 1


def test_it_ends_with_a_body_that_fails(tmp_path: Path) -> None:
    child = Child(tmp_path, "time.sleep(99)")

    def serve() -> None:
        with child_worker(child.command):
            until(lambda: child.is_alive, "it starts")
            raise SystemExit(1)

    with pytest.raises(SystemExit):
        serve()

    assert not child.is_alive


def test_one_that_keeps_dying_is_started_ever_later(tmp_path: Path, pauses: list[float]) -> None:
    child = Child(tmp_path, "sys.exit(1)")
    with child_worker(child.command):
        until(lambda: len(pauses) >= 9, "nine lives")

    assert pauses[:9] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert len(set(child.lives)) == len(child.lives) >= 9


def test_one_that_was_in_order_for_a_while_starts_anew(
    tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "_STEADY_SECONDS", 0.0)
    child = Child(tmp_path, "sys.exit(1)")
    with child_worker(child.command):
        until(lambda: len(pauses) >= 3, "three lives")

    assert pauses[:3] == [1, 1, 1]


@pytest.mark.parametrize("program", ["sys.exit(0)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_one_that_was_stopped_is_left_alone_while_a_server_may_be_ending(
    tmp_path: Path, pauses: list[float], program: str
) -> None:
    child = Child(tmp_path, program)
    with child_worker(child.command):
        until(lambda: pauses, "its end is noticed")

    assert pauses[0] == 15.0


def test_one_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervising, "STOP_SECONDS", 0.2)
    child = Child(
        tmp_path,
        f"signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(tmp_path / 'deaf')!r}, 'w'); time.sleep(99)",
    )
    with child_worker(child.command):
        until((tmp_path / "deaf").exists, "it is deaf")

    assert not child.is_alive


def test_a_terminal_does_not_reach_it(tmp_path: Path) -> None:
    child = Child(tmp_path, "time.sleep(99)")
    with child_worker(child.command):
        until(lambda: child.is_alive, "it starts")
        for number in (signal.SIGINT, signal.SIGHUP):
            os.kill(child.lives[0], number)
        blocked = int(Path(f"/proc/{child.lives[0]}/status").read_text().split("SigBlk:")[1].split()[0], 16)
        assert blocked & (1 << (signal.SIGINT - 1))
        assert blocked & (1 << (signal.SIGHUP - 1))
        assert not blocked & (1 << (signal.SIGTERM - 1))
        assert os.getpgid(child.lives[0]) == os.getpgid(0)

    assert len(child.lives) == 1


def test_a_program_that_is_not_there_is_tried_again(
    tmp_path: Path, pauses: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with child_worker([str(tmp_path / "nothing")]):
        until(lambda: len(pauses) >= 2, "two tries")

    assert pauses[:2] == [1, 2]
    assert "worker-not-started error=FileNotFoundError" in caplog.text


def test_no_zombie_stays(tmp_path: Path, pauses: list[float]) -> None:
    child = Child(tmp_path, "sys.exit(1)")
    with child_worker(child.command):
        until(lambda: len(pauses) >= 3, "three lives")

    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not {str(pid) for pid in child.lives} & set(children)
