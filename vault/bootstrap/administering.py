"""What needs the administration door and is done on the host by hand: a keyring's first key."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from keyproviders.errors import KeyNotFoundError, KeyProviderError, ProviderMisconfiguredError
from keyproviders.interface import SecretBytes, VersionState
from keyproviders.registry import open_provider
from vault.bootstrap.key_doors import administration_door, provider_settings
from vault.bootstrap.opening import misplaced_keyring, open_vault
from vault.config import Configuration
from vault.core.clock import system_clock
from vault.core.errors import MisconfiguredError
from vault.core.policy import DEFAULT_TENANT
from vault.core.provisioning import KeyringPlan, ProvisioningStores, create_keyring


def init_keyring(configuration: Configuration, name: str) -> bool:
    """Make a configured keyring, and its key at the provider if that is missing.

    Returns:
        Whether it is new; False if it was there already.

    Raises:
        MisconfiguredError: it is not configured, or something cannot be made.
        UnavailableError: keys or database cannot be reached.
    """
    if name not in configuration.settings.keyrings:
        raise MisconfiguredError(f"The configuration has no table [keyrings.{name}]; add it first.")
    vault = open_vault(configuration, needs_all_keyrings=False)
    try:
        if vault.keyrings.has(DEFAULT_TENANT, name):
            misplaced = misplaced_keyring(configuration, vault.keyrings.get(DEFAULT_TENANT, name).row)
            if misplaced is not None:
                raise misplaced
            return False
        plan = planned_keyring(configuration, name)
        stores = ProvisioningStores(vault.stores.keys, vault.stores.audit)
        create_keyring(plan, stores, system_clock, vault.services.trail)
        return True
    finally:
        vault.close()


def planned_keyring(configuration: Configuration, name: str) -> KeyringPlan:
    """A configured keyring over its key at the provider, which is made if it is missing.

    Raises:
        MisconfiguredError: the provider cannot be opened, or does not make the key.
    """
    section = configuration.settings.keyrings[name]
    kind = configuration.settings.providers[section.provider].type
    settings = provider_settings(configuration, section.provider)

    def found() -> KeyringPlan:
        provider = open_provider(kind, settings)
        info = provider.key_info(section.key)
        enabled = [version for version in info.versions if version.state is VersionState.ENABLED]
        if not enabled:
            raise KeyNotFoundError(f"key '{section.key}' has no version in use", provider=section.provider)
        return KeyringPlan(
            name=name,
            provider=provider,
            provider_key=section.key,
            provider_version=enabled[-1].version,
            algorithm=enabled[-1].algorithm,
        )

    try:
        try:
            plan = found()
        except (ProviderMisconfiguredError, KeyNotFoundError):
            with administration_door(configuration, section.provider) as administration:
                administration.create(section.key)
            plan = found()
    except KeyProviderError as error:
        raise MisconfiguredError(f"Key provider '{error.provider}': {error}") from error
    return plan


_STAY_INSIDE = "The keys of this provider stay inside it; its own backup has them."


@runtime_checkable
class _CanBeCopied(Protocol):
    def backup(self, path: Path) -> None:
        """Copy all keys to a new file."""
        ...


def backup_keys(configuration: Configuration, path: Path, provider: str | None) -> str:
    """Copy a provider's keys to a new file.

    Args:
        configuration: names the providers.
        path: the new file.
        provider: which one; None if only one can.

    Returns:
        The provider's name.

    Raises:
        MisconfiguredError: none can, or more than one, or the copy cannot be made.
    """
    with _able(configuration, provider, _CanBeCopied, _STAY_INSIDE) as (name, administration):
        administration.backup(path)
    return name


_NOTHING_TO_LOCK = "Only a provider of type 'file' has a passphrase; the others guard their keys themselves."


@runtime_checkable
class _CanBeLocked(Protocol):
    def change_passphrase(self, new: SecretBytes | None) -> None:
        """Seal the keys by another passphrase; None opens them."""
        ...


def change_passphrase(configuration: Configuration, new: SecretBytes | None, provider: str | None) -> str:
    """Lock a provider's keys by a passphrase, or by another one, or by none; the keys stay the same.

    Args:
        configuration: names the providers, and the passphrase of now.
        new: the new passphrase; None for none.
        provider: which one; None if only one can.

    Returns:
        The provider's name.

    Raises:
        MisconfiguredError: none can, or more than one, or the passphrase is refused.
    """
    with _able(configuration, provider, _CanBeLocked, _NOTHING_TO_LOCK) as (name, administration):
        administration.change_passphrase(new)
    return name


@contextlib.contextmanager
def _able(
    configuration: Configuration, provider: str | None, ability: Any, otherwise: str
) -> Iterator[tuple[str, Any]]:
    """The administration door of the one provider that has an ability; errors of providers become sentences."""
    names = [provider] if provider is not None else _all_able(configuration, ability)
    if len(names) != 1:
        raise MisconfiguredError(f"Choose one with --provider: {', '.join(names)}" if names else otherwise)
    try:
        with administration_door(configuration, names[0]) as administration:
            if not isinstance(administration, ability):
                raise MisconfiguredError(otherwise)
            yield names[0], administration
    except KeyProviderError as error:
        raise MisconfiguredError(f"Key provider '{error.provider}': {error}") from error


def _all_able(configuration: Configuration, ability: Any) -> list[str]:
    able = []
    for name in configuration.settings.providers:
        # One whose door does not open from here is not the one that is meant.
        with (
            contextlib.suppress(KeyProviderError),
            administration_door(configuration, name) as administration,
        ):
            if isinstance(administration, ability):
                able.append(name)
    return able
