"""When a request is sent again: only if that cannot do a thing twice, and never past the caller's patience.

Counting, backing off and reading ``Retry-After`` are urllib3's ``Retry``. It is asked between exchanges instead of being
left alone with the pool: which answers may be repeated depends on the problem in the body, each exchange is to be
observed, and the last error is to be raised as it came. Its own sleep knows no deadline, and its jitter leaves out both
the first pause and every ``Retry-After``, so that all clients of a restarted server would come back at the same instant.
"""

from __future__ import annotations

import math
import random
from time import monotonic, sleep

from urllib3.exceptions import InvalidHeader, MaxRetryError
from urllib3.util import Retry

from vault.client.errors import (
    Conflict,
    ConnectionFailed,
    Gone,
    InvalidRequest,
    Misconfigured,
    NotFound,
    PreconditionFailed,
    StrongroomError,
    Unavailable,
)

MOST_RETRIES = 1_000
# Doubled with each try: pauses of 0, 0.5, 1, 2, 4, 8, 8 ... seconds.
_BACKOFF_FACTOR = 0.25
_LONGEST_BACKOFF_SECONDS = 8.0
_SPREAD = 0.5
_LONGEST_HEADER = 40
_PASSING_FAILURES = {"connection-refused", "connection-lost", "timeout"}
_GATEWAY_STATUSES = {502, 504}
_IN_FLIGHT = "idempotency-in-flight"
# The vault itself has looked at the request and says no: an earlier try of it has not been carried out either.
_SETTLING = (InvalidRequest, NotFound, Conflict, Gone, PreconditionFailed)


class RetryPolicy:
    """How often, and for how long, requests are sent again.

    Args:
        retries: the most further tries of one request, up to 1,000; 0 for none.
        seconds: after this time no further try starts.

    Raises:
        Misconfigured: other numbers.
    """

    def __init__(self, retries: int, seconds: float) -> None:
        if not 0 <= retries <= MOST_RETRIES:
            raise Misconfigured(f"retries is a number from 0 to {MOST_RETRIES}.", code="retries")
        if not seconds >= 0:
            raise Misconfigured("retry_seconds is a number from 0 on.", code="retries")
        self._seconds = seconds
        self._start = Retry(
            total=retries, backoff_factor=_BACKOFF_FACTOR, backoff_max=_LONGEST_BACKOFF_SECONDS
        )

    def begin(self, *, reads: bool, key: str | None, waits: bool) -> Tries:
        """Return the tries of one request; see there."""
        return Tries(self._start, monotonic() + self._seconds, reads=reads, key=key, waits=waits)


class Tries:
    """The tries of one request.

    Args:
        policy: how many are left, and how long to pause.
        deadline: no try starts after this moment of the monotonic clock.
        reads: the request changes nothing.
        key: its ``Idempotency-Key``, with which the server carries it out once.
        waits: False for a request that is sent again at once or not at all.
    """

    def __init__(self, policy: Retry, deadline: float, *, reads: bool, key: str | None, waits: bool) -> None:
        self._policy = policy
        self._deadline = deadline
        self._reads = reads
        self._key = key
        self._waits = waits
        self._is_unsettled = False
        self.count = 1

    def go_on_after(self, error: StrongroomError) -> bool:
        """Note on the error what the tries so far mean; then pause, or return False: the error is to be raised."""
        may_be_done = error.outcome_unknown and not self._reads
        self._is_unsettled = may_be_done or (self._is_unsettled and not isinstance(error, _SETTLING))
        error.outcome_unknown = self._is_unsettled
        error.attempts = self.count
        error.idempotency_key = self._key
        is_repeatable = self._reads or self._key is not None or not may_be_done
        if not (is_repeatable and _will_pass(error)):
            return False
        try:
            self._policy = self._policy.increment()
        except MaxRetryError:
            return False
        # 0 before the second try if nobody says otherwise: most likely a kept connection has died of old age.
        pause = max(error.retry_after_seconds or 0, self._policy.get_backoff_time())
        pause *= 1 + _SPREAD * random.random()  # noqa: S311 - spreads the callers, protects nothing
        if monotonic() + pause > self._deadline or (pause and not self._waits):
            return False
        sleep(pause)
        self.count += 1
        return True


def advised_seconds(retry_after: str | None) -> int | None:
    """Return the wait that a ``Retry-After`` header asks for, at least 1; None if it says nothing that counts."""
    # urllib3 would pass digits of any number to int(), which refuses them with a ValueError of its own.
    if retry_after is None or len(retry_after) > _LONGEST_HEADER:
        return None
    try:
        return max(1, math.ceil(Retry(0).parse_retry_after(retry_after)))
    except (InvalidHeader, ValueError, OverflowError):
        return None


def _will_pass(error: StrongroomError) -> bool:
    if isinstance(error, ConnectionFailed):
        return error.code in _PASSING_FAILURES
    return isinstance(error, Unavailable) or error.code == _IN_FLIGHT or error.status in _GATEWAY_STATUSES
