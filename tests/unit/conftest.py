"""Logs of the whole process that a test may set up, and everything as it was afterwards."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

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
