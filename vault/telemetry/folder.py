"""The folder in which the processes of one server share their numbers: made at the start, gone at the end."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vault.telemetry.logs import event_logger
from vault.telemetry.shared import FOLDER_VARIABLE
from vault.telemetry.values import RESERVED_BYTES

_PREFIX = "strongroom-metrics-"
_MEMORY = Path("/dev/shm")  # noqa: S108  # a file system in memory: a full data disk does not reach it
_SPARE_BYTES = 16 * 1024 * 1024
_MOST_POINTER_BYTES = 4_096

_log = event_logger("strongroom.metrics")


@contextlib.contextmanager
def shared_folder(pointer: Path, *, processes: int) -> Iterator[Path]:
    """Make a private folder, name it to the processes that are started from here, and remove it in the end.

    Args:
        pointer: a file that only one server holds; its content is replaced by the folder's path, so that the next
            server can clear away what one that was killed left.
        processes: how many will write at the same time.
    """
    _clear_away(_read(pointer))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_place_for(processes)))
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = str(folder)
    try:
        _write(pointer, str(folder))
        yield folder
    finally:
        _restore(before)
        _clear_away(folder)
        _write(pointer, "")


def _place_for(processes: int) -> Path:
    # One more: a worker that was killed keeps its files beside those of the one that takes its place.
    needed = (processes + 1) * sum(RESERVED_BYTES.values()) + _SPARE_BYTES
    with contextlib.suppress(OSError):
        state = os.statvfs(_MEMORY)
        if state.f_bavail * state.f_frsize >= needed and os.access(_MEMORY, os.W_OK | os.X_OK):
            return _MEMORY
    return Path(tempfile.gettempdir())


def _clear_away(folder: Path | None) -> None:
    """Remove a folder of ours and the files in it; anything else is left alone."""
    if folder is None or not folder.name.startswith(_PREFIX):
        return
    with contextlib.suppress(OSError):
        state = folder.lstat()
        # The pointer is a file that somebody could have written to: only what shared_folder makes is removed.
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or state.st_mode & 0o077:
            return
        for file in folder.iterdir():
            if file.suffix in {".db", ".alive"}:
                file.unlink()
        folder.rmdir()


def _read(pointer: Path) -> Path | None:
    try:
        with pointer.open("rb") as file:
            text = os.fsdecode(file.read(_MOST_POINTER_BYTES))
    except OSError:
        return None
    return Path(text) if text and "\0" not in text else None


def _write(pointer: Path, text: str) -> None:
    try:
        pointer.write_text(text)
    except OSError as error:
        # Without it a killed server leaves a folder behind in memory; that is no reason not to serve.
        _log.warning("metrics-folder-not-remembered", error=type(error).__name__)


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop(FOLDER_VARIABLE, None)
    else:
        os.environ[FOLDER_VARIABLE] = before
