"""The administration door of a PKCS#11 token: makes KEKs inside it, retires and destroys them.

PKCS#11 knows neither versions nor retirement. Versions are labels (``NAME/vN``); retirement is a record in the token
that our own run-time doors obey. Whoever has the PIN and other software can use a retired key still.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pkcs11.constants import Attribute, ObjectClass
from pkcs11.mechanisms import KeyType
from pkcs11.types import Session

from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    ProviderMisconfiguredError,
    ProviderUnavailableError,
)
from keyproviders.interface import ItemResult
from keyproviders.keyset import KEK_BYTES, KEY_NAME
from keyproviders.pkcs11_attributes import NEW_KEK, capabilities_of
from keyproviders.pkcs11_capability import does_gcm, does_kwp
from keyproviders.pkcs11_keys import TokenKeys, key_id, key_label
from keyproviders.pkcs11_mechanisms import GcmKek, Kek, KwpKek
from keyproviders.pkcs11_options import A256GCM, A256KWP, AUTO, Pkcs11Options
from keyproviders.pkcs11_record import APPLICATION, KeyRecord, record_label
from keyproviders.pkcs11_token import join_token

__all__ = ["Pkcs11Administration"]

T = TypeVar("T")


class _Versions:
    """What there is of one key, read in one go.

    Attributes:
        handles: the keys in the token by version.
        record: what was written down.
        highest: the highest number that was ever given out, as far as can be known.
    """

    def __init__(self, keys: TokenKeys, key: str) -> None:
        self.handles: dict[int, Any] = _good(keys.numbers(key))
        self.record: KeyRecord = _good(keys.record(key))
        self.highest = max(self.record.highest, *self.handles, 0)


class Pkcs11Administration:
    """Creates and ends KEKs in a token. Administrators on one machine come one after the other.

    Every change raises ProviderUnavailableError if the token is away or fails: the change may then be done, half
    done (a key without use) or not done; ``key_info`` tells.

    Args:
        options: the table of the configuration, with that of the administrator.
    """

    def __init__(self, options: Pkcs11Options) -> None:
        self._options = options
        self._token = join_token(options)
        self._is_closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._options.provider!r}, {self._options.token_name})"

    def create(self, key: str) -> int:
        """Make a new KEK with version 1 inside the token; return 1.

        Raises:
            ProviderMisconfiguredError: the key exists already, its name is not allowed, or the token cannot make it.
        """
        if not KEY_NAME.fullmatch(key):
            raise self._misconfigured(
                f"{key!r} is no name for a key: 1 to 64 letters, digits, '.', '_' or '-', "
                "beginning with a letter or digit"
            )

        def create(keys: TokenKeys, writing: Session) -> int:
            if _Versions(keys, key).highest:
                raise self._misconfigured(f"key {key!r} exists already")
            return self._make(keys, writing, key, 1)

        return self._change(create)

    def rotate(self, key: str) -> int:
        """Add a version, made inside the token, and return it.

        Raises:
            KeyNotFoundError: the token does not have the key.
            ProviderMisconfiguredError: two keys have one label, or the token cannot make the key.
        """

        def rotate(keys: TokenKeys, writing: Session) -> int:
            return self._make(keys, writing, key, self._existing(keys, key).highest + 1)

        return self._change(rotate)

    def retire(self, key: str, up_to_version: int) -> None:
        """Refuse to use every version up to and including this one.

        Doors in this process obey at once, those of other processes within a second. To undo it, remove the data
        object ``NAME/retired`` with another tool (only while no version was destroyed: it holds spent numbers, too).

        Raises:
            KeyNotFoundError: the token does not have the key, or never had this version.
        """

        def retire(keys: TokenKeys, writing: Session) -> None:
            found = self._existing(keys, key)
            if not 1 <= up_to_version <= found.highest:
                raise self._unknown_version(key, up_to_version)
            record = KeyRecord(max(found.record.retired_up_to, up_to_version), found.highest)
            if record != found.record:
                self._write(keys, writing, key, record)

        self._change(retire)

    def destroy(self, key: str, version: int) -> None:
        """Remove a retired version from the token for ever.

        Raises:
            KeyNotFoundError: the token does not have the key or version (any more).
            ProviderMisconfiguredError: the version is not retired.

        Security: a backup of the token is beyond our reach.
        """

        def destroy(keys: TokenKeys, writing: Session) -> None:
            found = self._existing(keys, key)
            if version not in found.handles:
                raise self._unknown_version(key, version)
            if version > found.record.retired_up_to:
                raise self._misconfigured(
                    f"version {version} of key {key!r} is not retired, so it is not destroyed"
                )
            _through(writing, ObjectClass.SECRET_KEY, key_label(key, version))

        self._change(destroy)

    def close(self) -> None:
        """Let go of the token; the last door of the process logs out."""
        if not self._is_closed:
            self._is_closed = True
            self._token.leave()

    def _change(self, work: Callable[[TokenKeys, Session], T]) -> T:
        if self._is_closed:
            raise ProviderUnavailableError(
                "the administration door was closed", provider=self._options.provider
            )

        def change(session: Session, writing: Session) -> T:
            keys = TokenKeys(session, provider=self._options.provider, prove_login=self._token.prove_login)
            return work(keys, writing)

        return self._token.change(change)

    def _existing(self, keys: TokenKeys, key: str) -> _Versions:
        found = _Versions(keys, key)
        if not found.highest:
            raise KeyNotFoundError(f"there is no key {key!r} in the token", provider=self._options.provider)
        return found

    def _make(self, keys: TokenKeys, writing: Session, key: str, version: int) -> int:
        kind = self._kind(writing)
        made = writing.generate_key(
            KeyType.AES,
            KEK_BYTES * 8,
            label=key_label(key, version),
            id=key_id(key, version),
            store=True,
            capabilities=capabilities_of(kind),
            template=NEW_KEK,
        )
        # An administrator on another machine is not held off by our lock, and a token may not do as it was told.
        trouble = keys.usable(key, version)
        if isinstance(trouble, KeyProviderError):
            made.destroy()
            raise trouble
        return version

    def _kind(self, session: Session) -> type[Kek]:
        wanted = self._options.algorithm
        if wanted != A256KWP and does_gcm(session):
            return GcmKek
        if wanted != A256GCM and does_kwp(session):
            return KwpKek
        able = f"neither {A256GCM} nor {A256KWP}" if wanted == AUTO else f"no {wanted}"
        raise self._misconfigured(
            f"{self._options.token_name} does {able}: it cannot hold KEKs of Strongroom"
        )

    def _write(self, keys: TokenKeys, writing: Session, key: str, record: KeyRecord) -> None:
        old = [each[Attribute.VALUE] for each in keys.record_objects(key)]
        writing.create_object(
            {
                Attribute.CLASS: ObjectClass.DATA,
                Attribute.TOKEN: True,
                Attribute.PRIVATE: True,
                Attribute.APPLICATION: APPLICATION,
                Attribute.LABEL: record_label(key),
                Attribute.VALUE: record.encode(),
            }
        )
        for value in old:
            _through(writing, ObjectClass.DATA, record_label(key), {Attribute.VALUE: value})

    def _unknown_version(self, key: str, version: int) -> KeyNotFoundError:
        return KeyNotFoundError(
            f"version {version} of key {key!r} is not in the token", provider=self._options.provider
        )

    def _misconfigured(self, message: str) -> ProviderMisconfiguredError:
        return ProviderMisconfiguredError(message, provider=self._options.provider)


def _through(
    writing: Session, kind: ObjectClass, label: str, more: dict[Attribute, Any] | None = None
) -> None:
    """Destroy objects through the session that may write: a handle of another session cannot."""
    wanted = {Attribute.CLASS: kind, Attribute.TOKEN: True, Attribute.LABEL: label, **(more or {})}
    for each in list(writing.get_objects(wanted)):
        each.destroy()


def _good(result: ItemResult[T]) -> T:
    if isinstance(result, KeyProviderError):
        raise result
    return result
