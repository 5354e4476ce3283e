"""What a signal handler may set, to end work in an orderly way."""

from __future__ import annotations

import os
import select


class StopSignal:
    """Says that it is time to end; may be set by a signal handler, which an Event may not: it could wait for itself."""

    def __init__(self) -> None:
        self._is_set = False
        self._read, self._write = os.pipe()

    def set(self) -> None:
        """Say it."""
        if not self._is_set:
            self._is_set = True
            os.write(self._write, b"\0")

    def is_set(self) -> bool:
        """Whether it was said."""
        return self._is_set

    def wait(self, timeout: float) -> bool:
        """Sleep for so many seconds, or until it is said; return whether it was."""
        select.select([self._read], [], [], timeout)
        return self._is_set
