"""How a key provider is: a word for whoever watches, a sentence for whoever mends."""

from __future__ import annotations

import enum
from dataclasses import dataclass

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

__all__ = ["Health", "HealthStatus", "status_of"]


class HealthStatus(enum.StrEnum):
    """Why a provider can or cannot work at this moment."""

    OK = "ok"
    DOWN = "down"
    SEALED = "sealed"
    THROTTLED = "throttled"
    AUTH = "auth"
    DENIED = "denied"
    KEY_MISSING = "key-missing"
    CANARY_REJECTED = "canary-rejected"


@dataclass(frozen=True, slots=True)
class Health:
    """The outcome of one proof of life.

    Attributes:
        status: ``OK`` only if the canary really was unwrapped.
        detail: one sentence for the operator, without secrets.
    """

    status: HealthStatus
    detail: str


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


def status_of(error: KeyProviderError) -> HealthStatus:
    """Say which state of health an error stands for. A retired canary counts as a missing key."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), HealthStatus.DOWN)
