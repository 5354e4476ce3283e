"""Keyrings at work: which version seals now, who unwraps what, and the keys held for the process's life.

Provider calls happen here and nowhere else, and always before a database transaction opens.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import Health, HealthStatus, KeyProvider, SecretBytes, UnwrapItem, WrappedKey
from vault.core.blind_index import BlindIndex
from vault.core.context import SealContext, StoredKeyContext
from vault.core.errors import IntegrityError, MisconfiguredError, UnavailableError
from vault.core.ports import KeyStore
from vault.core.row_mac import RowAuthenticator
from vault.core.row_shape import check_shape
from vault.core.rows import KeyPurpose, KeyringRow, KeyState, KeyVersionRow, StoredKeyRow
from vault.core.sealing import open_sealed

_UNWRAPPABLE = frozenset({KeyState.PENDING, KeyState.ACTIVE, KeyState.DEACTIVATED})
"""States whose versions still open what they wrapped."""


@dataclass(frozen=True, slots=True)
class NewDataKey:
    """A fresh data key and what its row must say about it.

    Attributes:
        dek: 32 bytes, for one seal.
        key_version: the keyring's version that wraps it.
        wrapped: the wrapped bytes.
    """

    dek: SecretBytes
    key_version: int
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class Keyring:
    """One keyring as of the last load; immutable, so a request sees one consistent state.

    Attributes:
        row: where new versions are made.
        versions: the keyring's versions by our number.
        active: the version that wraps now.
        index: makes the tags of this keyring's collections.
        authenticator: signs and checks rows.
        canary: a wrapped key that is known to be good, for proofs of life.
    """

    row: KeyringRow
    versions: Mapping[int, KeyVersionRow]
    active: KeyVersionRow
    index: BlindIndex
    authenticator: RowAuthenticator
    canary: UnwrapItem


class Keyrings:
    """All keyrings of the vault, loaded once and again whenever the database says that they changed.

    Args:
        store: key versions and stored keys.
        providers: the key doors, by configured name.
    """

    def __init__(self, store: KeyStore, providers: Mapping[str, KeyProvider]) -> None:
        self._store = store
        self._providers = providers
        self._rings: Mapping[tuple[str, str], Keyring] = {}
        self._loading = threading.Lock()

    def load(self) -> None:
        """Read all keyrings, unwrap their index and MAC keys, and check every row.

        Raises:
            UnavailableError: a provider cannot be reached.
            MisconfiguredError: a provider is missing, or holds other keys than this vault was made with.
            IntegrityError: a row is not what the vault wrote.
        """
        with self._loading:
            self._rings = _Loader(self._store, self._providers).rings()

    def all(self) -> list[Keyring]:
        """The keyrings in the order of their creation."""
        return list(self._rings.values())

    def get(self, tenant: str, name: str) -> Keyring:
        """One keyring.

        Raises:
            IntegrityError: a row names a keyring that does not exist.
        """
        ring = self._rings.get((tenant, name))
        if ring is None:
            raise IntegrityError("unknown-keyring", where=f"keyring {name}")
        return ring

    def authenticator(self, tenant: str, name: str = "default") -> RowAuthenticator:
        """Signs and checks rows; rows that belong to no collection use the default keyring's keys."""
        return self.get(tenant, name).authenticator

    def new_data_key(self, tenant: str, name: str, context: SealContext) -> NewDataKey:
        """Make a data key under the active version.

        Raises:
            UnavailableError: the provider cannot be reached, or refuses; nothing was written.
        """
        version = self.get(tenant, name).active
        try:
            provider = self._provider(version)
            (result,) = provider.generate(
                version.provider_key, version.provider_version, [context.associated_data()]
            )
            if isinstance(result, KeyProviderError):
                raise result
        except KeyProviderError as error:
            _raise_for(error, where=version.where())
        return NewDataKey(dek=result.plaintext, key_version=version.version, wrapped=result.wrapped.blob)

    def unwrap(
        self, tenant: str, name: str, *, key_version: int, wrapped: bytes, context: SealContext, where: str
    ) -> SecretBytes:
        """Open a stored data key under the version that its row names.

        Raises:
            UnavailableError: the provider cannot be reached, or refuses.
            IntegrityError: ``wrapped-dek`` if it does not open, ``key-version`` if its version is unknown,
                retired or destroyed.
        """
        version = self._version(tenant, name, key_version, where)
        item = UnwrapItem(wrapped=_wrapped_key(version, wrapped), context=context.associated_data())
        try:
            (result,) = self._provider(version).unwrap([item])
            if isinstance(result, KeyProviderError):
                raise result
        except KeyProviderError as error:
            _raise_for(error, where=where)
        return result

    def health(self) -> dict[str, Health]:
        """Let every provider in use prove that it can unwrap what this vault needs."""
        proofs: dict[str, Health] = {}
        for ring in self.all():
            provider = self._providers.get(ring.active.provider)
            if provider is None:
                proofs[ring.active.provider] = Health(HealthStatus.DOWN, "not configured")
            elif provider.name not in proofs:
                proofs[provider.name] = provider.health(ring.canary)
        return proofs

    def _version(self, tenant: str, name: str, number: int, where: str) -> KeyVersionRow:
        version = self.get(tenant, name).versions.get(number)
        if version is None:
            # Another process may have rotated since we loaded; the row's MAC has been checked already.
            self.load()
            version = self.get(tenant, name).versions.get(number)
        if version is None or version.state not in _UNWRAPPABLE:
            raise IntegrityError("key-version", where=where)
        return version

    def _provider(self, version: KeyVersionRow) -> KeyProvider:
        return _provider_of(version, self._providers)


