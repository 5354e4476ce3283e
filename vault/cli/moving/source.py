"""Where the records come from: a file as long as it was when it was first seen, or a stream that is read once."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from vault.cli.failure import Failure

_CHUNK_BYTES = 65_536
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The bytes that an import is about: so many, with this SHA-256."""

    size: int
    sha256: str


class Source:
    """The bytes to import; use it as a context manager.

    Args:
        path: a file, or None for standard input.
        stream: standard input.

    Raises:
        Failure: there is no such file, or it may not be read.
    """

    def __init__(self, path: Path | None, stream: IO[bytes]) -> None:
        self.name = "standard input" if path is None else str(path)
        self._stack = ExitStack()
        try:
            self._file: IO[bytes] = stream if path is None else self._stack.enter_context(path.open("rb"))
            mode = os.fstat(self._file.fileno()).st_mode if path is not None else 0
        except OSError as error:
            self._stack.close()
            raise Failure(f"{self.name} cannot be read: {error.strerror}.") from error
        self.is_file = stat.S_ISREG(mode)
        """Whether it can be read twice: a pipe under a name cannot."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def size(self) -> int:
        """Return how long the file is just now."""
        return os.fstat(self._file.fileno()).st_size

    def fingerprint(self, size: int) -> Fingerprint:
        """Return the fingerprint of the first so many bytes, of fewer if there are no more."""
        hashed = _Hashed(self._beginning(size))
        for _ in iter(lambda: hashed.read(_CHUNK_BYTES), b""):
            pass
        return hashed.fingerprint()

    def chunks(self, size: int | None = None) -> Iterator[bytes]:
        """Yield the content, unpacked if it is gzip.

        Args:
            size: how many bytes of the file to read; None for a stream, which is read to its end.

        Raises:
            Failure: broken or incomplete gzip, or the medium cannot be read.
        """
        yield from self._unpacked(self._file if size is None else self._beginning(size))

    def checked_chunks(self, size: int, found: list[Fingerprint]) -> Iterator[bytes]:
        """Yield the content as ``chunks`` does, and add the fingerprint of what was read when all is read."""
        hashed = _Hashed(self._beginning(size))
        yield from self._unpacked(hashed)
        found.append(hashed.fingerprint())

    def _beginning(self, size: int) -> _Beginning:
        # A handle of its own, so that a later pass is not where the earlier one stopped.
        self._file.seek(0)
        return _Beginning(self._file, size)

    def _unpacked(self, raw: Any) -> Iterator[bytes]:
        buffered = raw if hasattr(raw, "peek") else io.BufferedReader(raw, _CHUNK_BYTES)
        try:
            if buffered.peek(len(_GZIP))[: len(_GZIP)] != _GZIP:
                yield from iter(lambda: buffered.read(_CHUNK_BYTES), b"")
                return
            with gzip.GzipFile(fileobj=buffered, mode="rb") as unpacked:
                yield from iter(lambda: unpacked.read(_CHUNK_BYTES), b"")
        except EOFError:
            raise Failure(
                f"{self.name} is gzip and ends too early: it is cut off, or still being written.",
                next_step="Wait until it is whole, or fetch it again.",
            ) from None
        except (gzip.BadGzipFile, zlib.error):
            raise Failure(
                f"{self.name} is broken gzip.", next_step="Fetch it again; `gzip -t` tells."
            ) from None
        except OSError as error:
            raise Failure(f"{self.name} cannot be read: {error.strerror or 'input error'}.") from error


class _Beginning(io.RawIOBase):
    """The first bytes of a file, whatever is appended meanwhile."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__()
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._file.read(min(len(buffer), self._left))
        buffer[: len(chunk)] = chunk
        self._left -= len(chunk)
        return len(chunk)


class _Hashed(io.RawIOBase):
    """Passes bytes on and hashes them."""

    def __init__(self, raw: io.RawIOBase) -> None:
        super().__init__()
        self._raw = raw
        self._hash = hashlib.sha256()
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._raw.readinto(buffer) or 0
        self._hash.update(memoryview(buffer)[:count])
        self._size += count
        return count

    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self._size, self._hash.hexdigest())


def is_same_beginning(source: Source, wanted: Fingerprint) -> bool:
    """Say whether a file still begins with the bytes of a fingerprint."""
    return source.size() >= wanted.size and source.fingerprint(wanted.size) == wanted
