"""The run-time door over KEKs in our own memory: what the local file and the in-memory provider share.

Source: RFC 5649 and NIST SP 800-38F section 6.3 (KWP), by the ``cryptography`` library.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from keyproviders.canary import prove_by_canary
from keyproviders.errors import KeyProviderError, ProviderUnavailableError, WrappedKeyRejectedError
from keyproviders.interface import (
    DATA_KEY_BYTES,
    Capabilities,
    DataKey,
    Health,
    HealthStatus,
    ItemResult,
    KeyInfo,
    SecretBytes,
    UnwrapItem,
    WrapItem,
    WrappedKey,
)
from keyproviders.keyset import ALGORITHM, KeySet, SoftwareVersion

__all__ = ["LONGEST_BYTES", "SHORTEST_BYTES", "KeySource", "SoftwareKeyProvider", "unwrap_key", "wrap_key"]

SHORTEST_BYTES = 16
LONGEST_BYTES = 64
"""How long a wrapped key's plaintext may be: what :class:`~keyproviders.interface.WrapItem` promises."""

# KWP pads to 8 bytes and adds 8, so a blob of any other length cannot hold a key of an allowed length.
_BLOB_LENGTHS = range(SHORTEST_BYTES + 8, LONGEST_BYTES + 8 + 1, 8)


def wrap_key(plaintext: SecretBytes, *, kek: SecretBytes) -> bytes:
    """Wrap a key so that only this KEK opens it.

    Args:
        plaintext: 16 to 64 bytes of key material.
        kek: 32 bytes.

    Returns:
        The plaintext's length rounded up to 8, plus 8 bytes.

    Raises:
        ValueError: the plaintext has another length, or a secret was wiped: the caller's mistake.

    Security: KWP is deterministic and has no associated data. It is safe because what is wrapped is a random
        key; that it is in its right place is proven by the seal that the key opens, not here.
    Source: RFC 5649 section 4.1; NIST SP 800-38F section 6.3, algorithm 5.
    """
    if not SHORTEST_BYTES <= len(plaintext) <= LONGEST_BYTES:
        raise ValueError(f"a key to wrap has {SHORTEST_BYTES} to {LONGEST_BYTES} bytes, not {len(plaintext)}")
    return aes_key_wrap_with_padding(kek.reveal(), plaintext.reveal())


def unwrap_key(blob: bytes, *, kek: SecretBytes) -> SecretBytes:
    """Open a wrapped key, whole and unchanged, or not at all.

    Args:
        blob: 24 to 72 bytes, as :func:`wrap_key` returned them.
        kek: 32 bytes.

    Raises:
        InvalidUnwrap: the KEK is another one, the bytes were changed, or no key of 16 to 64 bytes is inside.
        ValueError: the KEK was wiped.

    Source: RFC 5649 section 4.2; NIST SP 800-38F section 6.3, algorithm 6.
    """
    if len(blob) not in _BLOB_LENGTHS:
        raise InvalidUnwrap
    plaintext = SecretBytes(aes_key_unwrap_with_padding(kek.reveal(), blob))
    if not SHORTEST_BYTES <= len(plaintext) <= LONGEST_BYTES:
        raise InvalidUnwrap
    return plaintext


class KeySource(Protocol):
    """Where a :class:`SoftwareKeyProvider` finds its keys at each call. Safe to call from several threads."""

    def current(self) -> KeySet:
        """Return the keys as they are now.

        Raises:
            ProviderUnavailableError: the source was closed.
        """
        ...

    def trouble(self) -> str | None:
        """Say what is wrong with the source although the keys at hand still work; None if nothing is."""
        ...

    def close(self) -> None:
        """Let go of the keys."""
        ...


