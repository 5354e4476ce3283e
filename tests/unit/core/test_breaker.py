"""When the breaker lets calls through."""

from __future__ import annotations

from vault.core.breaker import (
    FAILURES_TO_OPEN,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Breaker,
    BreakerState,
)


class Bench:
    def __init__(self) -> None:
        self.now = 1000.0
        self.states: list[BreakerState] = []
        self.breaker = Breaker(self.states.append, lambda: self.now)

    def fail(self, times: int = 1) -> None:
        for _ in range(times):
            assert self.breaker.may_call()
            self.breaker.failed()

    def open(self) -> None:
        self.fail(FAILURES_TO_OPEN)


def test_single_failures_do_not_open_it() -> None:
    bench = Bench()
    for _ in range(10):
        bench.fail(FAILURES_TO_OPEN - 1)
        bench.breaker.succeeded()
    assert bench.states == []


def test_it_opens_and_lets_one_call_through_when_its_pause_is_over() -> None:
    bench = Bench()
    bench.open()
    assert bench.states == [BreakerState.OPEN]
    assert not bench.breaker.may_call()
    assert bench.breaker.wait_seconds() == FIRST_PAUSE_SECONDS
    bench.now += FIRST_PAUSE_SECONDS
    assert bench.breaker.may_call()
    assert not bench.breaker.may_call()
    bench.breaker.succeeded()
    assert bench.states == [BreakerState.OPEN, BreakerState.HALF_OPEN, BreakerState.CLOSED]
    assert bench.breaker.may_call()


def test_its_pauses_grow_to_the_longest_and_start_small_again() -> None:
    bench = Bench()
    bench.open()
    pauses = []
    for _ in range(5):
        bench.now += bench.breaker.wait_seconds()
        bench.fail()
        pauses.append(bench.breaker.wait_seconds())
    assert pauses == [1.0, 2.0, 2.0, 2.0, LONGEST_PAUSE_SECONDS]
    bench.now += bench.breaker.wait_seconds()
    assert bench.breaker.may_call()
    bench.breaker.succeeded()
    bench.open()
    assert bench.breaker.wait_seconds() == FIRST_PAUSE_SECONDS
