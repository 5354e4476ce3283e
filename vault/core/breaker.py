"""A breaker for each key provider: while a provider is away, nobody waits for it to find that out again.

Closed: calls pass. After enough failures in a row it opens: calls fail at once. When its pause is over it is half
open: one call is let through, and what becomes of it closes or opens it again.
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable

FAILURES_TO_OPEN = 2
"""Failures in a row after which the breaker opens."""
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 2.0
"""Pauses double up to this, so that the first success comes soon after the provider is back."""


class BreakerState(enum.StrEnum):
    """What the breaker does with calls."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class Breaker:
    """Counts failures in a row and says whether a call is worth making. Safe to use from several threads.

    Args:
        changed: told of every change of state.
        clock: seconds that only grow.
    """

    def __init__(
        self, changed: Callable[[BreakerState], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._changed = changed
        self._clock = clock
        self._lock = threading.Lock()
        self._state = BreakerState.CLOSED
        self._failures = 0
        self._pause = FIRST_PAUSE_SECONDS
        self._opens_until = 0.0

    @property
    def state(self) -> BreakerState:
        """What it does with calls now."""
        return self._state

    def may_call(self) -> bool:
        """Whether to make a call; who is told so in the half-open state reports what became of it."""
        with self._lock:
            if self._state is BreakerState.CLOSED:
                return True
            if self._state is BreakerState.OPEN and self._clock() >= self._opens_until:
                self._enter(BreakerState.HALF_OPEN)
                return True
            return False

    def wait_seconds(self) -> float:
        """How long it is not worth calling."""
        return max(0.0, self._opens_until - self._clock())

    def succeeded(self) -> None:
        """Note a call that the provider answered, whatever it answered."""
        with self._lock:
            self._failures = 0
            self._pause = FIRST_PAUSE_SECONDS
            if self._state is not BreakerState.CLOSED:
                self._enter(BreakerState.CLOSED)

    def failed(self) -> None:
        """Note a call that the provider did not answer."""
        with self._lock:
            self._failures += 1
            if self._state is BreakerState.HALF_OPEN:
                self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
                self._open()
            elif self._state is BreakerState.CLOSED and self._failures >= FAILURES_TO_OPEN:
                self._open()

    def _open(self) -> None:
        self._opens_until = self._clock() + self._pause
        self._enter(BreakerState.OPEN)

    def _enter(self, state: BreakerState) -> None:
        self._state = state
        self._changed(state)
