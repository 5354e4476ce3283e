"""Trying out the key providers of a vault, for whoever wants to know what is wrong with them."""

from __future__ import annotations

from contextlib import closing

from keyproviders.errors import KeyProviderError
from keyproviders.interface import Health
from keyproviders.registry import open_provider
from vault.bootstrap.key_doors import provider_settings
from vault.bootstrap.opening import open_vault
from vault.config import Configuration
from vault.core.clock import system_clock
from vault.core.key_check import KeyFinding, check_keys


def provider_refusal(configuration: Configuration, name: str) -> str | None:
    """Open a configured provider; return the sentence with which it refuses, or None if it opens."""
    kind = configuration.settings.providers[name].type
    try:
        open_provider(kind, provider_settings(configuration, name))
    except KeyProviderError as error:
        return str(error)
    return None


def prove_keys(configuration: Configuration) -> dict[str, Health]:
    """Open the vault and let every provider in use unwrap its canary.

    Raises:
        MisconfiguredError: the vault cannot be opened with these keys.
        UnavailableError: a provider cannot be reached.
        IntegrityError: a key row is not what the vault wrote.
    """
    with closing(open_vault(configuration)) as vault:
        return vault.keyrings.health()


def examine_keys(configuration: Configuration) -> list[KeyFinding]:
    """Open the vault and try every key.

    Raises:
        MisconfiguredError: the vault cannot be opened with these keys.
        UnavailableError: a provider cannot be reached.
        IntegrityError: a key row is not what the vault wrote.
    """
    with closing(open_vault(configuration)) as vault:
        return check_keys(vault.keyrings, vault.stores.processes.processes(), system_clock())
