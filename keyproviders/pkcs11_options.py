"""The table ``[providers.NAME]`` of a PKCS#11 token, read and checked without loading the module that it names."""

from __future__ import annotations

import sysconfig
from dataclasses import dataclass
from pathlib import Path

from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import ProviderSettings, SecretBytes
from keyproviders.options import (
    number_option,
    path_option,
    refuse_unknown_options,
    secret_option,
    text_option,
)

__all__ = ["A256GCM", "A256KWP", "ALGORITHMS", "AUTO", "Pkcs11Options", "read_options"]

A256GCM = "A256GCM"
"""AES-256-GCM inside the token; the context is authenticated."""

A256KWP = "A256KWP"
"""AES-256 key wrap with padding (RFC 5649) inside the token; no context."""

AUTO = "auto"
"""The administrator makes A256GCM keys where the token can use them, otherwise A256KWP keys."""

ALGORITHMS = (AUTO, A256GCM, A256KWP)

_KNOWN = (
    "module",
    "token_label",
    "token_serial",
    "pin",
    "user",
    "lock_folder",
    "wait_seconds",
    "generate_inside",
)
_ADMIN_KNOWN = ("algorithm",)
_WAIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class Pkcs11Options:
    """How to reach one token.

    Attributes:
        provider: the configured name of the provider.
        module: the PKCS#11 library, symbolic links resolved, so that it is loaded once however it is spelt.
        token_label: the token's label, or None if it is chosen by serial number.
        token_serial: the token's serial number, or None if it is chosen by label.
        pin: what is shown at login; ``USER:PIN`` where a user is configured.
        lock_folder: where the lock file is that all processes of this machine share.
        wait_seconds: how long a call waits for its turn at the token.
        generate_inside: data keys come from the token's generator.
        algorithm: what the administrator makes: ``auto``, ``A256GCM`` or ``A256KWP``.
    """

    provider: str
    module: Path
    token_label: str | None
    token_serial: str | None
    pin: SecretBytes
    lock_folder: Path
    wait_seconds: float
    generate_inside: bool
    algorithm: str

    @property
    def token_name(self) -> str:
        """The token as an error names it."""
        if self.token_label is not None:
            return f"token {self.token_label!r}"
        return f"token with serial number {self.token_serial!r}"


def read_options(settings: ProviderSettings) -> Pkcs11Options:
    """Read the table of a PKCS#11 provider.

    Raises:
        ProviderMisconfiguredError: an option is unknown, missing or wrong, or the module is not there.
    """
    refuse_unknown_options(settings, known=_KNOWN)
    _refuse_unknown_admin_options(settings)
    label, serial = (_optional_text(settings, option) for option in ("token_label", "token_serial"))
    if (label is None) == (serial is None):
        raise _misconfigured(settings, "needs exactly one of token_label and token_serial")
    return Pkcs11Options(
        provider=settings.name,
        module=_module(settings),
        token_label=label,
        token_serial=serial,
        pin=_pin(settings),
        lock_folder=_lock_folder(settings),
        wait_seconds=number_option(settings, "wait_seconds", _WAIT_SECONDS, least=0.1, most=60),
        generate_inside=_flag(settings, "generate_inside"),
        algorithm=_algorithm(settings),
    )


def _refuse_unknown_admin_options(settings: ProviderSettings) -> None:
    unknown = sorted(set(settings.admin) - set(_ADMIN_KNOWN))
    if unknown:
        raise ProviderMisconfiguredError(
            f"[providers.{settings.name}.admin] has unknown options: {', '.join(unknown)} "
            f"(known are: {', '.join(_ADMIN_KNOWN)})",
            provider=settings.name,
        )


def _optional_text(settings: ProviderSettings, option: str) -> str | None:
    return text_option(settings, option) if option in settings.options else None


def _flag(settings: ProviderSettings, option: str) -> bool:
    value = settings.options.get(option, False)
    if not isinstance(value, bool):
        raise _misconfigured(settings, f"needs {option} = true or false")
    return value


def _algorithm(settings: ProviderSettings) -> str:
    value = settings.admin.get("algorithm", AUTO)
    if not isinstance(value, str) or value not in ALGORITHMS:
        raise ProviderMisconfiguredError(
            f"[providers.{settings.name}.admin] needs algorithm = one of {', '.join(ALGORITHMS)}",
            provider=settings.name,
        )
    return value


def _pin(settings: ProviderSettings) -> SecretBytes:
    pin = secret_option(settings, "pin")
    if pin is None:
        raise _misconfigured(settings, 'needs pin = { file = "PATH" } or { env = "NAME" }')
    try:
        pin.reveal().decode()
    except UnicodeDecodeError:
        is_text = False
    else:
        is_text = True
    if not is_text:  # raised here: the decoder's own error carries the PIN
        raise _misconfigured(settings, "pin: what it points at is no UTF-8 text")
    user = _optional_text(settings, "user")
    return pin if user is None else SecretBytes(f"{user}:".encode() + pin.reveal())


def _lock_folder(settings: ProviderSettings) -> Path:
    folder = path_option(settings, "lock_folder") if "lock_folder" in settings.options else settings.folder
    if not folder.is_dir():
        raise _misconfigured(
            settings, f'lock_folder: {folder} is no folder; make it, or set lock_folder = "PATH"'
        )
    return folder


def _module(settings: ProviderSettings) -> Path:
    text = text_option(settings, "module")
    # A bare name is looked up in the system's folders only: the folder of the configuration is no place for programs.
    candidates = [settings.folder / text] if "/" in text else [each / text for each in _library_folders()]
    for candidate in candidates:
        if candidate.is_file():
            return candidate.resolve()
    places = ", ".join(str(candidate.parent) for candidate in candidates)
    raise _misconfigured(
        settings,
        f"module: there is no {Path(text).name} in {places}; install the token's PKCS#11 library, or name its path",
    )


def _library_folders() -> list[Path]:
    architecture = sysconfig.get_config_var("MULTIARCH")
    libraries = [f"/usr/lib/{architecture}"] if architecture else []
    libraries += ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64", "/opt/homebrew/lib"]
    return [Path(library, part) for library in libraries for part in ("pkcs11", "softhsm", "")]


def _misconfigured(settings: ProviderSettings, what: str) -> ProviderMisconfiguredError:
    return ProviderMisconfiguredError(f"[providers.{settings.name}] {what}", provider=settings.name)
