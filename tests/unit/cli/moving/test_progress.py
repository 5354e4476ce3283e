from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console

from vault.cli.moving import progress as module
from vault.cli.moving.progress import Count, Meter, display


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rate_and_time_left_are_those_of_this_run() -> None:
    shown: list[Count] = []

    class Display:
        def show(self, count: Count) -> None:
            shown.append(count)

        def say(self, *_: Any, **__: Any) -> None:
            raise AssertionError

    clock = Clock()
    meter = Meter(Display(), done=1000, refused=5, total=2000, clock=clock)
    assert meter.count.seconds_left is None
    clock.now = 10.0
    meter.add(done=200, refused=1)
    assert shown == [Count(1200, 6, 2000, 10.0, 200)]
    assert (shown[0].per_second, shown[0].seconds_left) == (20.0, 40.0)
    assert Count(10, 0, None, 1.0, 10).seconds_left is None


def test_lines_of_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    clock.now = 100.0
    monkeypatch.setattr(module.time, "monotonic", clock)
    with display(as_json=True) as shown:
        shown.show(Count(100, 1, 400, 2.0, 100))
        shown.show(Count(200, 1, 400, 2.5, 200))
        clock.now += 2
        shown.show(Count(300, 1, None, 3.0, 300))
        shown.say("waiting", "No answer.\x1b[2J", waited_seconds=1.5)
    out, err = capsys.readouterr()
    assert err == ""
    assert [json.loads(line) for line in out.splitlines()] == [
        {
            "event": "progress",
            "done": 100,
            "total": 400,
            "refused": 1,
            "records_per_second": 50.0,
            "seconds_left": 6.0,
        },
        {
            "event": "progress",
            "done": 300,
            "total": None,
            "refused": 1,
            "records_per_second": 100.0,
            "seconds_left": None,
        },
        {"event": "waiting", "waited_seconds": 1.5, "detail": "No answer.\x1b[2J"},
    ]
    assert "\x1b" not in out


def test_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)
    with display(as_json=False) as shown:
        shown.show(Count(100, 1, 400, 2.0, 100))
        clock.now += module.LINE_SECONDS
        shown.show(Count(1200, 1, 4_001_200, 2.0, 1200))
        shown.show(Count(1300, 1, 4000, 2.0, 1300))
        shown.say("going-on", "Going on.\x1b")
        clock.now += module.LINE_SECONDS
        shown.show(Count(1300, 1, None, 2.0, 1300))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "1,200 of 4,001,200 records, 600/s, 1:51:07 left, 1 refused",
        "Going on.\\u001b",
        "1,300 records, 650/s, 1 refused",
    ]


def test_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module,
        "Console",
        lambda **options: Console(**options, force_terminal=True, width=100, color_system=None),
    )
    with display(as_json=False) as shown:
        shown.show(Count(50, 7, None, 2.0, 50))
        shown.say("going-on", "Going on [bold]\x1b[2J.")
        shown.show(Count(100, 7, 400, 2.0, 100))
    out, err = capsys.readouterr()
    assert out == ""
    assert "100/400 50/s 0:06 left 7 refused" in err
    assert "Going on [bold]\\u001b[2J." in err
