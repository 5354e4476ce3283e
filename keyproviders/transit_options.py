"""The options of type ``transit``: where the server is, whom it must prove to be, and how we log in to it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import ProviderSettings, SecretBytes
from keyproviders.options import (
    number_option,
    path_option,
    refuse_unknown_options,
    secret_option,
    text_option,
)

__all__ = ["AppRole", "StaticToken", "TransitOptions", "read_administration_options", "read_options"]

_KNOWN = {
    "url",
    "mount",
    "namespace",
    "ca",
    "auth",
    "client_certificate",
    "connect_timeout_seconds",
    "read_timeout_seconds",
    "max_batch",
    "insecure_http",
}
_DEFAULT_MAX_BATCH = 249
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", re.ASCII)
# What may stand in a header or a JSON string without surprise. requests puts a header it refuses into its error.
_CREDENTIAL = re.compile(rb"[\x21-\x7e]{1,4096}")


@dataclass(frozen=True, slots=True)
class _Secret:
    """Reads a secret anew each time, so that one that was replaced is found without a restart."""

    settings: ProviderSettings
    option: str
    provider: str

    def __call__(self) -> SecretBytes:
        with _reported_under(self.provider):
            secret = secret_option(self.settings, self.option)
            if secret is None:
                raise _wrong(self.settings, f'auth needs {self.option} = {{ file = "PATH" }}')
            if not _CREDENTIAL.fullmatch(secret.reveal()):
                raise _wrong(self.settings, f"{self.option}: only printable ASCII without spaces is allowed")
        return secret


@dataclass(frozen=True, slots=True)
class AppRole:
    """Log in with a role and its secret.

    Attributes:
        mount: where the auth method is, without ``auth/``.
        role_id: which role; no secret by itself.
        secret_id: reads the secret.
    """

    mount: str
    role_id: str
    secret_id: _Secret


@dataclass(frozen=True, slots=True)
class StaticToken:
    """Use a token that somebody else made. It is renewed while the server lets it be.

    Attributes:
        token: reads the token.
    """

    token: _Secret


@dataclass(frozen=True, slots=True)
class TransitOptions:
    """How to reach and use one transit engine.

    Attributes:
        provider: the configured name of the provider.
        url: without a path at its end.
        mount: where the transit engine is.
        namespace: the server's namespace, or None.
        ca: the certificates that may have signed the server's; None for those that requests ships.
        auth: how to log in.
        client_certificate: certificate and key to show in TLS, or None.
        timeouts: for connecting and for each wait on an answer, in seconds.
        max_batch: how many items one request carries at most.
    """

    provider: str
    url: str
    mount: str
    namespace: str | None
    ca: Path | None
    auth: AppRole | StaticToken
    client_certificate: tuple[Path, Path] | None
    timeouts: tuple[float, float]
    max_batch: int


def read_options(settings: ProviderSettings) -> TransitOptions:
    """Check every option of the run-time door.

    Raises:
        ProviderMisconfiguredError: an option is unknown, missing or wrong, or a file that it names is.
    """
    return _read(settings, settings.options.get("auth"), "auth")


def read_administration_options(settings: ProviderSettings) -> TransitOptions:
    """Check every option of the administration door, which logs in as ``[providers.NAME.admin]`` says.

    Raises:
        ProviderMisconfiguredError: an option is unknown, missing or wrong, or a file that it names is.
    """
    unknown = sorted(set(settings.admin) - {"auth"})
    if unknown:
        raise _wrong(settings, f"admin has unknown options: {', '.join(unknown)} (known is: auth)")
    return _read(settings, settings.admin.get("auth"), "admin.auth")


def _read(settings: ProviderSettings, auth: object, place: str) -> TransitOptions:
    refuse_unknown_options(settings, known=_KNOWN)
    ca = path_option(settings, "ca") if "ca" in settings.options else None
    certificate = _client_certificate(settings)
    _prove_certificates(settings, ca, certificate)
    return TransitOptions(
        provider=settings.name,
        url=_url(settings),
        mount=_engine_path(settings, "mount", "transit"),
        namespace=_engine_path(settings, "namespace") if "namespace" in settings.options else None,
        ca=ca,
        auth=_auth(settings, auth, place),
        client_certificate=certificate,
        timeouts=(
            number_option(settings, "connect_timeout_seconds", 1, least=0.05, most=60),
            number_option(settings, "read_timeout_seconds", 2, least=0.05, most=60),
        ),
        max_batch=int(number_option(settings, "max_batch", _DEFAULT_MAX_BATCH, least=1, most=10_000)),
    )


def _url(settings: ProviderSettings) -> str:
    url = text_option(settings, "url")
    wanted = 'needs url = "https://HOST:PORT"'
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _wrong(settings, wanted) from None
    # A password in a URL would end up in logs: the address itself is never repeated in an error.
    if parts.scheme not in {"https", "http"} or not host or parts.path.strip("/"):
        raise _wrong(settings, wanted)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise _wrong(settings, f"{wanted}, without a user, a query or a fragment")
    allowed = settings.options.get("insecure_http", False)
    if not isinstance(allowed, bool):
        raise _wrong(settings, "needs insecure_http = true or false")
    if parts.scheme == "http" and not allowed and not _is_loopback(host):
        raise _wrong(
            settings,
            "would send data keys over plain http to another machine; use https, or set insecure_http",
        )
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _engine_path(settings: ProviderSettings, option: str, default: str | None = None) -> str:
    value = text_option(settings, option, default).strip("/")
    if not _PATH.fullmatch(value):
        raise _wrong(settings, f"{option}: letters, digits, '.', '_' and '-' only, in parts separated by '/'")
    return value


def _client_certificate(settings: ProviderSettings) -> tuple[Path, Path] | None:
    table = settings.options.get("client_certificate")
    if table is None:
        return None
    if not isinstance(table, Mapping) or set(table) != {"certificate", "key"}:
        raise _wrong(settings, 'needs client_certificate = { certificate = "PATH", key = "PATH" }')
    inner = ProviderSettings(f"{settings.name}.client_certificate", table, settings.folder)
    with _reported_under(settings.name):
        paths = path_option(inner, "certificate"), path_option(inner, "key")
    with contextlib.suppress(OSError):  # one that is not there is found by the check that follows
        if os.stat(paths[1]).st_mode & 0o077:  # noqa: PTH116  (a str or Path either way)
            raise _wrong(settings, f"others may read {paths[1]}; run: chmod 600 {paths[1]}")
    return paths


def _prove_certificates(
    settings: ProviderSettings, ca: Path | None, certificate: tuple[Path, Path] | None
) -> None:
    """Find unreadable certificates before the first call does."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca is not None:
        try:
            context.load_verify_locations(cafile=ca)
        except OSError as error:  # ssl.SSLError is one
            raise _wrong(settings, f"ca: {ca} is missing or holds no certificates in PEM form") from error
    if certificate is not None:
        try:
            # A passphrase would be asked for on the terminal of a server.
            context.load_cert_chain(*certificate, password="")
        except OSError as error:
            raise _wrong(
                settings,
                "client_certificate: certificate and key are missing, do not match, or have a passphrase",
            ) from error


