"""Lines on standard error: their form, their levels, and that they never fail what they tell of."""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vault.telemetry import logs
from vault.telemetry.fields import FIELDS
from vault.telemetry.logs import Format, event_logger, running_request, set_up_logs

ALWAYS = {"time", "level", "logger", "event"}
log = event_logger("strongroom.test")
REQUEST = "0123456789abcdef" * 2
Written = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def in_a_request() -> Iterator[None]:
    token = running_request.set(REQUEST)
    yield
    running_request.reset(token)


def test_an_event_is_one_line_of_json(written: Written) -> None:
    before = dt.datetime.now(dt.UTC)
    log.info("worker-started", pid=4711, release="0.1.0")
    (line,) = written()
    assert list(line) == ["time", "level", "logger", "event", "pid", "release"]
    assert line["time"].endswith("Z")
    assert before <= dt.datetime.fromisoformat(line["time"]) <= dt.datetime.now(dt.UTC)
    assert (line["level"], line["logger"], line["event"]) == ("info", "strongroom.test", "worker-started")
    assert (line["pid"], line["release"]) == (4711, "0.1.0")


@pytest.mark.usefixtures("in_a_request")
def test_a_line_names_the_request_that_runs(written: Written) -> None:
    log.error("request-failed", code="store-unavailable")
    logging.getLogger("keyproviders.local_file").error("the key file went bad: %s", "/srv/keys.json")
    assert [line["request_id"] for line in written()] == [REQUEST, REQUEST]


def test_outside_a_request_no_line_names_one(written: Written) -> None:
    log.error("job-failed")
    assert "request_id" not in written()[0]


def test_a_field_off_the_list_is_dropped_and_its_name_told(written: Written) -> None:
    log.info("batch-done", rows=12, email="ada@example.org", body=b"secret", **{"Ada Lovelace": 1})
    (line,) = written()
    assert line["rows"] == 12
    assert line["dropped"] == ["*other", "body", "email"]
    assert line.keys() == {*ALWAYS, "rows", "dropped"}


@pytest.mark.parametrize("event", ["ada@example.org was refused", "", None])
def test_an_event_that_is_a_sentence_is_not_written(written: Written, event: Any) -> None:
    log.info(event)
    (line,) = written()
    assert (line["event"], line["dropped"]) == ("unnamed", ["event"])


def test_what_could_replace_a_fixed_member_is_dropped(written: Written) -> None:
    log.info("request", time="never", level="none", logger="me", dropped="no")
    (line,) = written()
    assert (line["level"], line["logger"]) == ("info", "strongroom.test")
    assert line["dropped"] == ["dropped", "level", "logger", "time"]


@pytest.mark.parametrize("least", ["debug", "info", "warning", "error", "critical"])
def test_events_below_the_level_are_not_written(written: Written, least: logs.Level) -> None:
    order = ["debug", "info", "warning", "error", "critical"]
    set_up_logs(least, "json")
    for level in order:
        getattr(log, level)("event")
    assert [line["level"] for line in written()] == order[order.index(least) :]


def test_to_set_up_again_writes_no_line_twice(written: Written) -> None:
    set_up_logs("info", "json")
    set_up_logs("info", "json")
    logging.getLogger("keyproviders").warning("once")
    log.info("once")
    assert len(written()) == 2


@pytest.mark.usefixtures("kept_hooks")
def test_text_is_for_reading(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info", "text")
    log.warning("job-batch", job="expire-records", rows=3, email="ada@example.org", where="record 1\n2")
    line = capfd.readouterr().err
    time, _, rest = line.partition(" ")
    assert dt.datetime.fromisoformat(time).tzinfo is not None
    assert rest == (
        'warning  strongroom.test: job-batch job=expire-records rows=3 where="record 1?2" dropped=email\n'
    )


@pytest.mark.usefixtures("kept_hooks", "capfd")
@pytest.mark.parametrize(("form", "is_json"), [("auto", False), ("json", True), ("text", False)])
def test_a_terminal_gets_text_unless_told_otherwise(
    form: Format,
    is_json: bool,  # noqa: FBT001
) -> None:
    log = event_logger("strongroom.test")
    main, terminal = os.openpty()
    saved = os.dup(2)
    try:
        os.dup2(terminal, 2)
        set_up_logs("info", form)
        log.info("hello")
        got = os.read(main, 10_000).decode()
    finally:
        os.dup2(saved, 2)
        for each in (saved, main, terminal):
            os.close(each)
    assert got.startswith("{") is is_json
    assert "hello" in got


@pytest.mark.usefixtures("kept_hooks")
def test_a_file_or_pipe_gets_json(capfd: pytest.CaptureFixture[str]) -> None:
    set_up_logs("info", "auto")
    log.info("hello")
    assert json.loads(capfd.readouterr().err)["event"] == "hello"


@pytest.mark.usefixtures("written")
def test_a_log_that_cannot_be_written_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuses)
    log.info("hello")
    logging.getLogger("keyproviders").error("the key file went bad")


def test_before_logs_are_set_up_events_are_records_of_logging(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    log.critical("request-crashed", places="ValueError at a.py:1", email="ada@example.org")
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("strongroom.test", logging.CRITICAL)
    assert record.getMessage() == 'request-crashed places="ValueError at a.py:1" dropped=email'
    log.debug("quiet")
    assert len(caplog.records) == 1


def test_lines_of_several_threads_do_not_mix(written: Written) -> None:
    def many() -> None:
        for number in range(300):
            log.info("batch-done", rows=number, places="x" * 1_500)

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line["rows"] for line in written()) == sorted([*range(300)] * 4)


def test_a_python_warning_is_a_line_without_its_words(written: Written) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # Whoever captured them within an earlier test still does so by its own account, but no longer in fact.
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("about ada@example.org", UserWarning, stacklevel=1)
    (line,) = written()
    assert (line["event"], line["level"], line["logger"]) == ("python-warning", "warning", "py.warnings")
    assert "ada" not in str(line)


UNCAUGHT = """
import sys, threading
from vault.telemetry.logs import set_up_logs
set_up_logs("info", "json")

class Odd:
    def __del__(self):
        raise RuntimeError("ada@example.org")

def fails():
    raise ValueError("ada@example.org")

thread = threading.Thread(target=fails)
thread.start()
thread.join()
Odd()
{end}
"""


def run(end: str, tmp_path: Path) -> tuple[list[dict[str, Any]], str]:
    file = tmp_path / "program.py"
    file.write_text(UNCAUGHT.format(end=end))
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, check=False, timeout=60)
    return [json.loads(line) for line in done.stderr.splitlines()], done.stdout


def test_an_error_that_nobody_caught_is_a_line_without_its_message(tmp_path: Path) -> None:
    lines, printed = run("fails()", tmp_path)
    assert [line["event"] for line in lines] == ["uncaught-error", "unraisable-error", "uncaught-error"]
    assert all("program.py:" in line["places"] for line in lines)
    assert "ValueError at" in lines[-1]["places"]
    assert "ada" not in str(lines) + printed


def test_ctrl_c_is_no_error(tmp_path: Path) -> None:
    lines, _ = run("raise KeyboardInterrupt", tmp_path)
    assert [line["event"] for line in lines] == ["uncaught-error", "unraisable-error"]


def test_no_field_has_the_name_of_a_fixed_member() -> None:
    assert FIELDS.keys().isdisjoint(ALWAYS | {"dropped"})
