"""From the ``type`` of a configured provider to the code that opens it. Only what is named is ever loaded."""

from __future__ import annotations

import importlib
import importlib.metadata

from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import KeyAdministration, KeyProvider, ProviderSettings, ProviderType

__all__ = ["BUILT_IN", "ENTRY_POINT_GROUP", "open_administration", "open_provider", "provider_type"]

ENTRY_POINT_GROUP = "strongroom.key_providers"
"""Where a third-party distribution offers a provider type under a name of its own."""

BUILT_IN: dict[str, str] = {
    "awskms": "keyproviders.awskms:AwsKmsProviderType",
    "file": "keyproviders.local_file:LocalFileProviderType",
    "memory": "keyproviders.memory:MemoryProviderType",
    "pkcs11": "keyproviders.pkcs11_provider:Pkcs11ProviderType",
    "transit": "keyproviders.transit:TransitProviderType",
}
"""Our own types, so that a plain checkout works uninstalled. Nobody else can take over one of these names."""


def provider_type(type_name: str, *, provider: str | None = None) -> ProviderType:
    """Return the provider type of this name, importing that one module and no other.

    Args:
        type_name: the ``type`` of the configuration, for example ``file``.
        provider: the configured name (``[providers.NAME]``) to report errors under; the type's name if left out.

    Raises:
        ProviderMisconfiguredError: nobody offers the type, two distributions do, or the one that does is broken.

    Security: an entry point is code of a third party that runs in the process that holds data keys. It is
        loaded only if the configuration names it, and never in place of a built-in type.
    """
    reported = type_name if provider is None else provider
    if type_name in BUILT_IN:
        return _built_in(type_name, reported)
    return _load(_only_entry_point(type_name, reported), reported)


def open_provider(type_name: str, settings: ProviderSettings) -> KeyProvider:
    """Open the run-time door of a configured provider.

    Raises:
        ProviderMisconfiguredError: the type is unknown or broken, or its settings are wrong.
    """
    return provider_type(type_name, provider=settings.name).open(settings)


def open_administration(type_name: str, settings: ProviderSettings) -> KeyAdministration:
    """Open the administration door of a configured provider.

    Raises:
        ProviderMisconfiguredError: the type is unknown or broken, or its settings are wrong.
    """
    return provider_type(type_name, provider=settings.name).open_administration(settings)


def _built_in(type_name: str, provider: str) -> ProviderType:
    module, attribute = BUILT_IN[type_name].split(":")
    try:
        found: ProviderType = getattr(importlib.import_module(module), attribute)()
    except ModuleNotFoundError as error:
        # The packages of a backend come with the extra of its name; a module of ours that is missing is a bug.
        if error.name is None or error.name.partition(".")[0] == "keyproviders":
            raise
        raise ProviderMisconfiguredError(
            f"provider type {type_name!r} needs a package that is not installed ({error.name}); "
            f"run: pip install 'strongroom[{type_name}]'",
            provider=provider,
        ) from error
    return found


def _only_entry_point(type_name: str, provider: str) -> importlib.metadata.EntryPoint:
    offered = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    found = [entry_point for entry_point in offered if entry_point.name == type_name]
    if len(found) > 1:
        raise ProviderMisconfiguredError(
            f"provider type {type_name!r} is offered by more than one distribution: "
            f"{', '.join(sorted(map(_distribution, found)))}; uninstall all but one",
            provider=provider,
        )
    if not found:
        known = sorted({*BUILT_IN, *(entry_point.name for entry_point in offered)})
        raise ProviderMisconfiguredError(
            f"unknown provider type {type_name!r}; known types: {', '.join(known)}", provider=provider
        )
    return found[0]


def _load(entry_point: importlib.metadata.EntryPoint, provider: str) -> ProviderType:
    label = f"provider type {entry_point.name!r} of distribution {_distribution(entry_point)}"
    # Foreign code can raise anything while it is imported, and all of it means the same: refuse to start.
    try:
        loaded = entry_point.load()
        found: ProviderType = loaded() if isinstance(loaded, type) else loaded
    except Exception as error:
        raise ProviderMisconfiguredError(
            f"{label} ({entry_point.value}) does not load: {type(error).__name__}", provider=provider
        ) from error
    if not all(callable(getattr(found, door, None)) for door in ("open", "open_administration")):
        raise ProviderMisconfiguredError(
            f"{label} ({entry_point.value}) is no provider type: it lacks open or open_administration",
            provider=provider,
        )
    return found


def _distribution(entry_point: importlib.metadata.EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist is not None else "(unknown)"
