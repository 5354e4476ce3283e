"""A key provider of somebody else: AES-256-GCM under keys in a folder, one file per version. Option: ``folder``.

It knows the interface, the errors, the options and the canary of ``keyproviders``, and nothing else of Strongroom. The
context is bound: it is the associated data. A real one has its keys somewhere else; everything around them looks so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyproviders.canary import prove_by_canary
from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderMisconfiguredError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import (
    DATA_KEY_BYTES,
    Capabilities,
    DataKey,
    Health,
    ItemResult,
    KeyInfo,
    ProviderSettings,
    ProviderVersion,
    SecretBytes,
    UnwrapItem,
    VersionState,
    WrapItem,
    WrappedKey,
)
from keyproviders.options import path_option, refuse_unknown_options

ALGORITHM = "ACME-GCM"
NONCE_BYTES = 12
KEY_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class AcmeProviderType:
    """What the entry point names."""

    def open(self, settings: ProviderSettings) -> AcmeProvider:
        return AcmeProvider(_store(settings))

    def open_administration(self, settings: ProviderSettings) -> AcmeAdministration:
        return AcmeAdministration(_store(settings))


def _store(settings: ProviderSettings) -> Store:
    refuse_unknown_options(settings, known={"folder"})
    return Store(settings.name, path_option(settings, "folder"))


class Store:
    """The keys: ``KEY/N`` is version N, ``KEY/N.retired`` once it is retired, ``KEY/N.destroyed`` (empty) for ever."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    def versions(self, key: str) -> dict[int, Path]:
        """Every number that was given out, ascending, and its file."""
        if self.is_closed:
            raise ProviderUnavailableError("this door was closed", provider=self.name)
        if not KEY_NAME.fullmatch(key) or not (self.folder / key).is_dir():
            raise KeyNotFoundError(f"there is no key {key!r}", provider=self.name)
        paths = (path for path in (self.folder / key).iterdir() if not path.name.startswith("."))
        return dict(sorted((int(path.name.partition(".")[0]), path) for path in paths))

    def material(self, key: str, version: int) -> AESGCM:
        path = self.versions(key).get(version)
        if path is None or path.suffix == ".destroyed":
            raise KeyNotFoundError(f"there is no version {version} of key {key!r}", provider=self.name)
        if path.suffix == ".retired":
            raise KeyVersionRetiredError(f"version {version} of key {key!r} is retired", provider=self.name)
        return AESGCM(path.read_bytes())


class AcmeProvider:
    """The run-time door: reads the folder and never writes to it."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def name(self) -> str:
        return self._store.name

    def capabilities(self) -> Capabilities:
        return Capabilities(
            binds_context=True, rewraps_inside=False, generates_inside=False, max_batch=1, is_remote=False
        )

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        items = [WrapItem(SecretBytes(os.urandom(DATA_KEY_BYTES)), context) for context in contexts]
        wrapped = self.wrap(key, version, items)
        return [
            result if isinstance(result, KeyProviderError) else DataKey(item.plaintext, result)
            for item, result in zip(items, wrapped, strict=True)
        ]

    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        for item in items:
            if not 16 <= len(item.plaintext) <= 64:
                raise ValueError(f"a key to wrap has 16 to 64 bytes, not {len(item.plaintext)}")
        cipher = self._store.material(key, version)
        return [self._wrap(cipher, key, version, item) for item in items]

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        return [self._unwrap(item) for item in items]

    def rewrap(self, items: Sequence[UnwrapItem], to_version: int) -> list[ItemResult[WrappedKey]]:
        return [self._rewrap(item, to_version) for item in items]

    def key_info(self, key: str) -> KeyInfo:
        states = {"": VersionState.ENABLED, ".retired": VersionState.RETIRED}
        return KeyInfo(
            key,
            tuple(
                ProviderVersion(version, ALGORITHM, states[path.suffix])
                for version, path in self._store.versions(key).items()
                if path.suffix in states
            ),
        )

    def health(self, canary: UnwrapItem) -> Health:
        return prove_by_canary(self, canary)

    def close(self) -> None:
        self._store.close()

    def _wrap(self, cipher: AESGCM, key: str, version: int, item: WrapItem) -> WrappedKey:
        nonce = os.urandom(NONCE_BYTES)
        blob = nonce + cipher.encrypt(nonce, item.plaintext.reveal(), item.context)
        return WrappedKey(key, version, ALGORITHM, blob)

    def _unwrap(self, item: UnwrapItem) -> ItemResult[SecretBytes]:
        wrapped = item.wrapped
        try:
            cipher = self._store.material(wrapped.key, wrapped.version)
        except (KeyNotFoundError, KeyVersionRetiredError) as error:
            return error.with_traceback(None)
        rejected = WrappedKeyRejectedError(
            f"a key of version {wrapped.version} of {wrapped.key!r} does not open", provider=self.name
        )
        nonce, sealed = wrapped.blob[:NONCE_BYTES], wrapped.blob[NONCE_BYTES:]
        if wrapped.algorithm != ALGORITHM or len(nonce) < NONCE_BYTES:
            return rejected
        try:
            return SecretBytes(cipher.decrypt(nonce, sealed, item.context))
        except InvalidTag:
            return rejected

    def _rewrap(self, item: UnwrapItem, to_version: int) -> ItemResult[WrappedKey]:
        key = item.wrapped.key
        try:
            cipher = self._store.material(key, to_version)
        except (KeyNotFoundError, KeyVersionRetiredError) as error:
            return error.with_traceback(None)
        plaintext = self._unwrap(item)
        if isinstance(plaintext, KeyProviderError):
            return plaintext
        return self._wrap(cipher, key, to_version, WrapItem(plaintext, item.context))


class AcmeAdministration:
    """The administration door: the one that writes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def create(self, key: str) -> int:
        if not KEY_NAME.fullmatch(key):
            raise ProviderMisconfiguredError(f"{key!r} is no name for a key", provider=self._store.name)
        try:
            (self._store.folder / key).mkdir(parents=True, mode=0o700)
        except FileExistsError:
            raise ProviderMisconfiguredError(
                f"key {key!r} exists already", provider=self._store.name
            ) from None
        return self.rotate(key)

    def rotate(self, key: str) -> int:
        while True:
            number = max(self._store.versions(key), default=0) + 1
            temporary = self._store.folder / key / f".{os.urandom(8).hex()}"
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(os.urandom(32))
            try:
                os.link(temporary, temporary.with_name(str(number)))
            except FileExistsError:
                continue  # another administrator took the number
            finally:
                temporary.unlink()
            return number

    def retire(self, key: str, up_to_version: int) -> None:
        versions = self._store.versions(key)
        if up_to_version not in versions:
            raise KeyNotFoundError(f"there was no version {up_to_version}", provider=self._store.name)
        for path in self._enabled(versions, up_to_version):
            path.rename(path.with_suffix(".retired"))

    def destroy(self, key: str, version: int) -> None:
        path = self._store.versions(key).get(version)
        if path is None or path.suffix == ".destroyed":
            raise KeyNotFoundError(f"there is no version {version}", provider=self._store.name)
        if path.suffix != ".retired":
            raise ProviderMisconfiguredError(
                f"version {version} of key {key!r} is not retired", provider=self._store.name
            )
        path.write_bytes(b"")
        path.rename(path.with_suffix(".destroyed"))

    def close(self) -> None:
        self._store.close()

    def _enabled(self, versions: dict[int, Path], up_to_version: int) -> Iterator[Path]:
        return (path for version, path in versions.items() if version <= up_to_version and not path.suffix)
