"""A key provider that counts and times its calls, and otherwise is the one that it stands before."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderDeniedError,
    ProviderMisconfiguredError,
    ProviderThrottledError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import (
    Capabilities,
    DataKey,
    Health,
    ItemResult,
    KeyInfo,
    KeyProvider,
    SecretBytes,
    UnwrapItem,
    WrapItem,
    WrappedKey,
)
from vault.telemetry.metrics import Metrics

T = TypeVar("T")

# The first class that fits decides, so what is more special stands first.
OUTCOME_OF: tuple[tuple[type[Exception], str], ...] = (
    (ProviderThrottledError, "throttled"),
    (ProviderUnavailableError, "unavailable"),
    (ProviderDeniedError, "denied"),
    (KeyNotFoundError, "key-not-found"),
    (KeyVersionRetiredError, "version-retired"),
    (WrappedKeyRejectedError, "rejected"),
    (ProviderMisconfiguredError, "misconfigured"),
    (KeyProviderError, "failed"),
    (Exception, "crashed"),
)


def metered(providers: Mapping[str, KeyProvider], metrics: Metrics) -> dict[str, KeyProvider]:
    """The same providers, each behind a meter."""
    return {name: MeteredProvider(provider, metrics) for name, provider in providers.items()}


def outcome_of(error: Exception) -> str:
    """The word for an error, as ``strongroom_provider_calls_total`` has it."""
    return next(word for kind, word in OUTCOME_OF if isinstance(error, kind))


class MeteredProvider:
    """Counts and times every call of a provider.

    A list call counts once: as ``ok`` if every item is, else as the first failure among them.

    Args:
        provider: the real one.
        metrics: where it is counted.
    """

    def __init__(self, provider: KeyProvider, metrics: Metrics) -> None:
        self._provider = provider
        self._metrics = metrics

    @property
    def name(self) -> str:
        """The configured name."""
        return self._provider.name

    def capabilities(self) -> Capabilities:
        """What the backend can do; nothing is called."""
        return self._provider.capabilities()

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        """Make data keys; see :class:`KeyProvider`."""
        return self._items("generate", lambda: self._provider.generate(key, version, contexts))

    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        """Wrap keys; see :class:`KeyProvider`."""
        return self._items("wrap", lambda: self._provider.wrap(key, version, items))

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        """Open wrapped keys; see :class:`KeyProvider`."""
        return self._items("unwrap", lambda: self._provider.unwrap(items))

    def rewrap(self, items: Sequence[UnwrapItem], to_version: int) -> list[ItemResult[WrappedKey]]:
        """Wrap under another version; see :class:`KeyProvider`."""
        return self._items("rewrap", lambda: self._provider.rewrap(items, to_version))

    def key_info(self, key: str) -> KeyInfo:
        """List the versions of a key; see :class:`KeyProvider`."""
        return self._measured("key_info", lambda: self._provider.key_info(key), lambda _: "ok")

    def health(self, canary: UnwrapItem) -> Health:
        """Prove itself; see :class:`KeyProvider`."""
        return self._measured("health", lambda: self._provider.health(canary), lambda proof: proof.status)

    def close(self) -> None:
        """Let go of everything."""
        self._provider.close()

    def _items(self, operation: str, call: Callable[[], list[ItemResult[T]]]) -> list[ItemResult[T]]:
        return self._measured(operation, call, _outcome_of_items)

    def _measured(self, operation: str, call: Callable[[], T], outcome_for: Callable[[T], str]) -> T:
        outcome = "crashed"
        started = time.perf_counter()
        try:
            result = call()
            outcome = outcome_for(result)
        except Exception as error:
            outcome = outcome_of(error)
            raise
        finally:
            seconds = time.perf_counter() - started
            self._metrics.provider_call(self._provider.name, operation, outcome, seconds)
        return result


def _outcome_of_items(items: Sequence[ItemResult[T]]) -> str:
    return next((outcome_of(item) for item in items if isinstance(item, KeyProviderError)), "ok")