def _auth(settings: ProviderSettings, auth: object, place: str) -> AppRole | StaticToken:
    wanted = f'needs {place} = {{ method = "approle", role_id = "..", secret_id = {{ file = "PATH" }} }} or {{ method = "token", .. }}'
    if not isinstance(auth, Mapping):
        raise _wrong(settings, wanted)
    options = {name: value for name, value in auth.items() if name != "method"}
    inner = ProviderSettings(f"{settings.name}.{place}", options, settings.folder)
    with _reported_under(settings.name):
        match auth.get("method"):
            case "approle":
                refuse_unknown_options(inner, known={"role_id", "secret_id", "mount"})
                secret = _Secret(inner, "secret_id", settings.name)
                secret()
                return AppRole(_engine_path(inner, "mount", "approle"), text_option(inner, "role_id"), secret)
            case "token":
                refuse_unknown_options(inner, known={"token"})
                secret = _Secret(inner, "token", settings.name)
                secret()
                return StaticToken(secret)
    raise _wrong(settings, wanted)


@contextlib.contextmanager
def _reported_under(provider: str) -> Iterator[None]:
    """Report an error of an inner table under the provider's own name."""
    try:
        yield
    except ProviderMisconfiguredError as error:
        error.provider = provider
        raise


def _wrong(settings: ProviderSettings, what: str) -> ProviderMisconfiguredError:
    return ProviderMisconfiguredError(f"[providers.{settings.name}] {what}", provider=settings.name)
