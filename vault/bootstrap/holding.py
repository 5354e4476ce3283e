"""One process at a time: a lock that ends with its holder, however it ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vault.core.errors import MisconfiguredError


@contextmanager
def held(descriptor: int, refusal: str) -> Iterator[None]:
    """Hold an exclusive lock on an open file, and close the file in the end.

    Raises:
        MisconfiguredError: with ``refusal``; somebody else holds it.
    """
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MisconfiguredError(refusal) from None
        yield
    finally:
        os.close(descriptor)
