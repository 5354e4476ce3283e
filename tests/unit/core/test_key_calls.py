"""Remote providers that are slow, hang or fail: a deadline, a breaker, no pile of threads, one fetch for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from keyproviders.errors import KeyProviderError, ProviderUnavailableError, WrappedKeyRejectedError
from keyproviders.interface import Capabilities, Health, HealthStatus, SecretBytes, UnwrapItem, WrappedKey
from vault.core.breaker import FAILURES_TO_OPEN, BreakerState
from vault.core.data_key_cache import CacheBounds
from vault.core.data_keys import DataKeys, Wanted
from vault.core.key_calls import CALLS_AT_ONCE, GuardedProvider

CANARY = UnwrapItem(WrappedKey("k", 1, "A", b"canary"), b"")


class Remote:
    """A fake: this is a unit test of the guard, not of a backend."""

    name = "far"

    def __init__(self, *, is_remote: bool = True, max_batch: int = 100) -> None:
        self.calls = 0
        self.error: KeyProviderError | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.health_status = HealthStatus.OK
        self._capabilities = Capabilities(
            binds_context=False,
            rewraps_inside=False,
            generates_inside=False,
            max_batch=max_batch,
            is_remote=is_remote,
        )

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[Any]:
        self.calls += 1
        self.gate.wait()
        if self.error is not None:
            raise self.error
        return [
            WrappedKeyRejectedError("no", provider="far")
            if item.wrapped.blob == b"bad"
            else SecretBytes(item.wrapped.blob.ljust(32, b"."))
            for item in items
        ]

    def health(self, _canary: UnwrapItem) -> Health:
        self.calls += 1
        self.gate.wait()
        return Health(self.health_status, str(self.health_status))


@pytest.fixture
def remote() -> Iterator[Remote]:
    made = Remote()
    yield made
    made.gate.set()


def guard(remote: Remote, **options: Any) -> GuardedProvider:
    return GuardedProvider(remote, **{"deadline_seconds": 0.05} | options)  # type: ignore[arg-type]


def item(blob: bytes = b"a") -> UnwrapItem:
    return UnwrapItem(WrappedKey("k", 1, "A", blob), b"")


def fail(guarded: GuardedProvider, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ProviderUnavailableError):
            guarded.unwrap([item()])


def test_a_call_that_hangs_ends_at_its_deadline_and_opens_the_breaker(remote: Remote) -> None:
    states: list[BreakerState] = []
    guarded = guard(remote, changed=lambda _name, state: states.append(state))
    remote.gate.clear()
    fail(guarded, FAILURES_TO_OPEN)
    assert states == [BreakerState.OPEN]
    fail(guarded, 50)
    assert remote.calls == FAILURES_TO_OPEN


def test_threads_do_not_pile_up(remote: Remote) -> None:
    guarded = guard(remote)
    remote.gate.clear()
    before = threading.active_count()
    callers = [threading.Thread(target=fail, args=(guarded, 5)) for _ in range(20)]
    for each in callers:
        each.start()
    for each in callers:
        each.join()
    assert threading.active_count() - before <= CALLS_AT_ONCE
    assert remote.calls <= CALLS_AT_ONCE


def test_it_closes_again_with_the_first_success(remote: Remote) -> None:
    guarded = guard(remote)
    remote.error = ProviderUnavailableError("down", provider="far")
    fail(guarded, FAILURES_TO_OPEN)
    remote.error = None
    deadline = time.monotonic() + 10
    while guarded.breaker is not BreakerState.CLOSED:
        assert time.monotonic() < deadline
        try:
            guarded.unwrap([item()])
        except ProviderUnavailableError:
            time.sleep(0.01)


def test_an_answer_that_says_no_does_not_open_it(remote: Remote) -> None:
    guarded = guard(remote)
    remote.error = WrappedKeyRejectedError("no", provider="far")
    for _ in range(5 * FAILURES_TO_OPEN):
        with pytest.raises(WrappedKeyRejectedError):
            guarded.unwrap([item()])
    assert guarded.breaker is BreakerState.CLOSED


def test_what_the_provider_raises_comes_through(remote: Remote) -> None:
    guarded = guard(remote)
    remote.error = ProviderUnavailableError("sealed", provider="far", retry_after_seconds=7)
    with pytest.raises(ProviderUnavailableError, match="sealed") as refused:
        guarded.unwrap([item()])
    assert refused.value.retry_after_seconds == 7


def test_a_provider_in_this_process_is_called_as_it_is() -> None:
    here = Remote(is_remote=False)
    guarded = guard(here)
    here.error = ProviderUnavailableError("down", provider="far")
    fail(guarded, 10)
    assert here.calls == 10
    assert guarded.breaker is BreakerState.CLOSED


def test_the_deadline_grows_with_the_round_trips() -> None:
    one_by_one = guard(Remote(max_batch=1), deadline_seconds=1.0)
    in_batches = guard(Remote(max_batch=100), deadline_seconds=1.0)
    assert (one_by_one._deadline_for(1), in_batches._deadline_for(100)) == (1.0, 1.0)
    assert one_by_one._deadline_for(1000) > 10
    assert in_batches._deadline_for(1000) < 2


def test_health_says_why_also_while_the_breaker_is_open(remote: Remote) -> None:
    guarded = guard(remote)
    remote.health_status = HealthStatus.SEALED
    for _ in range(FAILURES_TO_OPEN):
        assert guarded.health(CANARY).status is HealthStatus.SEALED
    assert guarded.breaker is BreakerState.OPEN
    assert guarded.health(CANARY).status is HealthStatus.SEALED
    assert remote.calls == FAILURES_TO_OPEN


def test_the_turn_is_given_back_while_a_call_is_waited_for(remote: Remote) -> None:
    entered: list[str] = []

    @contextmanager
    def waiting() -> Iterator[None]:
        entered.append("out")
        yield
        entered.append("in")

    guard(remote, waiting=waiting).unwrap([item()])
    assert entered == ["out", "in"]


def wanted(blob: bytes) -> Wanted:
    return Wanted(("default", "default", 1, blob), item(blob))


def test_many_who_want_one_data_key_make_one_call(remote: Remote) -> None:
    keys = DataKeys(CacheBounds())
    guarded = guard(remote, deadline_seconds=5)
    remote.gate.clear()
    results: list[bytes] = []

    def fetch() -> None:
        (found,) = keys.unwrap(guarded, [wanted(b"a")])
        assert not isinstance(found, KeyProviderError)
        results.append(found.reveal())

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for each in threads:
        each.start()
    deadline = time.monotonic() + 10
    while remote.calls == 0:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    remote.gate.set()
    for each in threads:
        each.join()
    assert results == [b"a".ljust(32, b".")] * 8
    assert remote.calls == 1


def test_a_failure_is_told_to_all_and_kept_by_nobody(remote: Remote) -> None:
    keys = DataKeys(CacheBounds())
    guarded = guard(remote)
    bad, good = keys.unwrap(guarded, [wanted(b"bad"), wanted(b"good")])
    assert isinstance(bad, WrappedKeyRejectedError)
    assert isinstance(good, SecretBytes)
    keys.unwrap(guarded, [wanted(b"bad"), wanted(b"good")])
    assert remote.calls == 2  # the bad one is asked again, the good one is not
    assert keys.cache.exposure().data_keys == 1
    assert keys._fetching == {}


def test_cached_data_keys_outlive_the_provider(remote: Remote) -> None:
    keys = DataKeys(CacheBounds())
    guarded = guard(remote)
    keys.unwrap(guarded, [wanted(b"a")])
    remote.error = ProviderUnavailableError("down", provider="far")
    (kept,) = keys.unwrap(guarded, [wanted(b"a")])
    (missing,) = keys.unwrap(guarded, [wanted(b"b")])
    assert isinstance(kept, SecretBytes)
    assert isinstance(missing, ProviderUnavailableError)


def test_each_caller_wipes_a_copy_of_its_own(remote: Remote) -> None:
    keys = DataKeys(CacheBounds())
    first, second = keys.unwrap(guard(remote), [wanted(b"a"), wanted(b"a")])
    assert isinstance(first, SecretBytes)
    assert isinstance(second, SecretBytes)
    first.wipe()
    assert second.reveal()
    assert remote.calls == 1
