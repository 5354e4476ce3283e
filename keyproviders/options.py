"""Reading a provider's table of the configuration: every option known by name, the others refused by name."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import ProviderSettings, SecretBytes

__all__ = [
    "number_option",
    "path_option",
    "refuse_unknown_options",
    "secret_option",
    "text_option",
]

_MOST_SECRET_BYTES = 65_536


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
        raise _misconfigured(settings, f'needs {option} = "PATH"')
    return settings.folder / value


def text_option(settings: ProviderSettings, option: str, default: str | None = None) -> str:
    """Return a text of at least one character; without a default it is required.

    Raises:
        ProviderMisconfiguredError: the option is missing, empty or no string.
    """
    value = settings.options.get(option, default)
    if not isinstance(value, str) or not value or "\0" in value:
        raise _misconfigured(settings, f'needs {option} = "TEXT"')
    return value


def number_option(
    settings: ProviderSettings, option: str, default: float, *, least: float, most: float
) -> float:
    """Return a number within its bounds.

    Raises:
        ProviderMisconfiguredError: no number, or out of bounds.
    """
    value = settings.options.get(option, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise _misconfigured(settings, f"needs {option} = a number from {least:g} to {most:g}")
    return value


def secret_option(settings: ProviderSettings, option: str) -> SecretBytes | None:
    """Read a secret from where its reference points: ``{ file = "PATH" }`` or ``{ env = "NAME" }``.

    One line break at the end is not part of it. A secret that stands in the configuration itself is refused.

    Returns:
        None if the option is not there.

    Raises:
        ProviderMisconfiguredError: no reference, or it points at nothing; the secret itself is never shown.
    """
    reference = settings.options.get(option)
    if reference is None:
        return None
    wanted = f'needs {option} = {{ file = "PATH" }} or {{ env = "NAME" }}; a secret does not stand in the configuration'
    if not isinstance(reference, Mapping) or len(reference) != 1:
        raise _misconfigured(settings, wanted)
    ((kind, value),) = reference.items()
    if kind not in {"file", "env"} or not isinstance(value, str) or not value or "\0" in value:
        raise _misconfigured(settings, wanted)
    material = (
        _from_file(settings, option, value) if kind == "file" else _from_environment(settings, option, value)
    )
    material = material.removesuffix(b"\n").removesuffix(b"\r")
    if not material:
        raise _misconfigured(settings, f"{option}: the secret that {kind} = {value!r} points at is empty")
    return SecretBytes(material)


def _from_file(settings: ProviderSettings, option: str, value: str) -> bytes:
    path = settings.folder / value
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            material = file.read(_MOST_SECRET_BYTES + 1)
    except OSError as error:
        raise _misconfigured(settings, f"{option}: {path} cannot be read ({error.strerror})") from error
    if mode & 0o077:
        raise _misconfigured(settings, f"{option}: others may read {path}; run: chmod 600 {path}")
    if len(material) > _MOST_SECRET_BYTES:
        raise _misconfigured(settings, f"{option}: {path} is over {_MOST_SECRET_BYTES:,} bytes")
    return material


def _from_environment(settings: ProviderSettings, option: str, value: str) -> bytes:
    text = os.environ.get(value)
    if text is None:
        raise _misconfigured(settings, f"{option}: there is no environment variable {value}")
    return os.fsencode(text)


def _misconfigured(settings: ProviderSettings, what: str) -> ProviderMisconfiguredError:
    return ProviderMisconfiguredError(f"[providers.{settings.name}] {what}", provider=settings.name)
