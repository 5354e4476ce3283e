"""The administration door of a transit engine: keys are made and ended with a login of their own."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from keyproviders.errors import (
    KeyNotFoundError,
    ProviderMisconfiguredError,
    ProviderSealedError,
    ProviderThrottledError,
    ProviderUnavailableError,
)
from keyproviders.keyset import KEY_NAME
from keyproviders.transit_errors import without_frames
from keyproviders.transit_keys import KEY_TYPE, TransitKey, TransitKeys, key_of
from keyproviders.transit_session import TransitSession

__all__ = ["TransitAdministration"]

_ROTATION_TRIES = 8
_ROTATION_PAUSE_SECONDS = 0.1


class TransitAdministration:
    """Creates and ends KEKs in a transit engine.

    Every call raises the errors of :class:`~keyproviders.transit_session.TransitSession` if the server cannot or does
    not let us.

    Args:
        session: logged in by ``[providers.NAME.admin]``.

    Security: the server holds the two roles apart, and asks each for its own login.
    """

    def __init__(self, session: TransitSession) -> None:
        self._session = session
        self._provider = session.options.provider
        self._mount = session.options.mount
        self._keys = TransitKeys(session)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._provider!r})"

    @without_frames
    def create(self, key: str) -> int:
        """Make a new KEK with version 1; return 1.

        Raises:
            ProviderMisconfiguredError: the key exists already, or its name is not allowed.
        """
        if not KEY_NAME.fullmatch(key):
            raise self._wrong(
                f"{key!r} is no name for a key: 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
            )
        # The engine would answer a second creation as if it had made the key, and leave it as it was.
        try:
            self._keys.read(key)
        except KeyNotFoundError:
            pass
        else:
            raise self._wrong(f"key {key!r} exists already")
        # No other member: exportable, derived and the rest stay off, and the policy allows no other.
        return self._change(key, "", {"type": KEY_TYPE}).newest

    @without_frames
    def rotate(self, key: str) -> int:
        """Add a version and return it. Two administrators at once get two numbers, and numbers may be left out.

        Raises:
            KeyNotFoundError: the key is unknown.

        Security: OpenBao 2.7.2 refuses the second of two rotations at once (500, "transaction commit failed"), but
            goes on with a version that it did not store: it shows it, wraps under it, and forgets it at its next
            restart, with all that it wrapped. The next rotation that succeeds stores that version as well. So a
            rotation that did not clearly succeed is done again, and a version is only ever returned as the server
            acknowledged it.
        """
        self._keys.read(key)
        tries = range(_ROTATION_TRIES)
        for number in tries:
            try:
                return self._change(key, "/rotate", {}, is_repeatable=False).newest
            except (ProviderSealedError, ProviderThrottledError):
                raise
            except ProviderUnavailableError:
                if number == tries[-1]:
                    break
            time.sleep(random.uniform(0.5, 1) * _ROTATION_PAUSE_SECONDS * (number + 1))  # noqa: S311 - only spreads
        raise ProviderUnavailableError(
            f"the transit server of provider {self._provider!r} did not confirm a rotation of key {key!r}; it may show a "
            "version that it has not stored: rotate again before any new version is used",
            provider=self._provider,
        )

    @without_frames
    def retire(self, key: str, up_to_version: int) -> None:
        """Refuse to use every version up to and including this one. An operator can take that back.

        Raises:
            KeyNotFoundError: the key is unknown, or never had this version.
            ProviderMisconfiguredError: it is the newest version, which the engine always keeps in use.
        """
        found = self._keys.read(key)
        if not 1 <= up_to_version <= found.newest:
            raise self._unknown(key, up_to_version, "does not exist")
        if up_to_version == found.newest:
            raise self._wrong(
                f"version {up_to_version} of key {key!r} is the newest, and transit keeps the newest in use; rotate first"
            )
        least = up_to_version + 1
        # In this order and never in one request: the engine holds wrapping >= unwrapping at each step. Neither goes
        # down, so a second administrator with an older idea changes nothing.
        if found.least_for_wrap < least:
            self._change(key, "/config", {"min_encryption_version": least})
        if found.least_for_unwrap < least:
            self._change(key, "/config", {"min_decryption_version": least})

    @without_frames
    def destroy(self, key: str, version: int) -> None:
        """Remove the material of a retired version for ever. The oldest goes first.

        Raises:
            KeyNotFoundError: the key or version is unknown or destroyed already.
            ProviderMisconfiguredError: the version is not retired, or an older one is still there: the engine
                trims from the oldest on, and would take that one along.
        """
        found = self._keys.read(key)
        if not 1 <= version <= found.newest:
            raise self._unknown(key, version, "does not exist")
        if version < found.oldest:
            raise self._unknown(key, version, "was destroyed")
        if version >= found.least_for_unwrap:
            raise self._wrong(f"version {version} of key {key!r} is not retired, so it is not destroyed")
        if version > found.oldest:
            raise self._wrong(
                f"version {version} of key {key!r} is not the oldest, and transit destroys the oldest first; "
                f"destroy version {found.oldest} before it"
            )
        # Retired by another hand, the version may still wrap, and the engine would refuse to trim.
        if found.least_for_wrap <= version:
            self._change(key, "/config", {"min_encryption_version": found.least_for_unwrap})
        self._change(key, "/trim", {"min_available_version": version + 1})

    def close(self) -> None:
        """End the token, if we logged in for it, and the connections."""
        self._session.close()

    def _change(
        self, key: str, verb: str, body: Mapping[str, Any], *, is_repeatable: bool = True
    ) -> TransitKey:
        path = f"{self._mount}/keys/{key}{verb}"
        answer = self._session.call("POST", path, body, is_repeatable=is_repeatable)
        if answer.status not in {HTTPStatus.OK, HTTPStatus.NO_CONTENT}:
            raise ProviderMisconfiguredError(
                f"the transit server of provider {self._provider!r} refused to change key {key!r} "
                f"({verb.strip('/') or 'create'}, status {answer.status}); its log may say more",
                provider=self._provider,
            )
        if not answer.data:
            if verb == "/rotate":
                raise ProviderUnavailableError(
                    f"the transit server of provider {self._provider!r} rotated without saying to which version; "
                    "look at the key's versions",
                    provider=self._provider,
                )
            return self._keys.read(key)
        return key_of(answer.data, key, provider=self._provider)

    def _unknown(self, key: str, version: int, what: str) -> KeyNotFoundError:
        return KeyNotFoundError(f"version {version} of key {key!r} {what}", provider=self._provider)

    def _wrong(self, what: str) -> ProviderMisconfiguredError:
        return ProviderMisconfiguredError(what, provider=self._provider)
