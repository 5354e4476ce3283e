from __future__ import annotations

from collections.abc import Iterator

import pytest

from vault.cli.moving import batches as module
from vault.cli.moving.batches import Batch, Digest, batches
from vault.cli.moving.entries import Entry, NewRecord, Refusal


def entries(*sizes: int) -> Iterator[tuple[object, Entry]]:
    for line, size in enumerate(sizes, 1):
        refused = Entry(line, line, refusals=(Refusal("", "type"),))
        yield (
            f"row {line}",
            refused if size == 0 else Entry(line, line, record=NewRecord({}, None, None, size)),
        )


def parted(*sizes: int, most: int = 3, digest: Digest | None = None) -> list[Batch]:
    chosen = digest or Digest(is_wanted=False)
    return list(batches(entries(*sizes), first_number=4, most_entries=most, digest=chosen))


def lines(found: list[Batch]) -> list[list[int]]:
    return [[entry.line for entry in batch.entries] for batch in found]


def test_batches_are_full_but_the_last() -> None:
    found = parted(*[1] * 7)
    assert lines(found) == [[1, 2, 3], [4, 5, 6], [7]]
    assert [batch.number for batch in found] == [4, 5, 6]
    assert found[1].lines == "lines 4 to 6"
    assert parted() == []


def test_what_was_refused_before_counts_and_is_not_sent() -> None:
    found = parted(0, 1, 0, 0)
    assert lines(found) == [[1, 2, 3], [4]]
    assert [len(batch.records) for batch in found] == [1, 0]


def test_batches_are_not_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    assert lines(parted(4, 4, 4, 11, 1, 9)) == [[1, 2], [3], [4], [5, 6]]


def test_the_digest_at_a_border_is_that_of_everything_before_it() -> None:
    found = parted(*[1] * 7, digest=Digest(is_wanted=True))
    digest = Digest(is_wanted=True)
    for number in range(1, 8):
        digest.add(f"row {number}")
        if number % 3 == 0:
            assert found[number // 3 - 1].digest == digest.text()
    assert found[-1].digest == digest.text()
    assert len({batch.digest for batch in found}) == 3


def test_no_digest_is_made_if_none_is_wanted() -> None:
    assert [batch.digest for batch in parted(1, 1)] == [""]
