"""Ctrl-C: the first one asks for an orderly end, the second one ends at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vault.core.stop_signal import StopSignal

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHELL_OFFSET = 128


class Stop(StopSignal):
    """Set when somebody wants to stop.

    Attributes:
        exit_code: what the shell knows this ending by: 130 for Ctrl-C.
    """

    exit_code = _SHELL_OFFSET + signal.SIGINT


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Give what the first Ctrl-C, or SIGTERM, sets; the second one meets the system's default."""
    stop = Stop()

    def ask(number: int, _frame: FrameType | None) -> None:
        stop.exit_code = _SHELL_OFFSET + number
        stop.set()
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        # Past every buffer: the signal may have come in the middle of a print.
        os.write(
            sys.__stderr__.fileno() if sys.__stderr__ else 2,
            b"\nStopping after what is on its way; again ends at once.\n",
        )

    before = {each: signal.signal(each, ask) for each in _SIGNALS}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
