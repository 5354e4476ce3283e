"""Loading keyrings: from rows to keys that work, every row checked on the way."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import NoReturn

from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import KeyProvider, SecretBytes, UnwrapItem, WrappedKey
from vault.core.blind_index import BlindIndex
from vault.core.context import StoredKeyContext
from vault.core.errors import IntegrityError, MisconfiguredError, UnavailableError, VaultError
from vault.core.idempotency import RequestHasher
from vault.core.ports import KeyStore
from vault.core.row_mac import RowAuthenticator
from vault.core.row_shape import check_shape
from vault.core.rows import KeyPurpose, KeyringRow, KeyState, KeyVersionRow, StoredKeyRow
from vault.core.sealing import open_sealed

UNWRAPPABLE = frozenset({KeyState.PENDING, KeyState.ACTIVE, KeyState.DEACTIVATED})
"""States whose versions still open what they wrapped."""


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
        canary_provider: whose proof of life it is.
        requests: makes the hashes of requests with an Idempotency-Key.
    """

    row: KeyringRow
    versions: Mapping[int, KeyVersionRow]
    active: KeyVersionRow
    index: BlindIndex
    authenticator: RowAuthenticator
    canary: UnwrapItem
    canary_provider: str
    requests: RequestHasher


@dataclass(frozen=True, slots=True)
class LoadedKeyrings:
    """The outcome of one load.

    Attributes:
        rings: by tenant and name.
        opened: the stored keys, by their rows.
        missing: keyrings that appeared since the last load and cannot be loaded here, and why.
    """

    rings: Mapping[tuple[str, str], Keyring]
    opened: Mapping[StoredKeyRow, SecretBytes]
    missing: Mapping[str, VaultError]


class KeyringLoader:
    """Builds the keyrings from rows; each step needs the one before.

    Args:
        store: the rows.
        providers: the key doors, by configured name.
        before: the last load. What it opened is not asked of a provider again, so that a provider that is away does
            not stand in the way of news; and a keyring that it did not have cannot take the others away.
    """

    def __init__(
        self, store: KeyStore, providers: Mapping[str, KeyProvider], before: LoadedKeyrings | None = None
    ) -> None:
        self._providers = providers
        self._before = before
        self._keyrings = store.keyrings()
        versions = store.key_versions()
        self._stored = store.stored_keys()
        for row in (*self._keyrings, *versions, *self._stored):
            check_shape(row)
        self._versions = {(row.tenant, row.keyring, row.version): row for row in versions}

    def load(self) -> LoadedKeyrings:
        """All keyrings.

        Raises:
            UnavailableError: a provider cannot be reached.
            MisconfiguredError: a provider is missing, or holds other keys than this vault was made with.
            IntegrityError: a row is not what the vault wrote.
        """
        opened: dict[StoredKeyRow, SecretBytes] = {}
        missing: dict[tuple[str, str], VaultError] = {}
        for ring in self._keyrings:
            place = (ring.tenant, ring.name)
            try:
                opened |= {row: self._key(row) for row in self._stored_of(*place) if row.state in UNWRAPPABLE}
            except (MisconfiguredError, UnavailableError) as error:
                if self._before is None or place in self._before.rings:
                    raise
                missing[place] = error
        self._refuse_strays(opened, missing)
        keys = {row.key_id: key for row, key in opened.items()}
        mac_keys = {row.key_id: key for row, key in opened.items() if row.purpose == KeyPurpose.MAC}
        rings = {
            (row.tenant, row.name): self._ring(row, keys, mac_keys)
            for row in self._keyrings
            if (row.tenant, row.name) not in missing
        }
        if not rings:
            raise MisconfiguredError("The database holds no keyring; create the vault with: strongroom init")
        return LoadedKeyrings(rings, opened, {name: error for (_, name), error in missing.items()})

    def _refuse_strays(self, opened: Container[StoredKeyRow], missing: Container[tuple[str, str]]) -> None:
        for row in self._stored:
            if row.state in UNWRAPPABLE and row not in opened and (row.tenant, row.keyring) not in missing:
                raise IntegrityError("stored-key", where=row.where())

    def _stored_of(self, tenant: str, keyring: str) -> list[StoredKeyRow]:
        return [row for row in self._stored if (row.tenant, row.keyring) == (tenant, keyring)]

    def _key(self, row: StoredKeyRow) -> SecretBytes:
        self._version(row)
        known = None if self._before is None else self._before.opened.get(row)
        return self._open(row) if known is None else known

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
        for authenticated in (row, *versions.values(), *self._stored_of(row.tenant, row.name)):
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
            canary_provider=self._version(mac_row).provider,
            requests=RequestHasher(mac_keys, mac_row.key_id),
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
            raise_for(error, where=row.where())
        context = _stored_key_context(row)
        return SecretBytes(open_sealed(row.sealed_key, dek=result, context=context, where=row.where()))

    def _item(self, row: StoredKeyRow) -> UnwrapItem:
        wrapped = wrapped_key(self._version(row), row.wrapped_dek)
        return UnwrapItem(wrapped=wrapped, context=_stored_key_context(row).associated_data())

    def _provider(self, row: StoredKeyRow) -> KeyProvider:
        return provider_of(self._version(row), self._providers)

    def _version(self, row: StoredKeyRow) -> KeyVersionRow:
        version = self._versions.get((row.tenant, row.keyring, row.key_version))
        if version is None or version.state not in UNWRAPPABLE:
            raise IntegrityError("key-version", where=row.where())
        return version


def _stored_key_context(row: StoredKeyRow) -> StoredKeyContext:
    return StoredKeyContext(
        purpose=row.purpose, tenant=row.tenant, keyring=row.keyring, key_id=row.key_id, version=row.version
    )


def wrapped_key(version: KeyVersionRow, blob: bytes) -> WrappedKey:
    """A stored wrapped key as its provider takes it."""
    return WrappedKey(
        key=version.provider_key, version=version.provider_version, algorithm=version.algorithm, blob=blob
    )


def provider_of(version: KeyVersionRow | KeyringRow, providers: Mapping[str, KeyProvider]) -> KeyProvider:
    """The provider that holds a key version, or makes a keyring's next ones.

    Raises:
        MisconfiguredError: the configuration has no such provider.
    """
    provider = providers.get(version.provider)
    if provider is None:
        raise MisconfiguredError(
            f"{version.where()} is held by key provider '{version.provider}', which the configuration does not "
            f"have; add a table [providers.{version.provider}]."
        )
    return provider


def raise_for(error: KeyProviderError, *, where: str) -> NoReturn:
    """Raise what a provider's error means here; see :func:`error_for`."""
    raise error_for(error, where=where) from error


def error_for(error: KeyProviderError, *, where: str) -> VaultError:
    """What a provider's error means here: ``IntegrityError`` or ``UnavailableError``, with it as its cause."""
    meaning: VaultError
    if isinstance(error, WrappedKeyRejectedError):
        meaning = IntegrityError("wrapped-dek", where=where)
    elif isinstance(error, KeyVersionRetiredError):
        meaning = IntegrityError("key-version", where=where)
    else:
        wait = error.retry_after_seconds if isinstance(error, ProviderUnavailableError) else None
        meaning = UnavailableError(
            f"Key provider '{error.provider}' does not answer as it should; nothing was written.",
            code="keys-unavailable",
            retry_after_seconds=max(1, round(wait or 1)),
        )
    meaning.__cause__ = error
    return meaning
