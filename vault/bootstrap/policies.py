"""The least privileges that the vault needs at a provider, in the provider's own language."""

from __future__ import annotations

from keyproviders.transit_policies import PolicyKind, policy
from vault.config import Configuration
from vault.core.errors import MisconfiguredError


def policies_of(configuration: Configuration, provider: str | None, role: str) -> str:
    """The policies for every key that the configured keyrings have at a provider.

    Args:
        configuration: names providers and keyrings.
        provider: which one; None if only one has policies.
        role: a :class:`~keyproviders.transit_policies.PolicyKind`.

    Raises:
        MisconfiguredError: no provider, or more than one, or names that cannot stand in a policy.
    """
    settings = configuration.settings
    able = [name for name, section in settings.providers.items() if section.type == "transit"]
    if provider is None and len(able) == 1:
        provider = able[0]
    if provider not in able:
        raise MisconfiguredError(
            "Policies are for providers of type transit; "
            + (f"choose one with --provider: {', '.join(able)}" if able else "the configuration has none.")
        )
    mount = str((settings.providers[provider].model_extra or {}).get("mount", "transit"))
    keys = [section.key for section in settings.keyrings.values() if section.provider == provider]
    try:
        return "\n".join(policy(PolicyKind(role), mount, key) for key in keys)
    except ValueError as error:
        raise MisconfiguredError(f"[providers.{provider}]: {error}") from error
