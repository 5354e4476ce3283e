"""Logs set up for one test."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from vault.telemetry import logs


@pytest.fixture
def written(
    kept_hooks: None,  # noqa: ARG001  # for what it puts back
    capfd: pytest.CaptureFixture[str],
) -> Callable[[], list[dict[str, Any]]]:
    """Sets up JSON logs; gives the lines written since it was last asked."""
    logs.set_up_logs("info", "json")
    return lambda: [json.loads(line) for line in capfd.readouterr().err.splitlines()]
