"""The key doors of one process: opened as configured, counted, guarded, and with a cache before those far away."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager

from keyproviders.errors import KeyProviderError
from keyproviders.interface import KeyAdministration, KeyProvider, ProviderSettings
from keyproviders.registry import open_administration, open_provider
from vault.api.turns import waiting
from vault.config import Configuration
from vault.core.breaker import BreakerState
from vault.core.data_key_cache import CacheBounds
from vault.core.data_keys import DataKeys
from vault.core.errors import MisconfiguredError
from vault.core.key_calls import GuardedProvider
from vault.core.keyring_loading import error_for
from vault.telemetry.logs import event_logger
from vault.telemetry.metrics import Metrics
from vault.telemetry.providers import MeteredProvider

log = event_logger("strongroom.keys")


def open_providers(
    configuration: Configuration, only: Container[str] | None = None
) -> dict[str, KeyProvider]:
    """Open the run-time door of every configured provider, or of those that are meant.

    Raises:
        MisconfiguredError: names the provider, and says what to do.
        UnavailableError: a provider cannot be opened just now.
    """
    try:
        return {
            name: open_provider(section.type, provider_settings(configuration, name))
            for name, section in configuration.settings.providers.items()
            if only is None or name in only
        }
    except KeyProviderError as error:
        if error.try_later:
            raise error_for(error, where=f"provider {error.provider}") from error
        raise MisconfiguredError(f"Key provider '{error.provider}': {error}") from error


def provider_settings(configuration: Configuration, name: str) -> ProviderSettings:
    """What the run-time door of a provider is opened with; it never sees the administration's own table."""
    options = configuration.settings.providers[name].model_dump(exclude={"type", "admin"})
    return ProviderSettings(name=name, options=options, folder=configuration.folder)


def administration_settings(configuration: Configuration, name: str) -> ProviderSettings:
    """What the administration door of a provider is opened with."""
    section = configuration.settings.providers[name]
    return dataclasses.replace(provider_settings(configuration, name), admin=section.administration)


@contextmanager
def administration_door(configuration: Configuration, name: str) -> Iterator[KeyAdministration]:
    """Open the administration door of a provider for as long as the body runs.

    Raises:
        KeyProviderError: it does not open.
        MisconfiguredError: the configuration has no such provider.
    """
    if name not in configuration.settings.providers:
        raise MisconfiguredError(f"The configuration has no key provider '{name}'.")
    kind = configuration.settings.providers[name].type
    administration = open_administration(kind, administration_settings(configuration, name))
    try:
        yield administration
    finally:
        administration.close()


def guarded(providers: Mapping[str, KeyProvider], metrics: Metrics | None = None) -> dict[str, KeyProvider]:
    """The same providers with a deadline, a breaker and, if there are metrics, a meter."""
    return {
        name: GuardedProvider(
            MeteredProvider(provider, metrics) if metrics else provider,
            changed=functools.partial(_breaker_changed, metrics),
            waiting=waiting,
        )
        for name, provider in providers.items()
    }


def data_keys_of(bounds: CacheBounds, metrics: Metrics | None) -> DataKeys:
    """The data keys that this process keeps."""
    return DataKeys(bounds, waiting=waiting, asked=cache_meter("data_keys", metrics))


def cache_meter(cache: str, metrics: Metrics | None) -> Callable[[str], None]:
    """What a cache tells of its hits and misses."""
    if metrics is None:
        return lambda _: None
    return functools.partial(metrics.cache_asked, cache)


def _breaker_changed(metrics: Metrics | None, provider: str, state: BreakerState) -> None:
    if state is BreakerState.CLOSED:
        log.info("breaker-changed", provider=provider, outcome=state.value)
    else:
        log.warning("breaker-changed", provider=provider, outcome=state.value)
    if metrics is not None:
        metrics.breaker_changed(provider, is_open=state is not BreakerState.CLOSED)
