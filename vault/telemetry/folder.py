"""The folder in which the processes of one server share their numbers: made at the start, gone at the end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vault.telemetry.shared import FOLDER_VARIABLE
from vault.telemetry.values import RESERVED_BYTES

_PREFIX = "strongroom-metrics-"
_MEMORY = Path("/dev/shm")  # noqa: S108  # a file system in memory: a full data disk does not reach it
_SPARE_BYTES = 16 * 1024 * 1024


@contextlib.contextmanager
def shared_folder(*, processes: int) -> Iterator[Path]:
    """Make a private folder, name it to the processes that are started from here, and remove it in the end.

    What servers of this user that were killed left behind is cleared away first.

    Args:
        processes: how many will write at the same time.
    """
    for place in {_MEMORY, Path(tempfile.gettempdir())}:
        for left in place.glob(_PREFIX + "*"):
            _remove_if_dead(left)
    folder, hold = _make(_place_for(processes))
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = str(folder)
    try:
        yield folder
    finally:
        _restore(before)
        _remove(folder, hold)
        os.close(hold)


def _place_for(processes: int) -> Path:
    # One more: a worker that was killed keeps its files beside those of the one that takes its place.
    needed = (processes + 1) * sum(RESERVED_BYTES.values()) + _SPARE_BYTES
    with contextlib.suppress(OSError):
        state = os.statvfs(_MEMORY)
        if state.f_bavail * state.f_frsize >= needed and os.access(_MEMORY, os.W_OK | os.X_OK):
            return _MEMORY
    return Path(tempfile.gettempdir())


def _make(place: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        # Another server that starts at this moment may take the new folder, which nobody holds yet, for one that was
        # left, and remove it.
        with contextlib.suppress(FileNotFoundError):
            hold = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # Held as long as the server, or a worker that it forked, lives.
            fcntl.flock(hold, fcntl.LOCK_EX)
            if folder.exists():
                return folder, hold
            os.close(hold)


def _remove_if_dead(folder: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            state = os.fstat(descriptor)
            # Everybody may write to these places: only what _make makes is removed.
            if state.st_uid == os.geteuid() and not state.st_mode & 0o077:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder, descriptor)
        finally:
            os.close(descriptor)


def _remove(folder: Path, descriptor: int) -> None:
    """Remove a folder and the files of ours in it; with anything else in it, it stays."""
    with contextlib.suppress(OSError):
        for name in os.listdir(descriptor):
            if name.endswith((".db", ".alive")):
                os.unlink(name, dir_fd=descriptor)
        folder.rmdir()


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop(FOLDER_VARIABLE, None)
    else:
        os.environ[FOLDER_VARIABLE] = before
