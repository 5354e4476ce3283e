"""The key door: the one narrow way between the vault and whoever holds its key-encryption keys (KEKs).

Two doors, two Protocols. :class:`KeyProvider` is what a serving process holds: nothing it offers can create
or change a KEK. :class:`KeyAdministration` creates, rotates, retires and destroys, and is opened with other
settings, by administration only.

Lists go in and per-item results come out, so that a backend with batches uses them and one without loops;
splitting, retries and a vendor's odd batch errors stay inside. A failure of the whole call raises a
:class:`~keyproviders.errors.KeyProviderError`; a failure of one item is that item's result.

No call means "the newest version": the version is always named, by the caller.

Source: NIST SP 800-57 part 1 revision 5 (key states), NIST SP 800-38F (key wrap).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar

from keyproviders.errors import KeyProviderError
from keyproviders.health import Health, HealthStatus
from keyproviders.secret import SecretBytes

__all__ = [
    "DATA_KEY_BYTES",
    "Capabilities",
    "DataKey",
    "Health",
    "HealthStatus",
    "ItemResult",
    "KeyAdministration",
    "KeyInfo",
    "KeyProvider",
    "ProviderSettings",
    "ProviderType",
    "ProviderVersion",
    "SecretBytes",
    "UnwrapItem",
    "VersionState",
    "WrapItem",
    "WrappedKey",
]

DATA_KEY_BYTES = 32
"""Length of every data key that a provider generates: 256 bits."""

T = TypeVar("T")
ItemResult: TypeAlias = T | KeyProviderError
"""What one item of a list call comes back as: its value, or the error that hit it alone."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data key as it may be stored: wrapped, and saying by what.

    Attributes:
        key: the provider's name of the KEK, 1 to 64 characters.
        version: the provider's version of that KEK, 1 or more.
        algorithm: how it was wrapped, for example ``A256KWP``.
        blob: the wrapped bytes, opaque to everyone but the provider.
    """

    key: str
    version: int
    algorithm: str
    blob: bytes


@dataclass(frozen=True, slots=True)
class DataKey:
    """A fresh data key: the plaintext to use now and the wrapped form to store."""

    plaintext: SecretBytes
    wrapped: WrappedKey


@dataclass(frozen=True, slots=True)
class WrapItem:
    """One key to wrap, with the encryption context to bind where the backend can.

    Attributes:
        plaintext: 16 to 64 bytes of key material.
        context: canonical bytes; authenticated where ``Capabilities.binds_context``, otherwise ignored
            (the vault binds the same context in its own layer, always).
    """

    plaintext: SecretBytes
    context: bytes


@dataclass(frozen=True, slots=True)
class UnwrapItem:
    """One wrapped key to open, with the context it was wrapped under."""

    wrapped: WrappedKey
    context: bytes


class VersionState(enum.StrEnum):
    """Whether the provider itself will still use a version."""

    ENABLED = "enabled"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class ProviderVersion:
    """One version of a KEK as the provider sees it."""

    version: int
    algorithm: str
    state: VersionState


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """The versions of one KEK, oldest first. Destroyed versions are absent."""

    key: str
    versions: tuple[ProviderVersion, ...]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend was found able to do, by doing it once at opening.

    Attributes:
        binds_context: the backend authenticates the context itself.
        rewraps_inside: ``rewrap`` does not show the data key to this process.
        generates_inside: data keys come from the backend's random generator.
        max_batch: how many items one round trip carries; 1 means that we loop.
        is_remote: calls leave this machine.
    """

    binds_context: bool
    rewraps_inside: bool
    generates_inside: bool
    max_batch: int
    is_remote: bool


class KeyProvider(Protocol):
    """Wraps and unwraps data keys under KEKs that stay on its side of the door.

    Implementations are safe to call from several threads, open their connections lazily per process, never
    print key material, and never create or change a KEK in answer to any of these calls.
    """

    @property
    def name(self) -> str:
        """The configured name (``[providers.NAME]``)."""
        ...

    def capabilities(self) -> Capabilities:
        """What this backend was found able to do."""
        ...

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        """Make one fresh 32-byte data key per context, wrapped under the named version.

        Raises:
            KeyProviderError: the whole call failed (for example the version is unknown or retired).
        """
        ...

    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        """Wrap keys under the named version; results come in the order of the items."""
        ...

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        """Open wrapped keys, each under the key and version that it names."""
        ...

    def rewrap(self, items: Sequence[UnwrapItem], to_version: int) -> list[ItemResult[WrappedKey]]:
        """Wrap the same data keys under another version of the same key."""
        ...

    def key_info(self, key: str) -> KeyInfo:
        """List the versions of a key.

        Raises:
            KeyNotFoundError: the provider does not know the key.
        """
        ...

    def health(self, canary: UnwrapItem) -> Health:
        """Prove itself by unwrapping a key that the caller knows to be good. Never raises."""
        ...

    def close(self) -> None:
        """Let go of connections and key material. The provider is not used afterwards."""
        ...


class KeyAdministration(Protocol):
    """Creates and ends KEKs. A serving process never holds one."""

    def create(self, key: str) -> int:
        """Make a new KEK with its first version; return that version (1).

        Raises:
            ProviderMisconfiguredError: the key exists already.
        """
        ...

    def rotate(self, key: str) -> int:
        """Add a version and return it. Versions count upwards and are never used twice."""
        ...

    def retire(self, key: str, up_to_version: int) -> None:
        """Refuse to use every version up to and including this one, reversibly where the backend can."""
        ...

    def destroy(self, key: str, version: int) -> None:
        """Remove the material of a retired version for ever.

        Raises:
            ProviderMisconfiguredError: the version is not retired.
        """
        ...

    def close(self) -> None:
        """Let go of connections and key material."""
        ...


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """What a provider is opened with.

    Attributes:
        name: the configured name (``[providers.NAME]``).
        options: the table from the configuration, without ``type``. The provider checks every key itself
            and refuses those it does not know.
        folder: relative paths in the options start here (the folder of the configuration file).
        admin: the table ``[providers.NAME.admin]``; empty for the run-time door, which must not see it.
    """

    name: str
    options: Mapping[str, object]
    folder: Path
    admin: Mapping[str, object] = field(default_factory=dict)


class ProviderType(Protocol):
    """One kind of backend: what the registry finds by type name or entry point."""

    def open(self, settings: ProviderSettings) -> KeyProvider:
        """Open the run-time door.

        Raises:
            ProviderMisconfiguredError: a sentence that says what is wrong and how to mend it.
        """
        ...

    def open_administration(self, settings: ProviderSettings) -> KeyAdministration:
        """Open the administration door, with its own settings."""
        ...
