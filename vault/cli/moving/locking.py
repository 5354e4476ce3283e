"""One import or export at a time for each file that remembers how far it is."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from vault.cli.failure import Failure
from vault.cli.moving.outputs import unwritable


def locked(path: Path, *, by: str) -> int:
    """Open a file, make it if need be, and hold it as long as the descriptor that is returned is open.

    Args:
        path: the file; a link is not followed.
        by: ``import`` or ``export``.

    Raises:
        Failure: another one holds it, or it cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise Failure(
            f"Another {by} is at work with {path}.", next_step="Wait for it, or end it with Ctrl-C."
        ) from None
    return descriptor
