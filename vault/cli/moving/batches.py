"""Which records travel together. The borders depend on the file and the options alone, so a batch can be sent again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vault.cli.moving.entries import Entry, NewRecord

MOST_ENTRIES = 1_000
"""The most operations that the server takes at once."""

MOST_BYTES = 8 * 1024 * 1024
"""The most bytes of documents in a batch: half of what the server takes, as JSON written elsewhere may be longer."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Entries that travel together.

    Attributes:
        number: from 1, and on over several runs.
        digest: of the content, where it was asked for; else empty.
    """

    number: int
    entries: tuple[Entry, ...] = field(repr=False)
    digest: str

    @property
    def records(self) -> list[NewRecord]:
        """What is to be sent: the entries that were not refused before."""
        return [entry.record for entry in self.entries if entry.record is not None]

    @property
    def lines(self) -> str:
        """Where it stands in the file, for a sentence."""
        return f"lines {self.entries[0].line} to {self.entries[-1].last_line}"


class Digest:
    """A running hash of what was read from a stream, so that another one is not mistaken for its continuation."""

    def __init__(self, *, is_wanted: bool) -> None:
        self._hash = hashlib.sha256() if is_wanted else None

    def add(self, content: object) -> None:
        """Take in the content of one row."""
        if self._hash is not None:
            self._hash.update(f"{content!r}\n".encode(errors="surrogatepass"))

    def text(self) -> str:
        """Return the hash of everything so far; empty if none is wanted."""
        return "" if self._hash is None else self._hash.hexdigest()


def batches(
    entries: Iterable[tuple[object, Entry]], *, first_number: int, most_entries: int, digest: Digest
) -> Iterator[Batch]:
    """Yield batches of so many entries and so many bytes at most; a longer document travels alone.

    Args:
        entries: each with the content that the digest takes in.
        first_number: the number of the first batch.
        most_entries: how many there are in a full batch.
        digest: of what came before.
    """
    number = first_number
    waiting: list[Entry] = []
    size = 0
    for content, entry in entries:
        own = 0 if entry.record is None else entry.record.size
        if waiting and (len(waiting) == most_entries or size + own > MOST_BYTES):
            yield Batch(number, tuple(waiting), digest.text())
            number += 1
            waiting, size = [], 0
        digest.add(content)
        waiting.append(entry)
        size += own
    if waiting:
        yield Batch(number, tuple(waiting), digest.text())
