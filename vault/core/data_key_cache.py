"""Unwrapped data keys, kept for a while: bounded by age, by uses and by number.

The cache makes a key provider that is slow or away bearable, and what that costs is a number: so many data keys, in
memory until such a time. It saves no check: every use fetches the row first and leaves its entry, so an erased record
is unreadable at once.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from keyproviders.interface import SecretBytes

CachedKey = tuple[str, str, int, bytes]
"""Which data key: tenant, keyring, key version, wrapped bytes."""


@dataclass(frozen=True, slots=True)
class CacheBounds:
    """How much is kept, and for how long.

    Attributes:
        max_entries: data keys at most; 0 switches the cache off.
        max_age_seconds: after which one is forgotten.
        max_uses: after which one is forgotten.
    """

    max_entries: int = 10_000
    max_age_seconds: float = 300.0
    max_uses: int = 1_000


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the cache holds at this moment.

    Attributes:
        data_keys: how many.
        seconds: until the last of them is forgotten; 0 if there is none.
    """

    data_keys: int
    seconds: float


@dataclass(slots=True)
class _Entry:
    dek: SecretBytes
    until: float
    uses_left: int = field(default=0)


class DataKeyCache:
    """Data keys by their wrapped form. Safe to use from several threads.

    Args:
        bounds: how much is kept, and for how long.
        clock: seconds that only grow.
    """

    def __init__(self, bounds: CacheBounds, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds = bounds
        self._clock = clock
        self._lock = threading.Lock()
        # In the order of insertion, which is that of their ends, since all live equally long.
        self._entries: OrderedDict[CachedKey, _Entry] = OrderedDict()

    def get(self, key: CachedKey) -> SecretBytes | None:
        """A copy of a data key, the caller's to wipe; None if it is not here."""
        with self._lock:
            self._forget_old()
            entry = self._entries.get(key)
            if entry is None:
                return None
            copy = SecretBytes(entry.dek.reveal())
            entry.uses_left -= 1
            if entry.uses_left <= 0:
                self._drop(key)
            return copy

    def put(self, key: CachedKey, dek: SecretBytes) -> None:
        """Keep a copy of a data key that was just unwrapped; the use that it was unwrapped for counts."""
        if self._bounds.max_entries <= 0 or self._bounds.max_uses <= 1:
            return
        with self._lock:
            self._forget_old()
            if key in self._entries:
                return
            while len(self._entries) >= self._bounds.max_entries:
                self._drop(next(iter(self._entries)))
            self._entries[key] = _Entry(
                SecretBytes(dek.reveal()),
                self._clock() + self._bounds.max_age_seconds,
                self._bounds.max_uses - 1,
            )

    def forget(self, is_meant: Callable[[CachedKey], bool]) -> None:
        """Wipe the data keys that the caller means, for example those of a version that was retired."""
        with self._lock:
            for key in [key for key in self._entries if is_meant(key)]:
                self._drop(key)

    def exposure(self) -> Exposure:
        """How many data keys are in memory, and for how long at most."""
        with self._lock:
            self._forget_old()
            if not self._entries:
                return Exposure(0, 0.0)
            last = next(reversed(self._entries.values()))
            return Exposure(len(self._entries), max(0.0, last.until - self._clock()))

    def _forget_old(self) -> None:
        now = self._clock()
        while self._entries:
            key, entry = next(iter(self._entries.items()))
            if entry.until > now:
                return
            self._drop(key)

    def _drop(self, key: CachedKey) -> None:
        self._entries.pop(key).dek.wipe()
