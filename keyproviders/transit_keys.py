"""What a transit engine says of a key, and what follows for one of its versions."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderMisconfiguredError,
    ProviderUnavailableError,
)
from keyproviders.interface import KeyInfo, ProviderVersion, VersionState
from keyproviders.keyset import KEY_NAME
from keyproviders.transit_errors import bare
from keyproviders.transit_form import ALGORITHM, rejected
from keyproviders.transit_session import TransitSession

__all__ = ["KEY_TYPE", "Explanations", "TransitKey", "TransitKeys", "key_of"]

KEY_TYPE = "aes256-gcm96"
"""The one type of key that is used: AES-256-GCM with a nonce of 96 bits, chosen by the engine."""

# Nobody rotates that often; a number beyond it is no answer of a transit engine.
_MOST_VERSIONS = 1_000_000
# What the engine calls a ciphertext that is not one of this version of this key.
_NOT_GENUINE = ("authentication failed", "invalid ciphertext", "base64")


@dataclass(frozen=True, slots=True)
class TransitKey:
    """One key as the engine describes it.

    Attributes:
        provider: the configured name of the provider, for the sentences of errors.
        name: the key's.
        newest: its highest version.
        oldest: its lowest version that was not trimmed away.
        least_for_unwrap: versions below it do not decrypt.
        least_for_wrap: versions below it do not encrypt.
        is_blocked: soft-deleted: nothing works until somebody restores it.
    """

    provider: str
    name: str
    newest: int
    oldest: int
    least_for_unwrap: int
    least_for_wrap: int
    is_blocked: bool

    def refusal(self, version: int, *, is_wrapping: bool) -> KeyProviderError | None:
        """Say why a version cannot be used; None if it can."""
        if not 1 <= version <= self.newest:
            return self._error(KeyNotFoundError, version, "does not exist")
        if version < self.oldest:
            return self._error(KeyNotFoundError, version, "was destroyed")
        if self.is_blocked:
            return self._error(KeyVersionRetiredError, version, "is blocked: the key is soft-deleted")
        if version < self.least_for_unwrap:
            return self._error(KeyVersionRetiredError, version, "is retired")
        if is_wrapping and version < self.least_for_wrap:
            return self._error(KeyVersionRetiredError, version, "no longer wraps (min_encryption_version)")
        return None

    def info(self) -> KeyInfo:
        """List the versions that have material, oldest first."""
        return KeyInfo(
            self.name,
            tuple(
                ProviderVersion(
                    version,
                    ALGORITHM,
                    VersionState.RETIRED
                    if self.is_blocked or version < self.least_for_unwrap
                    else VersionState.ENABLED,
                )
                for version in range(self.oldest, self.newest + 1)
            ),
        )

    def _error(self, kind: type[KeyProviderError], version: int, what: str) -> KeyProviderError:
        return kind(f"version {version} of key {self.name!r} {what}", provider=self.provider)


class TransitKeys:
    """Reads keys, and remembers them for this provider's life.

    Args:
        session: how to ask.

    A remembered key lets a call through without asking again; before a refusal the engine is always asked anew.
    """

    def __init__(self, session: TransitSession) -> None:
        self._session = session
        self._known: dict[str, TransitKey] = {}

    @property
    def provider(self) -> str:
        """The configured name of the provider."""
        return self._session.options.provider

    def require(self, name: str, version: int, *, asks: bool = False) -> None:
        """Return if the key exists and this version of it should wrap.

        Args:
            name: of the key.
            version: of the key.
            asks: ask the engine in any case.

        Raises:
            KeyNotFoundError: the key or version does not exist, or was destroyed.
            KeyVersionRetiredError: the version does not wrap any more.
            KeyProviderError: the engine cannot be asked, or the key is not fit for use.

        Security: whoever may also create keys by ``encrypt`` (the server's default for a wide policy) would make a
            new key of a mistyped name. So no name reaches ``encrypt`` that was not read here first.
        """
        key = self._known.get(name)
        if asks or key is None or key.refusal(version, is_wrapping=True) is not None:
            key = self.read(name)
        refusal = key.refusal(version, is_wrapping=True)
        if refusal is not None:
            raise refusal

    def read(self, name: str) -> TransitKey:
        """Ask the engine for a key.

        Raises:
            KeyNotFoundError: there is none of this name.
            ProviderMisconfiguredError: it is of a kind that must not be used, or there is no engine at the mount.
            KeyProviderError: the engine cannot be asked.
        """
        self._known.pop(name, None)
        provider, mount = self._session.options.provider, self._session.options.mount
        # A name goes into a path: one with a slash would ask for something else.
        if not KEY_NAME.fullmatch(name):
            self._session.refuse_if_closed()
            raise KeyNotFoundError(f"there is no key {name!r}", provider=provider)
        answer = self._session.call("GET", f"{mount}/keys/{name}")
        if answer.status == HTTPStatus.NOT_FOUND and answer.complaint:
            raise ProviderMisconfiguredError(
                f"provider {provider!r} finds no transit engine at {mount}/; check mount and namespace",
                provider=provider,
            )
        if answer.status == HTTPStatus.NOT_FOUND:
            raise KeyNotFoundError(f"there is no key {name!r} at {mount}/", provider=provider)
        key = self._known[name] = key_of(answer.data, name, provider=provider)
        return key


class Explanations:
    """Finds out what a complaint about an item means; asks for the key once, and only if there is a complaint.

    Which version is too old or too new is taken from the key itself: the sentences differ from server to server.
    """

    def __init__(self, keys: TransitKeys, name: str) -> None:
        self._name = name
        self._provider = keys.provider
        self._read = functools.cache(functools.partial(keys.read, name))
        self._missing: KeyNotFoundError | None = None

    def __call__(
        self, complaint: str, *, wraps: int | None = None, unwraps: int | None = None
    ) -> KeyProviderError:
        """Return the error of an item.

        Args:
            complaint: what the engine said of it.
            wraps: the version that it should have been wrapped under.
            unwraps: the version that it should have been opened by.

        Raises:
            KeyProviderError: the key cannot be read, so nobody knows.
        """
        if self._missing is not None:
            return self._missing
        try:
            key = self._read()
        except KeyNotFoundError as error:
            self._missing = error
            return bare(error)
        for version, is_wrapping in ((unwraps, False), (wraps, True)):
            refusal = None if version is None else key.refusal(version, is_wrapping=is_wrapping)
            if refusal is not None:
                return refusal
        if unwraps is not None and any(sign in complaint for sign in _NOT_GENUINE):
            return rejected(
                self._name, unwraps, "it was changed, or wrapped by another key", provider=self._provider
            )
        return ProviderUnavailableError(
            f"the transit server of provider {self._provider!r} refused an item for a reason we do not know; its log "
            "may say more",
            provider=self._provider,
        )


def key_of(data: Mapping[str, Any], name: str, *, provider: str) -> TransitKey:
    """Understand what the engine says of a key.

    Raises:
        ProviderMisconfiguredError: the key can leave the engine, or is of another type.
        ProviderUnavailableError: it is not what an engine would say.
    """
    if data.get("type") != KEY_TYPE or data.get("derived") or data.get("convergent_encryption"):
        if "type" in data:
            raise ProviderMisconfiguredError(
                f"key {name!r} is not of type {KEY_TYPE} without derivation; name another key, or make one with: "
                "strongroom keys init",
                provider=provider,
            )
        raise _strange(provider)
    if data.get("exportable") or data.get("allow_plaintext_backup"):
        raise ProviderMisconfiguredError(
            f"key {name!r} may leave the engine (exportable or allow_plaintext_backup is on, for good); "
            "rotate into another key",
            provider=provider,
        )
    numbers = [
        data.get(field)
        for field in (
            "latest_version",
            "min_available_version",
            "min_decryption_version",
            "min_encryption_version",
        )
    ]
    if not all(type(each) is int and 0 <= each <= _MOST_VERSIONS for each in numbers):
        raise _strange(provider)
    newest, oldest, unwraps, wraps = (int(each or 0) for each in numbers)
    return TransitKey(
        provider,
        name,
        newest,
        max(oldest, 1),
        max(unwraps, 1),
        max(wraps, 1),
        data.get("soft_deleted") is True,
    )


def _strange(provider: str) -> ProviderUnavailableError:
    return ProviderUnavailableError(
        f"the transit server of provider {provider!r} describes a key in a way we do not understand",
        provider=provider,
    )
