"""KEKs that live in our own memory: the versions of each key as plain values, and the four changes to them.

A :class:`KeySet` never changes: a rotation returns the next one. So a thread that reads works on one state from
beginning to end, and whoever stores the set (a file, the process) swaps one reference or one file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from keyproviders.errors import KeyNotFoundError, KeyVersionRetiredError, ProviderMisconfiguredError
from keyproviders.interface import KeyInfo, ProviderVersion, SecretBytes, VersionState

__all__ = ["ALGORITHM", "KEK_BYTES", "KEY_NAME", "KeySet", "SoftwareKey", "SoftwareVersion"]

ALGORITHM = "A256KWP"
"""AES-256 key wrap with padding (RFC 5649), the one algorithm of a software KEK."""

KEK_BYTES = 32
"""Length of a KEK: AES-256."""

KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
"""What a key may be called: 1 to 64 characters that are safe in a file, a log line and a URL."""


@dataclass(frozen=True, slots=True, eq=False)
class SoftwareVersion:
    """One version of a KEK, material included.

    Attributes:
        version: 1 or more, never used twice in a key.
        state: whether this version may still be used.
        created_at: when it was made, UTC, whole seconds.
        material: 32 bytes.
    """

    version: int
    state: VersionState
    created_at: datetime
    material: SecretBytes


@dataclass(frozen=True, slots=True, eq=False)
class SoftwareKey:
    """One KEK: the versions that still have material, and the highest number that was ever given out.

    Attributes:
        highest_version: outlives the versions, so that a destroyed number is never given out again: two
            keys under one (key, version) would make stored data keys unreadable without a word.
        versions: oldest first, by version.
    """

    highest_version: int
    versions: Mapping[int, SoftwareVersion]


@dataclass(frozen=True, slots=True, eq=False)
class KeySet:
    """All KEKs of one provider at one instant.

    Attributes:
        provider: the configured name of the provider, for the sentences of errors.
        keys: by name of the key.
    """

    provider: str
    keys: Mapping[str, SoftwareKey] = field(default_factory=dict)

    def usable(self, key: str, version: int) -> SoftwareVersion:
        """Return a version that may wrap and unwrap now.

        Raises:
            KeyNotFoundError: the key or version is unknown or destroyed.
            KeyVersionRetiredError: the version is retired.
        """
        found = self._version(key, version)
        if found.state is not VersionState.ENABLED:
            raise KeyVersionRetiredError(
                f"version {version} of key {key!r} is retired", provider=self.provider
            )
        return found

    def info(self, key: str) -> KeyInfo:
        """List the versions of a key that still have material, oldest first.

        Raises:
            KeyNotFoundError: the key is unknown.
        """
        found = self._key(key)
        return KeyInfo(
            key,
            tuple(ProviderVersion(each.version, ALGORITHM, each.state) for each in found.versions.values()),
        )

    def with_new_key(self, key: str) -> KeySet:
        """Add a key with version 1.

        Raises:
            ProviderMisconfiguredError: the name is taken or not allowed.
        """
        if key in self.keys:
            raise ProviderMisconfiguredError(f"key {key!r} exists already", provider=self.provider)
        if not KEY_NAME.fullmatch(key):
            raise ProviderMisconfiguredError(
                f"{key!r} is no name for a key: 1 to 64 letters, digits, '.', '_' or '-', "
                "beginning with a letter or digit",
                provider=self.provider,
            )
        return self._with(key, SoftwareKey(1, {1: _new_version(1)}))

    def with_new_version(self, key: str) -> KeySet:
        """Add a version to a key, numbered one above the highest that was ever given out.

        Raises:
            KeyNotFoundError: the key is unknown.
        """
        found = self._key(key)
        number = found.highest_version + 1
        return self._with(key, SoftwareKey(number, {**found.versions, number: _new_version(number)}))

    def with_retired(self, key: str, up_to_version: int) -> KeySet:
        """Retire every version up to and including this one. Versions that are retired stay so.

        Raises:
            KeyNotFoundError: the key is unknown, or never had a version of this number.
        """
        found = self._key(key)
        if not 1 <= up_to_version <= found.highest_version:
            raise self._unknown(key, up_to_version)
        versions = {
            number: replace(each, state=VersionState.RETIRED) if number <= up_to_version else each
            for number, each in found.versions.items()
        }
        return self._with(key, SoftwareKey(found.highest_version, versions))

    def without(self, key: str, version: int) -> KeySet:
        """Drop a retired version and its material; its number stays spent.

        Raises:
            KeyNotFoundError: the key or version is unknown or destroyed already.
            ProviderMisconfiguredError: the version is not retired.
        """
        if self._version(key, version).state is not VersionState.RETIRED:
            raise ProviderMisconfiguredError(
                f"version {version} of key {key!r} is not retired, so it is not destroyed",
                provider=self.provider,
            )
        found = self._key(key)
        versions = {number: each for number, each in found.versions.items() if number != version}
        return self._with(key, SoftwareKey(found.highest_version, versions))

    def wipe(self) -> None:
        """Overwrite our copies of all material. Only the owner of the set may do so."""
        for key in self.keys.values():
            for version in key.versions.values():
                version.material.wipe()

    def _key(self, key: str) -> SoftwareKey:
        found = self.keys.get(key)
        if found is None:
            raise KeyNotFoundError(f"there is no key {key!r}", provider=self.provider)
        return found

    def _version(self, key: str, version: int) -> SoftwareVersion:
        found = self._key(key).versions.get(version)
        if found is None:
            raise self._unknown(key, version)
        return found

    def _unknown(self, key: str, version: int) -> KeyNotFoundError:
        spent = 1 <= version <= self.keys[key].highest_version
        reason = "was destroyed" if spent else "does not exist"
        return KeyNotFoundError(f"version {version} of key {key!r} {reason}", provider=self.provider)

    def _with(self, key: str, changed: SoftwareKey) -> KeySet:
        return replace(self, keys={**self.keys, key: changed})


def _new_version(number: int) -> SoftwareVersion:
    return SoftwareVersion(
        version=number,
        state=VersionState.ENABLED,
        created_at=datetime.now(UTC).replace(microsecond=0),
        material=SecretBytes(os.urandom(KEK_BYTES)),
    )
