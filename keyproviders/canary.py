"""Proof of life: a provider is healthy if it just unwrapped a key that is known to be good."""

from __future__ import annotations

from typing import Protocol

from keyproviders.errors import KeyProviderError
from keyproviders.health import Health, HealthStatus, status_of
from keyproviders.interface import ItemResult, SecretBytes, UnwrapItem

__all__ = ["prove_by_canary"]


class _Unwraps(Protocol):
    def unwrap(self, items: list[UnwrapItem]) -> list[ItemResult[SecretBytes]]: ...


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
