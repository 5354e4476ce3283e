"""What a key provider can answer other than success: *try later* or *stop*.

A vendor's exception never crosses the door. It is translated where the vendor is called::

    KeyProviderError                    the caller's move
    |- ProviderUnavailableError         try later
    |  |- ProviderSealedError           try later: somebody has to unseal it
    |  `- ProviderThrottledError        try later, slower
    |- ProviderDeniedError              page the operator
    |  `- ProviderCredentialError       page the operator: PIN, token or secret id
    |- KeyNotFoundError                 page the operator
    |- KeyVersionRetiredError           stop
    |- WrappedKeyRejectedError          stop, alarm
    `- ProviderMisconfiguredError       refuse to start
"""

from __future__ import annotations


class KeyProviderError(Exception):
    """The root: a key provider did not do what it was asked.

    Args:
        message: one sentence for the operator. Never a key, PIN, token or plaintext.
        provider: the configured name of the provider (``[providers.NAME]``).
    """

    try_later = False

    def __init__(self, message: str, *, provider: str) -> None:
        super().__init__(message)
        self.provider = provider


class ProviderUnavailableError(KeyProviderError):
    """Down, sealed, unreachable or too slow. The same call may succeed later.

    Args:
        message: one sentence for the operator.
        provider: the configured name of the provider.
        retry_after_seconds: how long to wait, when the provider said so.
    """

    try_later = True

    def __init__(self, message: str, *, provider: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message, provider=provider)
        self.retry_after_seconds = retry_after_seconds


class ProviderSealedError(ProviderUnavailableError):
    """The provider answers and is sealed, locked or not initialised. It works again once an operator opens it."""


class ProviderThrottledError(ProviderUnavailableError):
    """The provider refused because of a rate limit. Try later, and slower."""


class ProviderDeniedError(KeyProviderError):
    """Our credentials were refused, or do not allow this call. Waiting does not help: page the operator."""


class ProviderCredentialError(ProviderDeniedError):
    """What we showed to log in is not accepted: wrong PIN, revoked or expired secret. Never tried in a loop."""


class KeyNotFoundError(KeyProviderError):
    """The provider works and does not know this key or version. Page the operator; never create one."""


class KeyVersionRetiredError(KeyProviderError):
    """The provider knows this version and refuses to use it any more."""


class WrappedKeyRejectedError(KeyProviderError):
    """The wrapped key does not open: wrong key, wrong context or tampered bytes. Never retried; an alarm."""


class ProviderMisconfiguredError(KeyProviderError):
    """The settings, files or permissions of the provider are wrong. The server refuses to start."""
