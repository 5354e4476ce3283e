"""Keeping what is in memory in memory: no core dumps, and no other process of the same user that reads along."""

from __future__ import annotations

import ctypes
import resource

from vault.telemetry.logs import event_logger

_PR_SET_DUMPABLE = 4
log = event_logger("strongroom.server")


def keep_memory_private() -> None:
    """Switch core dumps off and forbid debuggers of the same user to attach; children by fork inherit both.

    Where the system does not let us, the log says so and the process goes on.

    Source: prctl(2), getrlimit(2).
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError):
        log.warning("core-dumps-not-switched-off")
    try:
        refused = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (OSError, AttributeError):
        refused = True
    if refused:
        log.warning("process-stays-dumpable")
