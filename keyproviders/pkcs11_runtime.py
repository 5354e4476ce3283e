"""The run-time door of a PKCS#11 token: wraps and unwraps under KEKs that stay inside."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from pkcs11.exceptions import PKCS11Error
from pkcs11.types import Session

from keyproviders.canary import prove_by_canary
from keyproviders.errors import KeyProviderError, ProviderUnavailableError, WrappedKeyRejectedError
from keyproviders.interface import (
    DATA_KEY_BYTES,
    Capabilities,
    DataKey,
    Health,
    ItemResult,
    KeyInfo,
    SecretBytes,
    UnwrapItem,
    WrapItem,
    WrappedKey,
)
from keyproviders.pkcs11_capability import does_gcm
from keyproviders.pkcs11_errors import DATA_ERRORS
from keyproviders.pkcs11_keys import TokenKeys
from keyproviders.pkcs11_mechanisms import Kek, KwpKek
from keyproviders.pkcs11_options import A256GCM, A256KWP, Pkcs11Options
from keyproviders.pkcs11_token import join_token
from keyproviders.software import LONGEST_BYTES, SHORTEST_BYTES

__all__ = ["Pkcs11KeyProvider"]

T = TypeVar("T")
R = TypeVar("R")

# How many items are done before other threads get their turn: a long list must not keep a single read waiting.
_TURN_ITEMS = 32


class Pkcs11KeyProvider:
    """A :class:`~keyproviders.interface.KeyProvider` over one token.

    Args:
        options: the table of the configuration.

    Security: KEKs never leave the token. Data keys pass through this process, but for the rewrap of A256KWP.
    """

    def __init__(self, options: Pkcs11Options) -> None:
        self._options = options
        self._token = join_token(options)
        self._keys: tuple[int, TokenKeys] | None = None
        self._abilities: tuple[set[str], bool] | None = None
        self._was_asked = False
        self._is_closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.provider!r}, {self._options.token_name})"

    @property
    def name(self) -> str:
        """The configured name (``[providers.NAME]``)."""
        return self._options.provider

    def capabilities(self) -> Capabilities:
        """Say what holds for every KEK seen so far; in a token without any, what a key of one session could do.

        Asks the token at the first call only, and never raises: while it is away, the answer promises nothing.
        """
        if self._abilities is None and not self._was_asked:
            self._was_asked = True
            with contextlib.suppress(KeyProviderError):
                self._run(lambda _session, _keys: None)
        algorithms, can_gcm = self._abilities or (set(), False)
        # Two algorithms side by side: neither promise holds for all keys, so neither is made.
        return Capabilities(
            binds_context=A256KWP not in algorithms and (A256GCM in algorithms or can_gcm),
            rewraps_inside=algorithms == {A256KWP},
            generates_inside=self._options.generate_inside,
            max_batch=1,
            # Even a card in this machine can be slow, hang or be taken out, and nothing here tells it from a network.
            is_remote=True,
        )

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        """Make one fresh 32-byte data key per context, wrapped under the named version.

        Raises:
            KeyProviderError: the version is unknown, retired or refused, or the token could not be asked.
        """

        def make(session: Session, kek: Kek, context: bytes) -> ItemResult[DataKey]:
            plaintext = self._random_key(session)
            return DataKey(plaintext, _wrapped(key, version, kek, kek.wrap(plaintext, context)))

        return self._under(key, version, contexts, make)

    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        """Wrap keys under the named version; results come in the order of the items.

        Raises:
            KeyProviderError: the version is unknown, retired or refused, or the token could not be asked.
            ValueError: a plaintext was wiped or is not 16 to 64 bytes long; nothing was wrapped.
        """
        for item in items:
            if not SHORTEST_BYTES <= len(item.plaintext) <= LONGEST_BYTES:
                raise ValueError(
                    f"a key to wrap has {SHORTEST_BYTES} to {LONGEST_BYTES} bytes, not {len(item.plaintext)}"
                )

        def wrap(_: Session, kek: Kek, item: WrapItem) -> ItemResult[WrappedKey]:
            return _wrapped(key, version, kek, kek.wrap(item.plaintext, item.context))

        return self._under(key, version, items, wrap)

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        """Open wrapped keys, each under the key and version that it names.

        Raises:
            KeyProviderError: the token could not be asked.
        """

        def unwrap(keys: TokenKeys, item: UnwrapItem) -> ItemResult[SecretBytes]:
            kek = self._opener(keys, item.wrapped)
            if isinstance(kek, KeyProviderError):
                return kek
            return self._attempt(kek, item.wrapped, lambda: kek.unwrap(item.wrapped.blob, item.context))

        return self._each(items, lambda _, keys, part: [unwrap(keys, item) for item in part])

    def rewrap(self, items: Sequence[UnwrapItem], to_version: int) -> list[ItemResult[WrappedKey]]:
        """Wrap the same data keys under another version of the key that each item names.

        Raises:
            KeyProviderError: the token could not be asked.
        """
        return self._each(
            items, lambda _, keys, part: [self._rewrap(keys, item, to_version) for item in part]
        )

    def key_info(self, key: str) -> KeyInfo:
        """List the versions of a key, read from the token and checked.

        Raises:
            KeyNotFoundError: the token does not have the key.
            ProviderMisconfiguredError: one of its versions is ambiguous, or not what a KEK must be.
        """
        found = self._run(lambda _, keys: keys.info(key))
        if isinstance(found, KeyProviderError):
            raise found
        return found

    def health(self, canary: UnwrapItem) -> Health:
        """Unwrap the canary."""
        return prove_by_canary(self, canary)

    def close(self) -> None:
        """Let go of the token; the last door of the process logs out. A later call raises ProviderUnavailableError."""
        if not self._is_closed:
            self._is_closed = True
            self._keys = None
            self._token.leave()

    def _rewrap(self, keys: TokenKeys, item: UnwrapItem, to_version: int) -> ItemResult[WrappedKey]:
        wrapped = item.wrapped
        target = self._kek(keys, wrapped.key, to_version)
        if isinstance(target, KeyProviderError):
            return target
        source = self._opener(keys, wrapped)
        if isinstance(source, KeyProviderError):
            return source
        if isinstance(source, KwpKek) and isinstance(target, KwpKek):
            passing = self._attempt(source, wrapped, lambda: source.open_inside(wrapped.blob))
            if isinstance(passing, KeyProviderError):
                return passing
            return _wrapped(wrapped.key, to_version, target, target.close_inside(passing))
        return self._rewrap_outside(source, target, item, to_version)

    def _rewrap_outside(
        self, source: Kek, target: Kek, item: UnwrapItem, to_version: int
    ) -> ItemResult[WrappedKey]:
        wrapped = item.wrapped
        plaintext = self._attempt(source, wrapped, lambda: source.unwrap(wrapped.blob, item.context))
        if isinstance(plaintext, KeyProviderError):
            return plaintext
        try:
            return _wrapped(wrapped.key, to_version, target, target.wrap(plaintext, item.context))
        finally:
            plaintext.wipe()

    def _kek(self, keys: TokenKeys, key: str, version: int) -> ItemResult[Kek]:
        kek = keys.usable(key, version)
        if self._abilities is not None and not isinstance(kek, KeyProviderError):
            self._abilities[0].add(kek.algorithm)
        return kek

    def _opener(self, keys: TokenKeys, wrapped: WrappedKey) -> ItemResult[Kek]:
        kek = self._kek(keys, wrapped.key, wrapped.version)
        if isinstance(kek, KeyProviderError):
            return kek
        if wrapped.algorithm != kek.algorithm:
            return self._rejected(wrapped, f"it says another algorithm than {kek.algorithm}")
        if not kek.could_be(wrapped.blob):
            return self._rejected(wrapped, f"its length of {len(wrapped.blob)} bytes is not possible")
        return kek

    def _attempt(self, kek: Kek, wrapped: WrappedKey, unwrap: Callable[[], T]) -> ItemResult[T]:
        """Unwrap; if that fails, let the canary tell bad bytes from a token in trouble."""
        try:
            return unwrap()
        except DATA_ERRORS:
            pass  # left before an error is made: it must not hold these frames
        kek.prove()
        # Once more, because a token that was sick for a moment must not raise an alarm.
        try:
            return unwrap()
        except DATA_ERRORS:
            return self._rejected(wrapped, "it was changed, or wrapped by another key or in another context")

    def _rejected(self, wrapped: WrappedKey, reason: str) -> WrappedKeyRejectedError:
        return WrappedKeyRejectedError(
            f"a key wrapped by version {wrapped.version} of {wrapped.key!r} does not open: {reason}",
            provider=self.name,
        )

    def _random_key(self, session: Session) -> SecretBytes:
        if self._options.generate_inside:
            material = SecretBytes(session.generate_random(DATA_KEY_BYTES * 8))
            if len(material) != DATA_KEY_BYTES:
                raise PKCS11Error("the token's generator gave too few bytes")
            return material
        return SecretBytes(os.urandom(DATA_KEY_BYTES))

    def _under(
        self,
        key: str,
        version: int,
        items: Sequence[T],
        work: Callable[[Session, Kek, T], ItemResult[R]],
    ) -> list[ItemResult[R]]:
        def under(
            session: Session, keys: TokenKeys, part: Sequence[T]
        ) -> list[ItemResult[R]] | KeyProviderError:
            kek = self._kek(keys, key, version)
            if isinstance(kek, KeyProviderError):
                return kek
            return [work(session, kek, item) for item in part]

        return self._each(items, under)

    def _each(
        self,
        items: Sequence[T],
        work: Callable[[Session, TokenKeys, Sequence[T]], list[ItemResult[R]] | KeyProviderError],
    ) -> list[ItemResult[R]]:
        results: list[ItemResult[R]] = []
        # An empty list takes a turn, too: a version that is not usable is refused without any item.
        for start in range(0, max(len(items), 1), _TURN_ITEMS):
            part = items[start : start + _TURN_ITEMS]
            done = self._run(functools.partial(_on_part, work, part))
            if isinstance(done, KeyProviderError):
                raise done
            results += done
        return results

    def _run(self, work: Callable[[Session, TokenKeys], T]) -> T:
        def on_current_keys(session: Session) -> T:
            self._refuse_if_closed()
            if self._keys is None or self._keys[0] != self._token.epoch:
                keys = TokenKeys(session, provider=self.name, prove_login=self._token.prove_login)
                self._keys = self._token.epoch, keys
                if self._abilities is None:
                    self._abilities = keys.algorithms(), does_gcm(session)
            return work(session, self._keys[1])

        self._refuse_if_closed()
        return self._token.run(on_current_keys)

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise ProviderUnavailableError("the provider was closed", provider=self.name)


def _on_part(
    work: Callable[[Session, TokenKeys, Sequence[T]], R], part: Sequence[T], session: Session, keys: TokenKeys
) -> R:
    return work(session, keys, part)


def _wrapped(key: str, version: int, kek: Kek, blob: bytes) -> WrappedKey:
    return WrappedKey(key=key, version=version, algorithm=kek.algorithm, blob=blob)
