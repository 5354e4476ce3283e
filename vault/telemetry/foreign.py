"""Records of the standard library's logging, made fit for the log.

What a foreign package puts into a message can hold anything: a path, an error's text, a value. So a message is written
only where it is known to be constant: the templates of our own packages, without their arguments, and a few sentences of
the WSGI server that operators need. Of all others the log says who spoke, at which place, and withholds the words.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vault.telemetry.fields import allowed, plain_text
from vault.telemetry.traces import places_of

_OURS = ("keyproviders", "strongroom", "vault")
_WITHHELD = "withheld"
_WARNINGS = "py.warnings"
_SERVER = "_granian"
_SERVER_SAYS: Mapping[str, re.Pattern[str]] = {
    "worker-exited": re.compile(r"Unexpected exit from worker-(\d+)"),
    "worker-killed": re.compile(r"Killing (?:old )?worker-(\d+) after it refused to gracefully stop"),
    "worker-crash-loop": re.compile(r"Worker crash loop detected, exiting"),
}


def line_of(record: logging.LogRecord) -> dict[str, Any] | None:
    """Turn a record into a line without its time; None for what tells nobody anything."""
    event, fields = _event_of(record)
    if event == _WITHHELD and record.name == _SERVER and record.levelno < logging.ERROR:
        return None  # advice on settings, at every start
    fields["where"] = f"{Path(record.pathname).name}:{record.lineno}"
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        fields["places"] = places_of(error)
    kept, _ = allowed(fields)
    name = plain_text(record.name)
    return {"level": record.levelname.lower(), "logger": name, "event": event} | kept


def _event_of(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    if record.name.partition(".")[0] in _OURS:
        return str(plain_text(str(record.msg))), {}
    if record.name == _WARNINGS:
        return "python-warning", {}
    if record.name == _SERVER:
        for event, pattern in _SERVER_SAYS.items():
            found = pattern.fullmatch(record.getMessage())
            if found is not None:
                return event, {"worker": int(found[1])} if found.groups() else {}
    return _WITHHELD, {}
