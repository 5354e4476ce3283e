"""Records of the standard library's logging: whose words are written, and whose are withheld."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from vault.telemetry import logs

Written = Callable[[], list[dict[str, Any]]]
CANARY = "ada@example.org"


def test_our_own_template_is_written_and_its_arguments_are_not(written: Written) -> None:
    logging.getLogger("keyproviders.local_file").error("the key file went bad, going on: %s", CANARY)
    (line,) = written()
    assert line["event"] == "the key file went bad, going on: %s"
    assert (line["level"], line["logger"]) == ("error", "keyproviders.local_file")
    assert line["where"].startswith("test_foreign.py:")
    assert CANARY not in str(line)


@pytest.mark.parametrize("name", ["thirdparty", "urllib3.connectionpool", "keyprovidersx", "", "root"])
def test_words_of_others_are_withheld(written: Written, name: str) -> None:
    logging.getLogger(name).error(f"connection to {CANARY} failed")  # noqa: G004  # what others do
    logging.getLogger(name).error("connection to %s failed", CANARY)
    for line in written():
        assert line["event"] == "withheld"
        assert line["logger"] == (name or "root")
        assert line["where"].startswith("test_foreign.py:")
        assert CANARY not in str(line)


def test_of_an_error_the_places_are_written_and_the_message_is_not(written: Written) -> None:
    try:
        int(CANARY)
    except ValueError:
        logging.getLogger("thirdparty").exception("failed")
    (line,) = written()
    assert line["places"].startswith("ValueError at test_foreign.py:")
    assert CANARY not in str(line)


def test_a_logger_with_an_odd_name_does_no_harm(written: Written) -> None:
    # Straight to our handler: pytest would hand the line on to another process, which a lone surrogate stops.
    record = logging.makeLogRecord({"name": "odd\nname\u2028\ud800", "levelno": logging.ERROR, "msg": "x"})
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logs._Records):
            handler.handle(record)
    (line,) = written()
    assert line["logger"] == "odd?name??"


@pytest.mark.parametrize(
    ("message", "event", "worker"),
    [
        ("Unexpected exit from worker-2", "worker-exited", 2),
        ("Killing worker-1 after it refused to gracefully stop", "worker-killed", 1),
        ("Killing old worker-12 after it refused to gracefully stop", "worker-killed", 12),
        ("Worker crash loop detected, exiting", "worker-crash-loop", None),
        (f"Unexpected exit from worker-2 {CANARY}", "withheld", None),
        (f"Application callable raised an exception: {CANARY}", "withheld", None),
    ],
)
def test_the_wsgi_server_is_understood_in_what_operators_need(
    written: Written, message: str, event: str, worker: int | None
) -> None:
    logging.getLogger("_granian").error(message)
    (line,) = written()
    assert (line["event"], line.get("worker")) == (event, worker)
    assert CANARY not in str(line)


def test_its_advice_on_settings_is_noise(written: Written) -> None:
    logging.getLogger("_granian").warning("Workers respawn is configured, but something is not enabled")
    logging.getLogger("_granian").warning("Killing worker-1 after it refused to gracefully stop")
    assert [line["event"] for line in written()] == ["worker-killed"]


def test_granian_still_says_what_we_understand() -> None:
    import inspect

    from granian.server import common

    source = inspect.getsource(common)
    for words in (
        "Unexpected exit from worker-{",
        "Killing worker-{",
        "Killing old worker-{",
        "after it refused to gracefully stop",
        "Worker crash loop detected, exiting",
    ):
        assert words in source, words


def test_what_others_say_below_a_warning_is_noise(written: Written) -> None:
    for name in ("thirdparty", "keyproviders"):
        logging.getLogger(name).info("details")
        logging.getLogger(name).debug("details")
    assert written() == []
