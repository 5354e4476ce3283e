"""Logs set up for one test, and everything as it was afterwards."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vault.telemetry import logs


@pytest.fixture
def kept_hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what set_up_logs changes in the process."""
    for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    logging.captureWarnings(capture=False)
    root.setLevel(level)
    root.handlers[:] = handlers
    logs._output.least = None


@pytest.fixture
def written(
    kept_hooks: None,  # noqa: ARG001  # for what it puts back
    capfd: pytest.CaptureFixture[str],
) -> Callable[[], list[dict[str, Any]]]:
    """Sets up JSON logs; gives the lines written since it was last asked."""
    logs.set_up_logs("info", "json")
    return lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines()]
