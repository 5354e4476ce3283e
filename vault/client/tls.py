"""TLS: whom the client trusts, and what it shows of itself."""

from __future__ import annotations

import ssl
from pathlib import Path

from vault.client.errors import Misconfigured

FilePath = str | Path
ClientCertificate = FilePath | tuple[FilePath, FilePath]


class _KeyIsEncryptedError(Exception):
    pass


def tls_context(*, ca: Path | None, client_certificate: ClientCertificate | None) -> ssl.SSLContext:
    """Return what HTTPS connections are made with: certificates and names are always checked.

    Args:
        ca: PEM file of the authorities to trust instead of the system's.
        client_certificate: PEM file with certificate and key, or one file for each.

    Raises:
        Misconfigured: a file that cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError, for a file without certificates, is one of them
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise Misconfigured(f"The authorities' file {ca} cannot be used: {reason}.", code="ca") from error
    if client_certificate is not None:
        _show(context, client_certificate)
    return context


def _show(context: ssl.SSLContext, client_certificate: ClientCertificate) -> None:
    if isinstance(client_certificate, tuple):
        certificate, key = (Path(path) for path in client_certificate)
    else:
        certificate = key = Path(client_certificate)
    for path in (certificate, key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise _unusable(f"The file {path} cannot be read: {error.strerror}.") from error
    try:
        context.load_cert_chain(certificate, key, password=_refuse_to_ask)
    except _KeyIsEncryptedError:
        raise _unusable(
            f"The key in {key} is encrypted. Give one without a pass phrase that only its owner may read: "
            f"(umask 077; openssl pkey -in {key} -out client-key.pem)"
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _unusable(f"The key in {key} is not that of the certificate in {certificate}.") from error
        raise _unusable(
            f"No certificate in {certificate} with its key in {key}: both are PEM files (-----BEGIN ...)."
        ) from error


def _refuse_to_ask() -> str:
    # Without this OpenSSL would ask for a pass phrase on the terminal of whoever runs the service.
    raise _KeyIsEncryptedError


def _unusable(detail: str) -> Misconfigured:
    return Misconfigured(detail, code="client-certificate")
