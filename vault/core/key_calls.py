"""Calls of a key provider that may be slow or away: with a deadline, behind a breaker.

A provider in this process (a key file) is called as it is. For any other, the call runs in a thread of its own, of which
there are few: what hangs there hangs alone, and the request answers in time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from keyproviders.errors import KeyProviderError, ProviderUnavailableError
from keyproviders.health import Health, HealthStatus, status_of
from keyproviders.interface import (
    Capabilities,
    DataKey,
    ItemResult,
    KeyInfo,
    KeyProvider,
    SecretBytes,
    UnwrapItem,
    WrapItem,
    WrappedKey,
)
from vault.core.breaker import Breaker, BreakerState

T = TypeVar("T")

CALL_DEADLINE_SECONDS = 1.5
"""How long a call of a remote provider may take; a request that needs one answers within 2 seconds."""
CALLS_AT_ONCE = 4
"""Calls of one provider that one process has on their way. More would only wait in line at the provider."""
_SECONDS_FOR_EACH_TRIP = 0.02
"""How much longer a call may take for each round trip beyond the first, where a provider takes items one by one."""


_TRY_LATER = frozenset({HealthStatus.DOWN, HealthStatus.SEALED, HealthStatus.THROTTLED})


class _UnhealthyError(ProviderUnavailableError):
    def __init__(self, health: Health, *, provider: str) -> None:
        super().__init__(health.detail, provider=provider)
        self.health = health


class GuardedProvider:
    """A key provider as core calls it; itself a :class:`~keyproviders.interface.KeyProvider`.

    Args:
        provider: the real one.
        changed: told when the breaker changes its state: the provider's name and the state.
        waiting: entered while a call is waited for, so that a request can let others go on.
        deadline_seconds: for each call.
    """

    def __init__(
        self,
        provider: KeyProvider,
        *,
        changed: Callable[[str, BreakerState], None] = lambda _name, _state: None,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
        deadline_seconds: float = CALL_DEADLINE_SECONDS,
    ) -> None:
        self._provider = provider
        self._waiting = waiting
        self._deadline_seconds = deadline_seconds
        self._breaker = Breaker(lambda state: changed(provider.name, state))
        self._slots = threading.BoundedSemaphore(CALLS_AT_ONCE)
        self._last_error: ProviderUnavailableError | None = None

    @property
    def name(self) -> str:
        """The configured name."""
        return self._provider.name

    @property
    def is_remote(self) -> bool:
        """Whether calls leave this process's memory, so that they can be slow or fail for a while."""
        return self._provider.capabilities().is_remote

    @property
    def breaker(self) -> BreakerState:
        """What the breaker does with calls now."""
        return self._breaker.state

    def capabilities(self) -> Capabilities:
        """See :class:`~keyproviders.interface.KeyProvider`."""
        return self._provider.capabilities()

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        """See :class:`~keyproviders.interface.KeyProvider`."""
        return self._call(lambda: self._provider.generate(key, version, contexts), len(contexts))

    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        """See :class:`~keyproviders.interface.KeyProvider`."""
        return self._call(lambda: self._provider.wrap(key, version, items), len(items))

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        """See :class:`~keyproviders.interface.KeyProvider`."""
        return self._call(lambda: self._provider.unwrap(items), len(items))

    def rewrap(self, items: Sequence[UnwrapItem], to_version: int) -> list[ItemResult[WrappedKey]]:
        """See :class:`~keyproviders.interface.KeyProvider`."""
        return self._call(lambda: self._provider.rewrap(items, to_version), len(items))

    def key_info(self, key: str) -> KeyInfo:
        """See :class:`~keyproviders.interface.KeyProvider`."""
        return self._call(lambda: self._provider.key_info(key), 1)

    def health(self, canary: UnwrapItem) -> Health:
        """See :class:`~keyproviders.interface.KeyProvider`; while the breaker is open, what was wrong last."""
        try:
            return self._call(lambda: self._proof(canary), 1)
        except _UnhealthyError as error:
            return error.health
        except KeyProviderError as error:
            last = self._last_error or error
            return last.health if isinstance(last, _UnhealthyError) else Health(status_of(last), str(last))

    def _proof(self, canary: UnwrapItem) -> Health:
        health = self._provider.health(canary)
        # Down, sealed and throttled are failures of a call like any other, which the breaker has to hear of.
        if self.is_remote and health.status in _TRY_LATER:
            raise _UnhealthyError(health, provider=self.name)
        return health

    def close(self) -> None:
        """See :class:`~keyproviders.interface.KeyProvider`."""
        self._provider.close()

    def _call(self, call: Callable[[], T], items: int) -> T:
        if not self.is_remote:
            return call()
        if not self._breaker.may_call():
            raise self._away("is away, and is asked again soon", self._breaker.wait_seconds())
        try:
            result = self._in_time(call, self._deadline_for(items))
        except ProviderUnavailableError as error:
            self._last_error = error
            self._breaker.failed()
            raise
        except KeyProviderError:
            self._breaker.succeeded()  # it answered
            raise
        except BaseException:
            self._breaker.failed()
            raise
        self._breaker.succeeded()
        return result

    def _deadline_for(self, items: int) -> float:
        trips = -(-items // max(1, self._provider.capabilities().max_batch))
        return self._deadline_seconds + (trips - 1) * _SECONDS_FOR_EACH_TRIP

    def _in_time(self, call: Callable[[], T], deadline_seconds: float) -> T:
        ends = time.monotonic() + deadline_seconds
        with self._waiting():
            if not self._slots.acquire(timeout=deadline_seconds):
                raise self._away(f"is busy with {CALLS_AT_ONCE} calls that do not end", 1.0)
            future: Future[T] = Future()
            # A daemon: a call that never ends must not keep the process from ending.
            threading.Thread(
                target=self._carry_out, args=(call, future), name=f"key-call-{self.name}", daemon=True
            ).start()
            try:
                return future.result(timeout=max(0.0, ends - time.monotonic()))
            except FutureTimeoutError:
                raise self._away(f"did not answer within {deadline_seconds:g} seconds", 1.0) from None

    def _carry_out(self, call: Callable[[], T], future: Future[T]) -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001  # it is raised where the call was made
            future.set_exception(error)
        finally:
            self._slots.release()

    def _away(self, what: str, wait_seconds: float) -> ProviderUnavailableError:
        return ProviderUnavailableError(
            f"the provider {what}", provider=self.name, retry_after_seconds=wait_seconds
        )
