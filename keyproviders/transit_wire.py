"""One process's connections to a transit server: a request goes out, an answer or an error of ours comes back.

The only module that knows hvac and requests. It takes hvac's adapter and not its ``Client``: the client fills every
gap from ``VAULT_*`` variables and ``~/.vault-token``.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import certifi
import hvac.adapters
import requests
from requests import exceptions
from requests.adapters import HTTPAdapter

from keyproviders.errors import (
    KeyProviderError,
    ProviderMisconfiguredError,
    ProviderSealedError,
    ProviderThrottledError,
    ProviderUnavailableError,
)
from keyproviders.interface import SecretBytes
from keyproviders.transit_options import TransitOptions

__all__ = ["Answer", "TransitWire"]

# More threads than this still work: each one over it connects anew.
_KEPT_CONNECTIONS = 64
_ANSWERED = {
    HTTPStatus.OK,
    HTTPStatus.NO_CONTENT,
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}
_SAYS_SOMETHING = _ANSWERED - {HTTPStatus.NO_CONTENT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}
_LONGEST_WAIT_SECONDS = 3600.0
# How a kept connection shows that its other end is gone. http.client's RemoteDisconnected is a ConnectionResetError.
_CUT_OFF = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
# TLS answers that no waiting mends. All others (a peer that goes away in the handshake) may pass.
_LASTING_TLS_REASONS = (
    "WRONG_VERSION_NUMBER",
    "UNSUPPORTED_PROTOCOL",
    "ALERT",
    "CERTIFICATE",
    "HTTP_REQUEST",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said, where it said yes, or no to this very request.

    Attributes:
        status: 200, 204, 400, 403, 404, 405 or 413.
        document: the JSON object; empty if there was none. It may hold key material.
    """

    status: int
    document: Mapping[str, Any] = field(repr=False)

    @property
    def data(self) -> Mapping[str, Any]:
        """The ``data`` of the document, or nothing."""
        data = self.document.get("data")
        return data if isinstance(data, Mapping) else {}

    @property
    def complaint(self) -> str:
        """What the server calls wrong, in lower case. For comparing only: it is never shown."""
        errors = self.document.get("errors")
        return " ".join(map(str, errors)).lower() if isinstance(errors, list) else ""