class _Loader:
    """Builds the keyrings from rows; each step needs the one before."""

    def __init__(self, store: KeyStore, providers: Mapping[str, KeyProvider]) -> None:
        self._providers = providers
        self._keyrings = store.keyrings()
        versions = store.key_versions()
        self._stored = store.stored_keys()
        for row in (*self._keyrings, *versions, *self._stored):
            check_shape(row)
        self._versions = {(row.tenant, row.keyring, row.version): row for row in versions}

    def rings(self) -> dict[tuple[str, str], Keyring]:
        keys = {row.key_id: self._open(row) for row in self._stored if row.state in _UNWRAPPABLE}
        mac_keys = {row.key_id: keys[row.key_id] for row in self._stored_for(KeyPurpose.MAC)}
        rings = {(row.tenant, row.name): self._ring(row, keys, mac_keys) for row in self._keyrings}
        if not rings:
            raise MisconfiguredError("The database holds no keyring; create the vault with: strongroom init")
        return rings

    def _stored_for(self, purpose: KeyPurpose) -> list[StoredKeyRow]:
        return [row for row in self._stored if row.purpose == purpose and row.state in _UNWRAPPABLE]

    def _ring(
        self, row: KeyringRow, keys: Mapping[int, SecretBytes], mac_keys: Mapping[int, SecretBytes]
    ) -> Keyring:
        mac_row = self._active_stored(row, KeyPurpose.MAC)
        index_row = self._active_stored(row, KeyPurpose.INDEX)
        authenticator = RowAuthenticator(mac_keys, mac_row.key_id)
        versions = {
            version.version: version
            for version in self._versions.values()
            if (version.tenant, version.keyring) == (row.tenant, row.name)
        }
        stored = [key for key in self._stored if (key.tenant, key.keyring) == (row.tenant, row.name)]
        for authenticated in (row, *versions.values(), *stored):
            authenticator.check(authenticated)
        active = [version for version in versions.values() if version.state == KeyState.ACTIVE]
        if len(active) != 1:
            raise IntegrityError("key-version", where=f"keyring {row.name}: {len(active)} active versions")
        return Keyring(
            row=row,
            versions=versions,
            active=active[0],
            index=BlindIndex(index_row.key_id, keys[index_row.key_id]),
            authenticator=authenticator,
            canary=self._item(mac_row),
        )

    def _active_stored(self, ring: KeyringRow, purpose: KeyPurpose) -> StoredKeyRow:
        for row in self._stored:
            if (row.tenant, row.keyring, row.purpose, row.state) == (
                ring.tenant,
                ring.name,
                purpose,
                KeyState.ACTIVE,
            ):
                return row
        raise IntegrityError("stored-key", where=f"keyring {ring.name} has no active {purpose} key")

    def _open(self, row: StoredKeyRow) -> SecretBytes:
        try:
            (result,) = self._provider(row).unwrap([self._item(row)])
            if isinstance(result, KeyProviderError):
                raise result
        except (WrappedKeyRejectedError, KeyNotFoundError) as error:
            raise MisconfiguredError(
                f"Key provider '{error.provider}' does not open this vault's keys: it holds other keys than those "
                "this vault was made with (a foreign or older key file?), or the stored keys were tampered with. "
                f"First found at {row.where()}."
            ) from error
        except KeyProviderError as error:
            _raise_for(error, where=row.where())
        context = _stored_key_context(row)
        return SecretBytes(open_sealed(row.sealed_key, dek=result, context=context, where=row.where()))

    def _item(self, row: StoredKeyRow) -> UnwrapItem:
        wrapped = _wrapped_key(self._version(row), row.wrapped_dek)
        return UnwrapItem(wrapped=wrapped, context=_stored_key_context(row).associated_data())

    def _provider(self, row: StoredKeyRow) -> KeyProvider:
        return _provider_of(self._version(row), self._providers)

    def _version(self, row: StoredKeyRow) -> KeyVersionRow:
        version = self._versions.get((row.tenant, row.keyring, row.key_version))
        if version is None or version.state not in _UNWRAPPABLE:
            raise IntegrityError("key-version", where=row.where())
        return version


def _stored_key_context(row: StoredKeyRow) -> StoredKeyContext:
    return StoredKeyContext(
        purpose=row.purpose, tenant=row.tenant, keyring=row.keyring, key_id=row.key_id, version=row.version
    )


def _wrapped_key(version: KeyVersionRow, blob: bytes) -> WrappedKey:
    return WrappedKey(
        key=version.provider_key, version=version.provider_version, algorithm=version.algorithm, blob=blob
    )


def _provider_of(version: KeyVersionRow, providers: Mapping[str, KeyProvider]) -> KeyProvider:
    provider = providers.get(version.provider)
    if provider is None:
        raise MisconfiguredError(
            f"{version.where()} is held by key provider '{version.provider}', which the configuration does not "
            f"have; add a table [providers.{version.provider}]."
        )
    return provider


def _raise_for(error: KeyProviderError, *, where: str) -> NoReturn:
    if isinstance(error, WrappedKeyRejectedError):
        raise IntegrityError("wrapped-dek", where=where) from error
    if isinstance(error, KeyVersionRetiredError):
        raise IntegrityError("key-version", where=where) from error
    wait = error.retry_after_seconds if isinstance(error, ProviderUnavailableError) else None
    raise UnavailableError(
        f"Key provider '{error.provider}' does not answer as it should; nothing was written.",
        code="keys-unavailable",
        retry_after_seconds=max(1, round(wait or 1)),
    ) from error