class SoftwareKeyProvider:
    """A :class:`~keyproviders.interface.KeyProvider` over a :class:`KeySource`, which it can only read.

    Args:
        name: the configured name of the provider.
        source: the keys.

    Security: the KEKs are in this process's memory. Contexts are not bound here (``binds_context`` is false).
    """

    def __init__(self, name: str, source: KeySource) -> None:
        self._name = name
        self._source = source

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    @property
    def name(self) -> str:
        """The configured name (``[providers.NAME]``)."""
        return self._name

    def capabilities(self) -> Capabilities:
        """Say what key wrap in our own process can do: there is nothing to probe."""
        return Capabilities(
            binds_context=False, rewraps_inside=False, generates_inside=False, max_batch=1, is_remote=False
        )

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        """Make one fresh 32-byte data key per context, wrapped under the named version.

        Raises:
            KeyNotFoundError: the key or version is unknown.
            KeyVersionRetiredError: the version is retired.
            ProviderUnavailableError: the provider was closed.
        """
        kek = self._source.current().usable(key, version)
        plaintexts = [SecretBytes(os.urandom(DATA_KEY_BYTES)) for _ in contexts]
        return [DataKey(plaintext, self._wrap(key, kek, plaintext)) for plaintext in plaintexts]

    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        """Wrap keys under the named version; results come in the order of the items.

        Raises:
            KeyNotFoundError: the key or version is unknown.
            KeyVersionRetiredError: the version is retired.
            ProviderUnavailableError: the provider was closed.
            ValueError: a plaintext was wiped or is not 16 to 64 bytes long; nothing was wrapped.
        """
        kek = self._source.current().usable(key, version)
        return [self._wrap(key, kek, item.plaintext) for item in items]

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        """Open wrapped keys, each under the key and version that it names.

        Raises:
            ProviderUnavailableError: the provider was closed.
        """
        keys = self._source.current()
        return [self._unwrap(keys, item.wrapped) for item in items]

    def rewrap(self, items: Sequence[UnwrapItem], to_version: int) -> list[ItemResult[WrappedKey]]:
        """Wrap the same data keys under another version of the key that each item names.

        Raises:
            ProviderUnavailableError: the provider was closed.
        """
        keys = self._source.current()
        return [self._rewrap(keys, item.wrapped, to_version) for item in items]

    def key_info(self, key: str) -> KeyInfo:
        """List the versions of a key.

        Raises:
            KeyNotFoundError: the key is unknown.
            ProviderUnavailableError: the provider was closed.
        """
        return self._source.current().info(key)

    def health(self, canary: UnwrapItem) -> Health:
        """Unwrap the canary; say so if that worked although the source of the keys is in trouble."""
        health = prove_by_canary(self, canary)
        trouble = self._source.trouble()
        if health.status is HealthStatus.OK and trouble is not None:
            return replace(health, detail=f"{health.detail}, with the keys read earlier: {trouble}")
        return health

    def close(self) -> None:
        """Let go of the keys. A later call raises ProviderUnavailableError."""
        self._source.close()

    def _wrap(self, key: str, kek: SoftwareVersion, plaintext: SecretBytes) -> WrappedKey:
        try:
            blob = wrap_key(plaintext, kek=kek.material)
        except ValueError:
            self._refuse_if_closed(kek)
            raise
        return WrappedKey(key=key, version=kek.version, algorithm=ALGORITHM, blob=blob)

    def _unwrap(self, keys: KeySet, wrapped: WrappedKey) -> ItemResult[SecretBytes]:
        try:
            kek = keys.usable(wrapped.key, wrapped.version)
        except KeyProviderError as error:
            return error.with_traceback(None)
        if wrapped.algorithm != ALGORITHM:
            return self._rejected(wrapped, f"it says another algorithm than {ALGORITHM}")
        try:
            return unwrap_key(wrapped.blob, kek=kek.material)
        except InvalidUnwrap:
            # Returned, not raised: an error that is kept must not hold the frames that hold key material.
            return self._rejected(wrapped, "it was changed, or wrapped by another key")
        except ValueError:
            self._refuse_if_closed(kek)
            raise

    def _rewrap(self, keys: KeySet, wrapped: WrappedKey, to_version: int) -> ItemResult[WrappedKey]:
        try:
            target = keys.usable(wrapped.key, to_version)
        except KeyProviderError as error:
            return error.with_traceback(None)
        plaintext = self._unwrap(keys, wrapped)
        if isinstance(plaintext, KeyProviderError):
            return plaintext
        try:
            return self._wrap(wrapped.key, target, plaintext)
        finally:
            plaintext.wipe()

    def _rejected(self, wrapped: WrappedKey, reason: str) -> WrappedKeyRejectedError:
        return WrappedKeyRejectedError(
            f"a key wrapped by version {wrapped.version} of {wrapped.key!r} does not open: {reason}",
            provider=self._name,
        )

    def _refuse_if_closed(self, kek: SoftwareVersion) -> None:
        if not len(kek.material):
            raise ProviderUnavailableError(
                "the provider was closed during the call", provider=self._name
            ) from None