class TransitWire:
    """Connections of one process; any thread may send.

    Args:
        options: where the server is and how it proves itself.

    Security: the environment is never asked for anything: no proxy, no netrc, no certificate, no token, no TLS key
        log. Redirects are not followed: they would carry the token to another host.
    """

    def __init__(self, options: TransitOptions) -> None:
        self._options = options
        certificates = str(options.ca) if options.ca is not None else certifi.where()
        session = requests.Session()
        session.trust_env = False
        # hvac lets the session's value win over its own argument, and a session's value is True unless set.
        session.verify = certificates
        session.mount("https://", _OwnTls(_tls(options, certificates)))
        session.mount("http://", HTTPAdapter(pool_maxsize=_KEPT_CONNECTIONS))
        self._adapter = hvac.adapters.RawAdapter(
            base_uri=options.url,
            token="",
            verify=certificates,
            timeout=options.timeouts,
            proxies={},
            allow_redirects=False,
            session=session,
            namespace=options.namespace,
        )

    def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: SecretBytes | None = None,
        is_repeatable: bool = True,
    ) -> Answer:
        """Send one request, and once more at once if a kept connection turned out to be dead.

        Args:
            method: GET, POST or PUT.
            path: below ``/v1/``.
            body: becomes JSON.
            token: what to show; None for a login.
            is_repeatable: False if carrying it out twice would do more than once.

        Raises:
            ProviderUnavailableError: refused, too slow, cut off, or a 5xx answer; sealed and throttled apart.
            ProviderMisconfiguredError: TLS does not trust the server or the server does not trust us.
        """
        outcome = self._attempt(method, path, body, token)
        if outcome is None and is_repeatable:
            outcome = self._attempt(method, path, body, token)
        if outcome is None:
            outcome = self._unavailable("cut the connection without an answer")
        if isinstance(outcome, KeyProviderError):
            raise outcome
        return outcome

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._adapter.close()

    def _attempt(
        self, method: str, path: str, body: Mapping[str, Any] | None, token: SecretBytes | None
    ) -> Answer | KeyProviderError | None:
        """Return an error instead of raising it: what requests raises holds the request, token and all."""
        headers = {} if token is None else {"X-Vault-Token": token.reveal().decode()}
        try:
            response = self._adapter.request(
                method.lower(), f"/v1/{path}", headers=headers, json=body, raise_exception=False
            )
        except exceptions.Timeout as error:
            is_connecting = isinstance(error, exceptions.ConnectTimeout)
            seconds = self._options.timeouts[0 if is_connecting else 1]
            return self._unavailable(
                f"did not {'accept a connection' if is_connecting else 'answer'} within {seconds:g} s"
            )
        except exceptions.ConnectionError as error:  # SSLError is one
            return self._lost(error)
        except exceptions.RequestException as error:
            return self._unavailable(f"could not be asked ({type(error).__name__})")
        return self._judged(response)

    def _lost(self, error: Exception) -> KeyProviderError | None:
        causes = list(_causes(error))
        of_tls = [each for each in causes if isinstance(each, ssl.SSLError)]
        reasons = [each.reason for each in of_tls if getattr(each, "library", None) == "SSL" and each.reason]
        if any(isinstance(each, ssl.SSLCertVerificationError) for each in causes):
            return self._misconfigured(
                "shows a TLS certificate that is not trusted for this address; set ca to the CA that signed it"
            )
        if any(lasting in reason for reason in reasons for lasting in _LASTING_TLS_REASONS):
            return self._misconfigured(
                f"does not come to terms with us in TLS ({', '.join(reasons)}); check url and client_certificate"
            )
        # Another library in this process that uses OpenSSL may leave an error behind in the thread, and Python takes it
        # for one of the connection at hand. So no other TLS error is final.
        if of_tls or any(isinstance(each, _CUT_OFF) for each in causes):
            return None
        if any(isinstance(each, ConnectionRefusedError) for each in causes):
            return self._unavailable("refuses connections; is the server running at url?")
        return self._unavailable(f"could not be reached ({type(error).__name__})")

    def _judged(self, response: requests.Response) -> Answer | KeyProviderError:
        status = response.status_code
        document = _document(response)
        answer = Answer(HTTPStatus.FORBIDDEN if status == HTTPStatus.UNAUTHORIZED else status, document or {})
        if answer.status in _ANSWERED:
            if document is None and answer.status in _SAYS_SOMETHING:
                return self._unavailable(
                    "answered with something that is no JSON object; does url lead to it?"
                )
            return answer
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return ProviderThrottledError(
                self._sentence("has a rate limit, and we are over it"),
                provider=self._options.provider,
                retry_after_seconds=_retry_after(response),
            )
        sealed = status == HTTPStatus.SERVICE_UNAVAILABLE and "sealed" in answer.complaint
        if sealed or status == HTTPStatus.NOT_IMPLEMENTED or "not initialized" in answer.complaint:
            return ProviderSealedError(
                self._sentence("is sealed or not initialised; an operator has to unseal it"),
                provider=self._options.provider,
            )
        if response.is_redirect:
            return self._unavailable("redirects elsewhere, and we do not follow; set url to the active node")
        return self._unavailable(f"answered with status {status}")

    def _sentence(self, what: str) -> str:
        return f"the transit server of provider {self._options.provider!r} {what}"

    def _unavailable(self, what: str) -> ProviderUnavailableError:
        return ProviderUnavailableError(self._sentence(what), provider=self._options.provider)

    def _misconfigured(self, what: str) -> ProviderMisconfiguredError:
        return ProviderMisconfiguredError(self._sentence(what), provider=self._options.provider)


class _OwnTls(HTTPAdapter):
    """Connects with a TLS context of ours: urllib3's own one writes its keys to SSLKEYLOGFILE if that is set."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        super().__init__(pool_maxsize=_KEPT_CONNECTIONS)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options, ssl_context=self._context)


def _tls(options: TransitOptions, certificates: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=certificates)
    if options.client_certificate is not None:
        context.load_cert_chain(*options.client_certificate)
    return context


def _document(response: requests.Response) -> Mapping[str, Any] | None:
    try:
        document = response.json()
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT_SECONDS) if text.isascii() and text.isdigit() else None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Everything that an error of requests or urllib3 wraps, itself first."""
    found: list[BaseException] = [error]
    for each in found:  # grows while it is walked
        inner = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        found += [cause for cause in inner if isinstance(cause, BaseException) and cause not in found]
    yield from found
