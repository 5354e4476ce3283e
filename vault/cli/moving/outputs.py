"""The files that an import writes beside its state: never longer than what the state knows of, whatever happened."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from vault.cli.failure import Failure

_MODE = 0o600
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NEEDS_QUOTES = re.compile(r'[",\r\n]')


class Output:
    """A file of lines for its owner alone, appended to and made durable in steps.

    Args:
        path: where it lies.
        length: how much of it counts; what stands beyond is cut off. A new file if 0.
        heading: what a new file begins with.

    Raises:
        Failure: it cannot be written, or is shorter than what counts.
    """

    def __init__(self, path: Path, *, length: int, heading: str = "") -> None:
        self.path = path
        self._descriptor = -1
        self._length = length
        try:
            # Not through a symbolic link: somebody else could have put it there.
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _MODE)
            os.fchmod(self._descriptor, _MODE)
            if os.fstat(self._descriptor).st_size < length:
                self.close()
                raise Failure(
                    f"{path} is shorter than this import left it.",
                    next_step="Put it back as it was; the tokens in it are nowhere else.",
                )
            os.ftruncate(self._descriptor, length)
            os.lseek(self._descriptor, length, os.SEEK_SET)
        except OSError as error:
            self.close()
            raise unwritable(path, error) from error
        if length == 0:
            # Its name has to last as long as the state that speaks of it.
            sync_folder(path)
            self.append([heading])

    @property
    def length(self) -> int:
        """How many bytes it holds."""
        return self._length

    def append(self, lines: Iterable[str]) -> None:
        """Write lines, each with its end.

        Raises:
            Failure: there is no room.
        """
        self.append_bytes("".join(lines).encode())

    def append_bytes(self, content: bytes) -> None:
        """Write bytes.

        Raises:
            Failure: there is no room.
        """
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._length += len(content)

    def sync(self) -> None:
        """Return when everything is on the medium.

        Raises:
            Failure: it is not.
        """
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def close(self) -> None:
        """Close it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def refuse_existing(path: Path | None, option: str) -> None:
    """Refuse to write over a file that this import has not made.

    Raises:
        Failure: there is one.
    """
    if path is not None and (path.exists() or path.is_symlink()):
        raise Failure(
            f"{path} exists, and this import has not made it.",
            next_step=f"Move it away, or name another file with {option}.",
        )


def sync_folder(path: Path) -> None:
    """Make the names in a file's folder durable, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def csv_line(cells: Sequence[str]) -> str:
    """Return cells as one line of CSV.

    Source: RFC 4180. Python's own writer leaves a carriage return without quotes, which its reader then refuses.
    """
    return ",".join(_quoted(cell) for cell in cells) + "\n"


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if _NEEDS_QUOTES.search(cell) else cell


def unwritable(path: Path, error: OSError) -> Failure:
    """Say that a file cannot be written, and that this is no reason to begin again."""
    mend = "Make room there" if error.errno in _FULL else "Mend that"
    return Failure(
        f"{path} cannot be written: {error.strerror}.",
        next_step=f"{mend}, then run the same command again: it goes on where it stopped.",
    )
