"""Unwrapping data keys: from the cache, from somebody who is fetching them already, or from the provider."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from keyproviders.errors import KeyProviderError, ProviderUnavailableError
from keyproviders.interface import ItemResult, KeyProvider, SecretBytes, UnwrapItem
from vault.core.data_key_cache import CacheBounds, CachedKey, DataKeyCache

_LONGEST_WAIT_SECONDS = 5.0
"""How long to wait for what another thread fetches; its own deadline is shorter, so this never decides."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One data key to unwrap: what it is cached under, and what the provider is asked."""

    cached_as: CachedKey
    item: UnwrapItem


class DataKeys:
    """Data keys of remote providers, each fetched once however many ask for it. Safe to use from several threads.

    Providers in this process are asked every time: a cache would only add exposure.

    Args:
        bounds: of the cache.
        waiting: entered while another thread is waited for.
        asked: told ``hit`` or ``miss`` for each data key of a remote provider.
    """

    def __init__(
        self,
        bounds: CacheBounds,
        *,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
        asked: Callable[[str], None] = lambda _outcome: None,
    ) -> None:
        self.cache = DataKeyCache(bounds)
        self._waiting = waiting
        self._asked = asked
        self._lock = threading.Lock()
        self._fetching: dict[CachedKey, Future[bytes]] = {}

    def unwrap(self, provider: KeyProvider, wanted: Sequence[Wanted]) -> list[ItemResult[SecretBytes]]:
        """Unwrap data keys of one provider.

        Returns:
            For each its key, the caller's to wipe, or why it does not open.
        """
        if not provider.capabilities().is_remote:
            return _asked(provider, [each.item for each in wanted])
        found: dict[CachedKey, ItemResult[SecretBytes]] = {}
        mine: dict[CachedKey, UnwrapItem] = {}
        others: dict[CachedKey, Future[bytes]] = {}
        for each in wanted:
            if each.cached_as not in found and each.cached_as not in mine and each.cached_as not in others:
                self._look(each, found, mine, others)
        if mine:
            found |= self._fetch(provider, mine)
        for key, future in others.items():
            found[key] = self._wait_for(provider.name, future)
        return [_copy(found[each.cached_as]) for each in wanted]

    def _look(
        self,
        wanted: Wanted,
        found: dict[CachedKey, ItemResult[SecretBytes]],
        mine: dict[CachedKey, UnwrapItem],
        others: dict[CachedKey, Future[bytes]],
    ) -> None:
        key = wanted.cached_as
        with self._lock:
            cached = self.cache.get(key)
            if cached is not None:
                found[key] = cached
            elif key in self._fetching:
                others[key] = self._fetching[key]
            else:
                self._fetching[key] = Future()
                mine[key] = wanted.item
        self._asked("miss" if key in mine else "hit")

    def _fetch(
        self, provider: KeyProvider, mine: Mapping[CachedKey, UnwrapItem]
    ) -> dict[CachedKey, ItemResult[SecretBytes]]:
        results: list[ItemResult[SecretBytes]] = [
            ProviderUnavailableError("the call ended early", provider=provider.name)
        ] * len(mine)
        try:
            results = _asked(provider, list(mine.values()))
        finally:
            # Whoever waits is told in any case.
            for key, result in zip(mine, results, strict=True):
                self._tell(key, result)
        return dict(zip(mine, results, strict=True))

    def _tell(self, key: CachedKey, result: ItemResult[SecretBytes]) -> None:
        with self._lock:
            future = self._fetching.pop(key)
            if isinstance(result, KeyProviderError):
                future.set_exception(result)
                return
            self.cache.put(key, result)
            future.set_result(result.reveal())

    def _wait_for(self, provider: str, future: Future[bytes]) -> ItemResult[SecretBytes]:
        try:
            with self._waiting():
                return SecretBytes(future.result(timeout=_LONGEST_WAIT_SECONDS))
        except KeyProviderError as error:
            return error
        except FutureTimeoutError:
            return ProviderUnavailableError("the provider did not answer in time", provider=provider)


def _asked(provider: KeyProvider, items: list[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
    try:
        return provider.unwrap(items)
    except KeyProviderError as error:
        return [error] * len(items)


def _copy(result: ItemResult[SecretBytes]) -> ItemResult[SecretBytes]:
    # Each caller wipes its own; two rows of one list can have the same data key only by tampering.
    return result if isinstance(result, KeyProviderError) else SecretBytes(result.reveal())
