"""Numbers of one process in files that others read: what prometheus-client calls a value class.

The files have the form of prometheus-client's multiprocess mode, whose collector reads them. They are written here,
because its own writer lets a file grow sparsely, and a write to a page for which the file system has no room left ends
the process by SIGBUS. Here all room is reserved before the first number; what finds no room counts nowhere. It also
asks for the process number and packs bytes on every increment, which costs a request three times as much.

Form: bytes used (int32), 4 bytes of padding; then entries of key length (int32), key (JSON), 1 to 8 spaces up to a
multiple of 8 bytes, value (double), time (double). Source: prometheus_client/mmap_dict.py.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESERVED_BYTES = {
    "histogram": 512 * 1024,
    "counter": 512 * 1024,
    "gauge_livesum": 64 * 1024,
    "gauge_max": 64 * 1024,
}
"""What each kind of number gets in each process: more than all label values together need, which a test counts."""
_HEADER_BYTES = 8
_DOUBLE_BYTES = 8


class NumbersFile:
    """One file of numbers, with all the room it will ever have.

    Args:
        path: made if it is not there; numbers that are in it stay.
        size: bytes, a multiple of 8.

    Raises:
        OSError: there is no room; nothing is left behind.
    """

    def __init__(self, path: Path, size: int) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            self._bytes = mmap.mmap(descriptor, size)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)
        self.numbers = memoryview(self._bytes).cast("d")
        (used,) = struct.unpack_from("i", self._bytes)
        self._used = used or _HEADER_BYTES
        self._places = self._read()

    def place_of(self, key: str) -> int | None:
        """Where the number of this key stands in ``numbers``; None if there is no room for another."""
        place = self._places.get(key)
        return self._add(key) if place is None else place

    def _add(self, key: str) -> int | None:
        text = key.encode()
        padded = text + b" " * _padding(len(text))
        entry = struct.pack(f"i{len(padded)}sdd", len(text), padded, 0.0, 0.0)
        end = self._used + len(entry)
        if end > len(self._bytes):
            return None
        self._bytes[self._used : end] = entry
        self._used = end
        # Last of all: whoever reads meanwhile must not find half an entry.
        struct.pack_into("i", self._bytes, 0, end)
        place = self._places[key] = (end - 2 * _DOUBLE_BYTES) // _DOUBLE_BYTES
        return place

    def _read(self) -> dict[str, int]:
        places = {}
        position = _HEADER_BYTES
        while position < self._used:
            (length,) = struct.unpack_from("i", self._bytes, position)
            position += 4
            key = self._bytes[position : position + length].decode()
            position += length + _padding(length)
            places[key] = position // _DOUBLE_BYTES
            position += 2 * _DOUBLE_BYTES
        return places


def _padding(length: int) -> int:
    return _DOUBLE_BYTES - (length + 4) % _DOUBLE_BYTES


def value_class(files: dict[str, NumbersFile]) -> type:
    """Make the class whose instances hold the numbers of prometheus-client's metrics.

    Args:
        files: by kind of number, as in :data:`RESERVED_BYTES`.
    """
    from prometheus_client.mmap_dict import mmap_key  # noqa: PLC0415  # see metrics.py

    lock = threading.Lock()
    nowhere = memoryview(bytearray(_DOUBLE_BYTES)).cast("d")

    class ReservedValue:
        """One number; what prometheus-client calls on it."""

        __slots__ = ("_numbers", "_place")
        _multiprocess = True

        def __init__(
            self,
            typ: str,
            metric_name: str,
            name: str,
            labelnames: Sequence[str],
            labelvalues: Sequence[str],
            help_text: str,
            multiprocess_mode: str = "",
            **_: Any,
        ) -> None:
            file = files[f"{typ}_{multiprocess_mode}" if multiprocess_mode else typ]
            key = mmap_key(metric_name, name, list(labelnames), list(labelvalues), help_text)
            with lock:
                place = file.place_of(key)
            self._numbers = nowhere if place is None else file.numbers
            self._place = place or 0

        def inc(self, amount: float) -> None:
            with lock:
                self._numbers[self._place] += amount

        def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002
            with lock:
                self._numbers[self._place] = value

        def get(self) -> float:
            return float(self._numbers[self._place])

        def set_exemplar(self, exemplar: object) -> None:
            pass

        def get_exemplar(self) -> None:
            return None

    return ReservedValue
