"""Events as lines on standard error: JSON for programs, text for a terminal, and only the fields of an allow-list.

``event_logger("strongroom.x").info("batch-done", rows=12)`` writes one line with time, level, logger, event, the id of
the request that runs, and the fields that :mod:`vault.telemetry.fields` knows. Records of the standard library's
``logging``, ours and those of foreign packages, go the same way. As long as :func:`set_up_logs` was not called
(commands, tests), events are records of ``logging``, and whoever set that up decides.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeAlias, cast

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger

from vault.telemetry.fields import allowed, is_event
from vault.telemetry.foreign import line_of
from vault.telemetry.traces import places_of

Level: TypeAlias = Literal["debug", "info", "warning", "error", "critical"]
Format: TypeAlias = Literal["auto", "json", "text"]
Line: TypeAlias = dict[str, Any]

_STANDARD_ERROR = 2
_NUMBERS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
_JSON = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z

running_request: ContextVar[str | None] = ContextVar("running_request", default=None)
"""The id of the request that this thread answers."""


class _Output:
    """Where this process's lines go.

    Attributes:
        least: the number of the lowest level that is written; None until logs are set up.
    """

    def __init__(self) -> None:
        self.least: int | None = None
        self._is_json = True

    def open(self, least: int, *, is_json: bool) -> None:
        self.least = least
        self._is_json = is_json

    def write(self, line: Line) -> None:
        # One write for each line, so that lines of several processes do not mix. A log that cannot be written (a full
        # disk, a reader that has gone) must not fail the request that it tells of.
        with contextlib.suppress(OSError):
            os.write(_STANDARD_ERROR, self._json(line) if self._is_json else self._text(line))

    def _json(self, line: Line) -> bytes:
        return orjson.dumps(line, option=_JSON)

    def _text(self, line: Line) -> bytes:
        time = line["time"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return f"{time} {line['level']:<8} {line['logger']}: {_sentence(line)}\n".encode()


_output = _Output()


def set_up_logs(level: Level, form: Format) -> None:
    """Send every event and log record of this process to standard error; call it again after a fork, it does no harm.

    Args:
        level: events below it are not written. Records of foreign packages are written from ``warning`` on.
        form: ``auto`` is text on a terminal and JSON elsewhere.
    """
    is_json = form == "json" or (form == "auto" and not os.isatty(_STANDARD_ERROR))
    _output.open(_NUMBERS[level], is_json=is_json)
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _Records)]:
        root.removeHandler(handler)
    root.addHandler(_Records())
    root.setLevel(max(_NUMBERS[level], logging.WARNING))
    logging.captureWarnings(capture=True)
    # Python would print the message of an error that nobody caught, and that can hold what somebody sent.
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _uncaught_in_thread


def event_logger(name: str) -> FilteringBoundLogger:
    """Make a logger of events: ``logger.info("worker-started", pid=12)``.

    Args:
        name: starts with ``strongroom``.
    """
    made = structlog.wrap_logger(
        _Sink(name),
        processors=[_drop_below_level, _keep_to_the_list],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
        context_class=dict,
    )
    return cast("FilteringBoundLogger", made.bind())


class _Sink:
    """What structlog hands a finished line to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.standard = logging.getLogger(name)
        for level, number in _NUMBERS.items():
            setattr(self, level, partial(self._take, number))

    def is_wanted(self, number: int) -> bool:
        if _output.least is None:
            return self.standard.isEnabledFor(number)
        return number >= _output.least

    def _take(self, number: int, line: Line) -> None:
        if _output.least is None:
            self.standard.log(number, "%s", _sentence(line))
        else:
            _output.write(line)


def _drop_below_level(sink: Any, level: str, fields: EventDict) -> EventDict:
    if not sink.is_wanted(_NUMBERS[level]):
        raise structlog.DropEvent
    return fields


def _keep_to_the_list(sink: Any, level: str, fields: EventDict) -> tuple[tuple[Line], Line]:
    event = fields.pop("event", None)
    kept, dropped = allowed(fields)
    if not is_event(event):
        event = "unnamed"
        dropped.append("event")
    line: Line = {"time": datetime.now(UTC), "level": level, "logger": sink.name, "event": event}
    request_id = running_request.get()
    if request_id is not None:
        line["request_id"] = request_id
    line |= kept
    if dropped:
        line["dropped"] = sorted(dropped)
    return (line,), {}


def _sentence(line: Line) -> str:
    rest = {name: value for name, value in line.items() if name not in {"time", "level", "logger", "event"}}
    return " ".join([line["event"], *(f"{name}={_shown(value)}" for name, value in rest.items())])


def _shown(value: Any) -> str:
    text = ",".join(value) if isinstance(value, list) else str(value)
    return f'"{text}"' if " " in text else text


class _Records(logging.Handler):
    """Brings records of the standard library's logging to the same output."""

    def emit(self, record: logging.LogRecord) -> None:
        told = line_of(record)
        if told is None:
            return
        line = {"time": datetime.now(UTC)} | told
        request_id = running_request.get()
        if request_id is not None:
            line["request_id"] = request_id
        _output.write(line)


_log = event_logger("strongroom")


def _uncaught(_type: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
    if not isinstance(error, KeyboardInterrupt):
        _log.critical("uncaught-error", places=places_of(error))


def _uncaught_in_thread(caught: threading.ExceptHookArgs) -> None:
    if caught.exc_value is not None:
        _log.critical("uncaught-error", places=places_of(caught.exc_value))


def _unraisable(caught: sys.UnraisableHookArgs) -> None:
    if caught.exc_value is not None:
        _log.error("unraisable-error", places=places_of(caught.exc_value))
