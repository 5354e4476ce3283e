"""Type ``transit``: KEKs in the transit engine of OpenBao or HashiCorp Vault, which they never leave.

Set-up, privileges and failures: docs/providers/transit.md.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from keyproviders.canary import prove_by_canary
from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderDeniedError,
)
from keyproviders.interface import (
    DATA_KEY_BYTES,
    Capabilities,
    DataKey,
    Health,
    ItemResult,
    KeyInfo,
    ProviderSettings,
    SecretBytes,
    UnwrapItem,
    WrapItem,
    WrappedKey,
)
from keyproviders.keyset import KEY_NAME
from keyproviders.software import LONGEST_BYTES, SHORTEST_BYTES
from keyproviders.transit_administration import TransitAdministration
from keyproviders.transit_batch import ItemAnswer, TransitBatches
from keyproviders.transit_errors import bare, without_frames
from keyproviders.transit_form import (
    ciphertext_of,
    plaintext_length,
    read_plaintext,
    read_wrapped,
    to_base64,
    why_not_of_this_form,
)
from keyproviders.transit_keys import Explanations, TransitKeys
from keyproviders.transit_options import read_administration_options, read_options
from keyproviders.transit_session import TransitSession

__all__ = ["TransitKeyProvider", "TransitProviderType"]

R = TypeVar("R")


class TransitProviderType:
    """Opens both doors of a transit engine. Nothing is asked over the network before the first call."""

    def open(self, settings: ProviderSettings) -> TransitKeyProvider:
        """Open the run-time door.

        Raises:
            ProviderMisconfiguredError: an option is wrong, or a file that it names is missing or open to others.
        """
        return TransitKeyProvider(TransitSession(read_options(settings)))

    def open_administration(self, settings: ProviderSettings) -> TransitAdministration:
        """Open the administration door, which logs in by ``[providers.NAME.admin]`` and by nothing else.

        Raises:
            ProviderMisconfiguredError: an option is wrong, or a file that it names is missing or open to others.
        """
        return TransitAdministration(TransitSession(read_administration_options(settings)))


class TransitKeyProvider:
    """A :class:`~keyproviders.interface.KeyProvider` over the transit engine.

    Args:
        session: how to ask the server.

    Security: contexts are not bound here (``rewrap`` of the engine cannot carry associated data); the vault binds
        them in its own layer. Data keys pass through JSON on the way, so copies of them stay in memory for a while.
    """

    def __init__(self, session: TransitSession) -> None:
        self._session = session
        self._name = session.options.provider
        self._mount = session.options.mount
        self._keys = TransitKeys(session)
        self._batches = TransitBatches(session)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    @property
    def name(self) -> str:
        """The configured name (``[providers.NAME]``)."""
        return self._name

    def capabilities(self) -> Capabilities:
        """Say what the engine can do. How many items a request carries is learnt by sending them."""
        return Capabilities(
            binds_context=False,
            rewraps_inside=True,
            generates_inside=False,
            max_batch=self._batches.most,
            is_remote=True,
        )

    @without_frames
    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        """Make one fresh 32-byte data key per context, wrapped under the named version.

        The keys come from this machine's generator: the engine's ``datakey`` makes one in a request, and 249 keys
        would take 249 requests instead of one. They would be in this process either way.

        Raises:
            KeyNotFoundError: the key or version is unknown or destroyed.
            KeyVersionRetiredError: the version is retired.
            KeyProviderError: the server cannot or does not let us.
        """
        self._keys.require(key, version, asks=not contexts)
        plaintexts = [SecretBytes(os.urandom(DATA_KEY_BYTES)) for _ in contexts]
        wrapped = self._encrypted(key, version, plaintexts)
        return [
            each if isinstance(each, KeyProviderError) else DataKey(plaintext, each)
            for plaintext, each in zip(plaintexts, wrapped, strict=True)
        ]

    @without_frames
    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        """Wrap keys under the named version; results come in the order of the items.

        Raises:
            KeyNotFoundError: the key or version is unknown or destroyed.
            KeyVersionRetiredError: the version is retired.
            ValueError: a plaintext was wiped or is not 16 to 64 bytes long; nothing was wrapped.
            KeyProviderError: the server cannot or does not let us.
        """
        self._session.refuse_if_closed()
        for item in items:
            if not SHORTEST_BYTES <= len(item.plaintext) <= LONGEST_BYTES:
                raise ValueError(
                    f"a key to wrap has {SHORTEST_BYTES} to {LONGEST_BYTES} bytes, not {len(item.plaintext)}"
                )
        self._keys.require(key, version, asks=not items)
        return self._encrypted(key, version, [item.plaintext for item in items])

    @without_frames
    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        """Open wrapped keys, each under the key and version that it names.

        Raises:
            KeyProviderError: the server cannot or does not let us.
        """
        return self._by_key(items, self._decrypted)

    @without_frames
    def rewrap(self, items: Sequence[UnwrapItem], to_version: int) -> list[ItemResult[WrappedKey]]:
        """Wrap the same data keys under another version, inside the engine: they do not come here.

        Raises:
            KeyProviderError: the server cannot or does not let us.
        """
        return self._by_key(items, functools.partial(self._rewrapped, to_version=to_version))

    @without_frames
    def key_info(self, key: str) -> KeyInfo:
        """List the versions of a key.

        Raises:
            KeyNotFoundError: the key is unknown.
            KeyProviderError: the server cannot or does not let us.
        """
        return self._keys.read(key).info()

    def health(self, canary: UnwrapItem) -> Health:
        """Unwrap the canary. Never raises."""
        return prove_by_canary(self, canary)

    def close(self) -> None:
        """End the token, if we logged in for it, and the connections."""
        self._session.close()

    def _encrypted(
        self, key: str, version: int, plaintexts: Sequence[SecretBytes]
    ) -> list[ItemResult[WrappedKey]]:
        if not plaintexts:
            return []
        try:
            answers = self._batches.run(
                f"{self._mount}/encrypt/{key}",
                plaintexts,
                lambda each: {"plaintext": to_base64(each.reveal()), "key_version": version},
            )
        except ProviderDeniedError:
            # A role that cannot create keys is "denied" encryption under a key that was deleted meanwhile.
            self._keys.read(key)
            raise
        explain = Explanations(self._keys, key)
        made: list[ItemResult[WrappedKey]] = []
        for plaintext, answer in zip(plaintexts, answers, strict=True):
            if answer.complaint is None:
                made.append(self._wrapped(key, version, answer, len(plaintext)))
                continue
            error = explain(answer.complaint, wraps=version)
            if isinstance(error, KeyNotFoundError | KeyVersionRetiredError):
                raise error
            made.append(error)
        return made

    def _decrypted(self, key: str, wrapped: Sequence[WrappedKey]) -> list[ItemResult[SecretBytes]]:
        answers = self._batches.run(
            f"{self._mount}/decrypt/{key}", wrapped, lambda each: {"ciphertext": ciphertext_of(each)}
        )
        explain = Explanations(self._keys, key)
        return [
            read_plaintext(answer.result, length=plaintext_length(each), provider=self._name)
            if answer.complaint is None
            else explain(answer.complaint, unwraps=each.version)
            for each, answer in zip(wrapped, answers, strict=True)
        ]

    def _rewrapped(
        self, key: str, wrapped: Sequence[WrappedKey], *, to_version: int
    ) -> list[ItemResult[WrappedKey]]:
        try:
            self._keys.require(key, to_version)
        except (KeyNotFoundError, KeyVersionRetiredError) as error:
            return [bare(error)] * len(wrapped)
        answers = self._batches.run(
            f"{self._mount}/rewrap/{key}",
            wrapped,
            lambda each: {"ciphertext": ciphertext_of(each), "key_version": to_version},
        )
        explain = Explanations(self._keys, key)
        return [
            self._wrapped(key, to_version, answer, plaintext_length(each))
            if answer.complaint is None
            else explain(answer.complaint, wraps=to_version, unwraps=each.version)
            for each, answer in zip(wrapped, answers, strict=True)
        ]

    def _by_key(
        self,
        items: Sequence[UnwrapItem],
        work: Callable[[str, Sequence[WrappedKey]], list[ItemResult[R]]],
    ) -> list[ItemResult[R]]:
        """Answer what needs no server, and let the rest be done key by key."""
        self._session.refuse_if_closed()
        done: dict[int, ItemResult[R]] = {}
        waiting: dict[str, list[int]] = {}
        for position, item in enumerate(items):
            refusal = self._refusal(item.wrapped)
            if refusal is None:
                waiting.setdefault(item.wrapped.key, []).append(position)
            else:
                done[position] = refusal
        for key, positions in waiting.items():
            results = work(key, [items[position].wrapped for position in positions])
            done.update(zip(positions, results, strict=True))
        return [done[position] for position in range(len(items))]

    def _refusal(self, wrapped: WrappedKey) -> KeyProviderError | None:
        if not KEY_NAME.fullmatch(wrapped.key) or wrapped.version < 1:
            return KeyNotFoundError(
                f"there is no version {wrapped.version} of key {wrapped.key!r}", provider=self._name
            )
        return why_not_of_this_form(wrapped, provider=self._name)

    def _wrapped(self, key: str, version: int, answer: ItemAnswer, length: int) -> ItemResult[WrappedKey]:
        return read_wrapped(answer.result, key=key, version=version, length=length, provider=self._name)
