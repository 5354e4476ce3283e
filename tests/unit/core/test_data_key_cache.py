"""How long unwrapped data keys stay, and how many."""

from __future__ import annotations

import pytest

from keyproviders.interface import SecretBytes
from vault.core.data_key_cache import CacheBounds, CachedKey, DataKeyCache, Exposure


class Bench:
    def __init__(self, **bounds: float) -> None:
        self.now = 0.0
        self.cache = DataKeyCache(CacheBounds(**bounds), lambda: self.now)  # type: ignore[arg-type]

    def put(self, number: int) -> SecretBytes:
        secret = SecretBytes(bytes([number]) * 32)
        self.cache.put(key(number), secret)
        return secret

    def holds(self, number: int) -> bool:
        found = self.cache.get(key(number))
        assert found is None or found.reveal() == bytes([number]) * 32
        return found is not None


def key(number: int, version: int = 1) -> CachedKey:
    return ("default", "default", version, bytes([number]))


def test_age_ends_an_entry() -> None:
    bench = Bench(max_age_seconds=10)
    bench.put(1)
    bench.now = 9.99
    assert bench.holds(1)
    bench.now = 10
    assert not bench.holds(1)
    assert bench.cache.exposure() == Exposure(0, 0.0)


def test_a_use_does_not_make_it_younger() -> None:
    bench = Bench(max_age_seconds=10)
    bench.put(1)
    bench.now = 6
    bench.put(1)
    assert bench.holds(1)
    bench.now = 10
    assert not bench.holds(1)


def test_uses_end_an_entry_and_the_first_one_counts() -> None:
    bench = Bench(max_uses=3)
    bench.put(1)
    assert [bench.holds(1) for _ in range(3)] == [True, True, False]


def test_number_ends_the_oldest() -> None:
    bench = Bench(max_entries=2)
    for number in (1, 2, 3):
        bench.put(number)
    assert [bench.holds(number) for number in (1, 2, 3)] == [False, True, True]


@pytest.mark.parametrize("bounds", [{"max_entries": 0}, {"max_uses": 1}])
def test_it_can_be_switched_off(bounds: dict[str, float]) -> None:
    bench = Bench(**bounds)
    bench.put(1)
    assert not bench.holds(1)


def test_what_it_gives_and_takes_are_copies() -> None:
    bench = Bench()
    bench.put(1).wipe()
    found = bench.cache.get(key(1))
    assert found is not None
    found.wipe()
    assert bench.holds(1)


def test_what_is_dropped_is_wiped() -> None:
    bench = Bench(max_entries=1)
    bench.put(1)
    kept = bench.cache._entries[key(1)].dek
    bench.put(2)
    assert len(kept) == 0


def test_it_forgets_what_it_is_told_to() -> None:
    bench = Bench()
    bench.put(1)
    bench.cache.put(key(2, version=7), SecretBytes(bytes(32)))
    bench.cache.forget(lambda cached: cached[2] == 7)
    assert bench.holds(1)
    assert bench.cache.get(key(2, version=7)) is None


def test_exposure_is_a_number_and_a_time() -> None:
    bench = Bench(max_age_seconds=10)
    bench.put(1)
    bench.now = 4
    bench.put(2)
    bench.now = 5
    assert bench.cache.exposure() == Exposure(2, 9.0)
