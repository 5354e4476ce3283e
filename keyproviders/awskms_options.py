"""The options of type ``awskms``: where the service is, and with which credentials. Nothing is taken from elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
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

__all__ = ["AwsKmsOptions", "administration_options", "run_time_options"]

_CREDENTIALS = ("access_key_id", "secret_access_key", "session_token", "credentials")
_PLACE = ("region", "endpoint", "ca", "prefix", "connect_timeout_seconds", "read_timeout_seconds")
_AMBIENT = "ambient"
# What AWS allows in the name of an alias.
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,64}(/[A-Za-z0-9_-]{1,64}){0,3}", re.ASCII)
_LONGEST_SECONDS = 60
_DELETION_DAYS = 30


@dataclass(frozen=True, slots=True)
class AwsKmsOptions:
    """What a door of this provider is opened with.

    Attributes:
        provider: the configured name of the provider.
        region: for example ``eu-central-1``.
        endpoint: the URL of the service, or None for the public one of the region.
        ca: a file of certificates to trust instead of the usual ones, or None.
        prefix: aliases are ``alias/PREFIX/KEY/vN``.
        access_key_id: None if the credentials are ambient: AWS's own search through environment, profiles
            and the machine's role.
        secret_access_key: as above.
        session_token: for temporary credentials.
        connect_timeout_seconds: how long to wait for a connection.
        read_timeout_seconds: how long to wait for an answer.
        deletion_days: how long AWS waits before it deletes a destroyed version; administration only.
    """

    provider: str
    region: str
    endpoint: str | None
    ca: Path | None
    prefix: str
    access_key_id: str | None
    secret_access_key: SecretBytes | None
    session_token: SecretBytes | None
    connect_timeout_seconds: float
    read_timeout_seconds: float
    deletion_days: int = _DELETION_DAYS

    @property
    def is_ambient(self) -> bool:
        """Whether AWS's own search for credentials is used."""
        return self.access_key_id is None


def run_time_options(settings: ProviderSettings) -> AwsKmsOptions:
    """Read ``[providers.NAME]``.

    Raises:
        ProviderMisconfiguredError: an option is missing, wrong or unknown.
    """
    refuse_unknown_options(settings, known={*_PLACE, *_CREDENTIALS})
    return _read(settings)


def administration_options(settings: ProviderSettings) -> AwsKmsOptions:
    """Read ``[providers.NAME]`` with the credentials of ``[providers.NAME.admin]``, and no others.

    Raises:
        ProviderMisconfiguredError: an option is missing, wrong or unknown, or administration has no credentials of
            its own.
    """
    refuse_unknown_options(settings, known={*_PLACE, *_CREDENTIALS})
    administration = replace(settings, name=f"{settings.name}.admin", options=settings.admin, admin={})
    refuse_unknown_options(administration, known={*_CREDENTIALS, "deletion_days"})
    days = number_option(administration, "deletion_days", _DELETION_DAYS, least=7, most=30)
    place = {name: value for name, value in settings.options.items() if name in _PLACE}
    own = {name: value for name, value in settings.admin.items() if name in _CREDENTIALS}
    options = _read(replace(administration, options={**place, **own}))
    return replace(options, provider=settings.name, deletion_days=int(days))


def _read(settings: ProviderSettings) -> AwsKmsOptions:
    access_key_id, secret_access_key, session_token = _credentials(settings)
    prefix = text_option(settings, "prefix", "strongroom")
    if not _PREFIX.fullmatch(prefix):
        raise _misconfigured(
            settings, "needs prefix = letters, digits, '_' and '-', in up to four parts divided by '/'"
        )
    endpoint = text_option(settings, "endpoint") if "endpoint" in settings.options else None
    if endpoint is not None and not endpoint.startswith(("https://", "http://127.0.0.1:", "http://[::1]:")):
        raise _misconfigured(settings, 'needs endpoint = "https://..." (http only on 127.0.0.1 or [::1])')
    return AwsKmsOptions(
        provider=settings.name,
        region=text_option(settings, "region"),
        endpoint=endpoint,
        ca=path_option(settings, "ca") if "ca" in settings.options else None,
        prefix=prefix,
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        session_token=session_token,
        connect_timeout_seconds=_seconds(settings, "connect_timeout_seconds", 1),
        read_timeout_seconds=_seconds(settings, "read_timeout_seconds", 2),
    )


def _seconds(settings: ProviderSettings, option: str, default: float) -> float:
    return number_option(settings, option, default, least=0.05, most=_LONGEST_SECONDS)


def _credentials(settings: ProviderSettings) -> tuple[str | None, SecretBytes | None, SecretBytes | None]:
    secret = secret_option(settings, "secret_access_key")
    token = secret_option(settings, "session_token")
    if "credentials" in settings.options:
        if settings.options["credentials"] != _AMBIENT:
            raise _misconfigured(settings, f'knows credentials = "{_AMBIENT}" only')
        if "access_key_id" in settings.options or secret is not None or token is not None:
            raise _misconfigured(
                settings, f'has both credentials = "{_AMBIENT}" and keys: remove one of them'
            )
        return None, None, None
    if secret is None or "access_key_id" not in settings.options:
        # Said openly: a server that picks up somebody's profile by accident works until that profile changes.
        raise _misconfigured(
            settings,
            'needs access_key_id = "..." and secret_access_key = { file = "PATH" }, or credentials = "ambient" '
            "for the role of the machine, the environment or a profile",
        )
    return text_option(settings, "access_key_id"), secret, token


def _misconfigured(settings: ProviderSettings, what: str) -> ProviderMisconfiguredError:
    return ProviderMisconfiguredError(f"[providers.{settings.name}] {what}", provider=settings.name)
