"""Proof of life: a provider is healthy if it just unwrapped a key that is known to be good."""

from __future__ import annotations

from typing import Protocol

from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderCredentialError,
    ProviderDeniedError,
    ProviderSealedError,
    ProviderThrottledError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import Health, HealthStatus, ItemResult, SecretBytes, UnwrapItem

__all__ = ["prove_by_canary", "status_of"]

# The first row that matches decides, so a subclass stands above its parent. What is not listed is DOWN.
_STATUS: tuple[tuple[type[KeyProviderError], HealthStatus], ...] = (
    (ProviderThrottledError, HealthStatus.THROTTLED),
    (ProviderSealedError, HealthStatus.SEALED),
    (ProviderCredentialError, HealthStatus.AUTH),
    (ProviderDeniedError, HealthStatus.DENIED),
    (KeyNotFoundError, HealthStatus.KEY_MISSING),
    (KeyVersionRetiredError, HealthStatus.KEY_MISSING),
    (WrappedKeyRejectedError, HealthStatus.CANARY_REJECTED),
)


class _Unwraps(Protocol):
    def unwrap(self, items: list[UnwrapItem]) -> list[ItemResult[SecretBytes]]: ...


def status_of(error: KeyProviderError) -> HealthStatus:
    """Say which state of health an error stands for. A retired canary counts as a missing key."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), HealthStatus.DOWN)


def prove_by_canary(provider: _Unwraps, canary: UnwrapItem) -> Health:
    """Unwrap the canary through the provider's own door and report what came of it.

    Args:
        provider: anything with the ``unwrap`` of :class:`~keyproviders.interface.KeyProvider`.
        canary: a wrapped key that the caller knows to be good.

    Returns:
        ``OK`` only if the canary opened; no :class:`~keyproviders.errors.KeyProviderError` gets out.
    """
    try:
        (result,) = provider.unwrap([canary])
    except KeyProviderError as error:
        return Health(status_of(error), str(error))
    if isinstance(result, KeyProviderError):
        return Health(status_of(result), str(result))
    result.wipe()
    return Health(HealthStatus.OK, "the canary was unwrapped")
