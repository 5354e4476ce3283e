"""Reading a provider's table of the configuration: every option known by name, the others refused by name."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import ProviderSettings

__all__ = ["path_option", "refuse_unknown_options"]


def refuse_unknown_options(settings: ProviderSettings, *, known: Collection[str]) -> None:
    """Let nothing pass that the provider would silently ignore: a misspelt option is a setting that is not set.

    Args:
        settings: what the provider is opened with.
        known: the names of the options that this type of provider has.

    Raises:
        ProviderMisconfiguredError: names every option that is not known, and those that are.
    """
    unknown = sorted(set(settings.options) - set(known))
    if unknown:
        # Names only: a value that was put under a wrong name may well be a secret.
        offered = f"known are: {', '.join(sorted(known))}" if known else "this type has none"
        raise ProviderMisconfiguredError(
            f"[providers.{settings.name}] has unknown options: {', '.join(unknown)} ({offered})",
            provider=settings.name,
        )


def path_option(settings: ProviderSettings, option: str) -> Path:
    """Return a required path; a relative one starts at the folder of the configuration.

    Raises:
        ProviderMisconfiguredError: the option is missing, empty or not a string.
    """
    value = settings.options.get(option)
    if not isinstance(value, str | Path) or not str(value) or "\0" in str(value):
        raise ProviderMisconfiguredError(
            f'[providers.{settings.name}] needs {option} = "PATH"', provider=settings.name
        )
    return settings.folder / value
