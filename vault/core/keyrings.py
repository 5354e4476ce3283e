"""Keyrings at work: which version seals now, who unwraps what, and the keys held for the process's life.

Provider calls happen here and nowhere else, and always before a database transaction opens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from cryptography.hazmat.primitives import constant_time

from keyproviders.errors import KeyProviderError
from keyproviders.interface import Health, HealthStatus, KeyInfo, KeyProvider, SecretBytes, UnwrapItem
from vault.core.context import SealContext
from vault.core.data_key_cache import CacheBounds, Exposure
from vault.core.data_keys import DataKeys, Wanted
from vault.core.encoding import encode_fields
from vault.core.errors import IntegrityError, VaultError
from vault.core.keyring_loading import (
    UNWRAPPABLE,
    Keyring,
    KeyringLoader,
    LoadedKeyrings,
    error_for,
    provider_of,
    raise_for,
    wrapped_key,
)
from vault.core.ports import KeyStore
from vault.core.row_mac import RowAuthenticator
from vault.core.rows import KeyringRow, KeyVersionRow

_PROOF_LABEL = "strongroom/key-version-proof/v1"


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
class StoredDataKey:
    """A wrapped data key as its row holds it.

    Attributes:
        key_version: the keyring's version that wraps it.
        context: what it was sealed for.
        where: names the row for an operator.
    """

    tenant: str
    keyring: str
    key_version: int
    wrapped: bytes
    context: SealContext
    where: str


class Keyrings:
    """All keyrings of the vault, loaded once and again whenever the database says that they changed.

    Args:
        store: key versions and stored keys.
        providers: the key doors, by configured name.
        data_keys: unwraps data keys; without it every one is fetched each time.
        waiting: entered while keys are loaded, which can take a provider's time.
    """

    def __init__(
        self,
        store: KeyStore,
        providers: Mapping[str, KeyProvider],
        *,
        data_keys: DataKeys | None = None,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._store = store
        self._providers = providers
        self._data_keys = data_keys or DataKeys(CacheBounds(max_entries=0))
        self._waiting = waiting
        self._loaded: LoadedKeyrings | None = None
        self._rings: Mapping[tuple[str, str], Keyring] = {}
        self._loading = threading.Lock()

    def load(self) -> Mapping[str, VaultError]:
        """Read all keyrings, unwrap those of their index and MAC keys that are not known yet, and check every row.

        Returns:
            Keyrings that are new and cannot be loaded here, and why.

        Raises:
            UnavailableError: a provider cannot be reached.
            MisconfiguredError: a provider is missing, or holds other keys than this vault was made with.
            IntegrityError: a row is not what the vault wrote.
        """
        # In this order: who waits for the lock must not hold what the loader needs to go on.
        with self._waiting(), self._loading:
            self._loaded = KeyringLoader(self._store, self._providers, self._loaded).load()
            self._rings = self._loaded.rings
            return self._loaded.missing

    def all(self) -> list[Keyring]:
        """The keyrings in the order of their creation."""
        return list(self._rings.values())

    def has(self, tenant: str, name: str) -> bool:
        """Whether there is a keyring of this name."""
        return (tenant, name) in self._rings

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

    def new_data_keys(self, tenant: str, name: str, contexts: Sequence[SealContext]) -> list[NewDataKey]:
        """Make a data key for each context under the active version, in one call to the provider.

        Raises:
            UnavailableError: the provider cannot be reached, or refuses; nothing was written.
        """
        version = self.get(tenant, name).active
        try:
            made = self._provider(version).generate(
                version.provider_key,
                version.provider_version,
                [context.associated_data() for context in contexts],
            )
            refused = next((result for result in made if isinstance(result, KeyProviderError)), None)
            if refused is not None:
                raise refused
        except KeyProviderError as error:
            raise_for(error, where=version.where())
        return [
            NewDataKey(dek=result.plaintext, key_version=version.version, wrapped=result.wrapped.blob)
            for result in made
            if not isinstance(result, KeyProviderError)
        ]

    def unwrap(self, stored: Sequence[StoredDataKey]) -> list[SecretBytes | VaultError]:
        """Open stored data keys, each under the version that its row names, in one call to each provider.

        Returns:
            For each its key, or why it does not open: ``UnavailableError`` if the provider cannot be reached,
            ``IntegrityError`` ``wrapped-dek`` if it is not what was wrapped, ``key-version`` if its version is
            unknown, retired or destroyed.
        """
        results: dict[int, SecretBytes | VaultError] = {}
        by_provider: dict[str, list[tuple[int, Wanted]]] = {}
        for place, key in enumerate(stored):
            try:
                version = self._version(key.tenant, key.keyring, key.key_version, key.where)
                self._provider(version)
            except VaultError as error:
                results[place] = error
                continue
            item = UnwrapItem(
                wrapped=wrapped_key(version, key.wrapped), context=key.context.associated_data()
            )
            cached_as = (key.tenant, key.keyring, key.key_version, key.wrapped)
            by_provider.setdefault(version.provider, []).append((place, Wanted(cached_as, item)))
        for name, wanted in by_provider.items():
            unwrapped = self._data_keys.unwrap(self._providers[name], [each for _, each in wanted])
            for (place, _), result in zip(wanted, unwrapped, strict=True):
                results[place] = (
                    error_for(result, where=stored[place].where)
                    if isinstance(result, KeyProviderError)
                    else result
                )
        return [results[place] for place in range(len(stored))]

    def exposure(self) -> Exposure:
        """How many unwrapped data keys this process keeps, and for how long."""
        return self._data_keys.cache.exposure()

    def health(self) -> dict[str, Health]:
        """Let every provider in use prove that it can unwrap what this vault needs."""
        proofs: dict[str, Health] = {}
        for ring in self.all():
            provider = self._providers.get(ring.canary_provider)
            if provider is None:
                proofs[ring.canary_provider] = Health(HealthStatus.DOWN, "not configured")
            elif provider.name not in proofs:
                proofs[provider.name] = provider.health(ring.canary)
        return proofs

    def prove(self, version: KeyVersionRow) -> None:
        """Wrap and unwrap a data key under a version, as a write and a read of this process would.

        Raises:
            KeyProviderError: the provider does not do it.
            IntegrityError: ``key-version``; it does, and not as the version's row says.
            MisconfiguredError: the configuration has no such provider.
        """
        context = encode_fields(_PROOF_LABEL, version.tenant, version.keyring, str(version.version))
        provider = self._provider(version)
        (made,) = provider.generate(version.provider_key, version.provider_version, [context])
        if isinstance(made, KeyProviderError):
            raise made
        try:
            (opened,) = provider.unwrap([UnwrapItem(wrapped_key(version, made.wrapped.blob), context)])
            if isinstance(opened, KeyProviderError):
                raise opened
            is_same = constant_time.bytes_eq(made.plaintext.reveal(), opened.reveal())
            opened.wipe()
        finally:
            made.plaintext.wipe()
        if not is_same or made.wrapped.algorithm != version.algorithm:
            raise IntegrityError("key-version", where=version.where())

    def key_info(self, ring: Keyring) -> KeyInfo:
        """What the provider says of the key under which a keyring's versions are made.

        Raises:
            KeyProviderError: it says nothing.
            MisconfiguredError: the configuration has no such provider.
        """
        return self._provider(ring.row).key_info(ring.row.provider_key)

    def _version(self, tenant: str, name: str, number: int, where: str) -> KeyVersionRow:
        version = self.get(tenant, name).versions.get(number)
        if version is None:
            # Another process may have rotated since we loaded; the row's MAC has been checked already.
            self.load()
            version = self.get(tenant, name).versions.get(number)
        if version is None or version.state not in UNWRAPPABLE:
            raise IntegrityError("key-version", where=where)
        return version

    def _provider(self, version: KeyVersionRow | KeyringRow) -> KeyProvider:
        return provider_of(version, self._providers)
