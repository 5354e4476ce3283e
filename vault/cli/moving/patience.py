"""Waiting for a server that is away: with growing pauses, saying so, and not a moment after somebody wants to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from vault.cli.moving.progress import Meter
from vault.client import Conflict, ConnectionFailed, StrongroomError, Unavailable, UnexpectedAnswer
from vault.core.stop_signal import StopSignal

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_FOR_GOOD = frozenset({"tls", "client-closed"})
# What a proxy says while nobody is behind it.
_PROXY_STATUSES = frozenset({502, 504})

_Result = TypeVar("_Result")


class StoppedError(Exception):
    """Somebody wanted to stop before the server was there again. What was sent may have arrived."""


def is_passing(error: StrongroomError) -> bool:
    """Say whether the same request can succeed a little later."""
    match error:
        case ConnectionFailed():
            return error.code not in _FOR_GOOD
        case Unavailable():
            return True
        case Conflict():
            return error.code == "idempotency-in-flight"
        case UnexpectedAnswer():
            return error.status in _PROXY_STATUSES
        case _:
            return False


class Patience:
    """Tries again while the server is away. Threads share it, so that one outage is told once.

    Args:
        stop: set when somebody wants to stop.
        meter: says how long it has waited.
    """

    def __init__(self, stop: StopSignal, meter: Meter) -> None:
        self._stop = stop
        self._meter = meter
        self._lock = threading.Lock()
        self._since: float | None = None
        self._told_at = 0.0

    def insist(
        self, attempt: Callable[[], _Result], *, before_retry: Callable[[], None] = lambda: None
    ) -> _Result:
        """Return what an attempt gives, trying until the server answers.

        Args:
            attempt: one request; the same each time.
            before_retry: raises what ends the waiting.

        Raises:
            StrongroomError: an answer that will be the same next time.
            StoppedError: somebody wanted to stop while it waited.
        """
        is_unknown = False
        for pause in _pauses():
            try:
                result = attempt()
            except StrongroomError as error:
                # What the last try was told says nothing of an earlier one that got no answer.
                is_unknown = error.outcome_unknown = error.outcome_unknown or is_unknown
                if not is_passing(error):
                    raise
                seconds = max(pause, error.retry_after_seconds or 0)
                self._tell(error, seconds)
                if self._stop.wait(seconds):
                    raise StoppedError from error
                before_retry()
            else:
                self._tell_return()
                return result
        raise AssertionError("the pauses never end")

    def _tell(self, error: StrongroomError, pause: float) -> None:
        with self._lock:
            now = time.monotonic()
            if self._since is None:
                self._since = now
            elif now < self._told_at + min(pause, _LONGEST_PAUSE_SECONDS) / 2:
                return  # another thread has just said it
            self._told_at = now
            waited = now - self._since
        self._meter.say(
            "waiting",
            f"{error.detail} Waiting; {waited:.0f} s so far. Ctrl-C stops, and the same command goes on later.",
            code=error.code,
            waited_seconds=round(waited, 1),
        )

    def _tell_return(self) -> None:
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            waited = time.monotonic() - since
            self._meter.say(
                "resumed", f"The server answers again after {waited:.0f} s.", waited_seconds=round(waited, 1)
            )


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
