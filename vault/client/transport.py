"""One HTTP exchange: bytes out, a document or a named error back. The only place that knows urllib3."""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    SSLError,
)

import vault
from vault.client.documents import decode, encode
from vault.client.errors import ConnectionFailed, Misconfigured, UnexpectedAnswer
from vault.client.problems import problem_error

_POOLED_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Exchange:
    """What happened on the wire, for metrics and traces: nothing personal is in it.

    Attributes:
        path: path and query as sent.
        status: the HTTP status, or None if no answer came.
    """

    method: str
    path: str
    status: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer: its status, document (None if there was no body) and ETag."""

    status: int
    document: Any
    etag: str | None


class Transport:
    """Keeps connections to one server, and nothing else: no redirects, no proxies from the environment.

    Args:
        server: ``https://host[:port][/prefix]``, or ``http://`` to this machine.
        timeout_seconds: for connecting, and for each wait on the answer.
        ca: PEM file of the authorities to trust instead of the system's.
        insecure_http: allow ``http://`` to another machine.
        exact_numbers: see ``vault.client.documents.decode``.
        observer: called after each exchange.

    Raises:
        Misconfigured: an address that cannot be used safely, or an unreadable ``ca``.
    """

    def __init__(
        self,
        server: str,
        *,
        timeout_seconds: float,
        ca: Path | None,
        insecure_http: bool,
        exact_numbers: bool,
        observer: Callable[[Exchange], None] | None,
    ) -> None:
        url = _server_url(server, insecure_http=insecure_http)
        self.server = url.url.rstrip("/")
        self._prefix = (url.path or "").rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._exact_numbers = exact_numbers
        self._observer = observer
        timeout = urllib3.Timeout(connect=timeout_seconds, read=timeout_seconds)
        if url.scheme == "https":
            self._pool: urllib3.HTTPConnectionPool = urllib3.HTTPSConnectionPool(
                url.host or "", url.port, timeout=timeout, maxsize=_POOLED_CONNECTIONS, ssl_context=_tls(ca)
            )
        else:
            self._pool = urllib3.HTTPConnectionPool(
                url.host or "", url.port, timeout=timeout, maxsize=_POOLED_CONNECTIONS
            )

    def close(self) -> None:
        """Close the pooled connections."""
        self._pool.close()

    def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, str | int | None] | None = None,
        body: Any = None,
        media_type: str = "application/json",
    ) -> Answer:
        """Send one request and return its successful answer.

        Args:
            method: the HTTP method.
            path: starts with ``/``; its segments are safe as they stand.
            headers: sent as they are, credential included.
            query: parameters; those that are None are left out. Never personal values: URLs end in logs.
            body: a document to send as JSON, or None for no body.
            media_type: of the body.

        Raises:
            StrongroomError: every other outcome, as drawn in ``vault.client.errors``.
        """
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = self._prefix + path + (f"?{urlencode(given)}" if given else "")
        sent_headers = {
            "Accept": "application/json, application/problem+json",
            "User-Agent": f"strongroom-client/{vault.__version__}",
            **headers,
        }
        content = None
        if body is not None:
            content = encode(body)
            sent_headers["Content-Type"] = media_type
        response = self._send(method, target, headers=sent_headers, content=content)
        return self._answer(response)

    def _send(
        self, method: str, target: str, *, headers: Mapping[str, str], content: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        # A GET is sent a second time when the first could not be delivered or answered: a pooled connection may
        # have died of old age. Writes are not, until they carry an idempotency key; retries with jitter go here.
        try:
            return self._send_once(method, target, headers=headers, content=content)
        except ConnectionFailed as error:
            if method != "GET" or error.code != "connection-lost":
                raise
        return self._send_once(method, target, headers=headers, content=content)

    def _send_once(
        self, method: str, target: str, *, headers: Mapping[str, str], content: bytes | None
    ) -> urllib3.BaseHTTPResponse:
        start = time.perf_counter()
        status = None
        try:
            # No redirects: the credential goes to the server that was named, and to no other.
            response = self._pool.urlopen(
                method, target, body=content, headers=headers, retries=False, redirect=False
            )
            status = response.status
        except HTTPError as error:
            raise self._connection_failed(error, method) from error
        finally:
            if self._observer is not None:
                self._observer(Exchange(method, target, status, time.perf_counter() - start))
        return response

    def _connection_failed(self, error: HTTPError, method: str) -> ConnectionFailed:
        before_sending = isinstance(
            error, ClosedPoolError | NewConnectionError | ConnectTimeoutError | SSLError
        )
        if isinstance(error, ClosedPoolError):
            code, detail = "client-closed", "The client is closed."
        elif isinstance(error, SSLError):
            code, detail = "tls", f"No trusted TLS connection to {self.server}: {error}"
        elif isinstance(error, NewConnectionError):
            code, detail = "connection-refused", f"No connection to {self.server}: {_cause(error)}."
        elif isinstance(error, urllib3.exceptions.TimeoutError):
            code, detail = "timeout", f"No answer from {self.server} within {self._timeout_seconds:g} s."
        else:
            code, detail = "connection-lost", f"The connection to {self.server} broke before the answer came."
        failure = ConnectionFailed(detail, code=code, title="No answer")
        failure.outcome_unknown = method != "GET" and not before_sending
        return failure

    def _answer(self, response: urllib3.BaseHTTPResponse) -> Answer:
        ok = 200 <= response.status < 300  # noqa: PLR2004 - the HTTP success class
        try:
            document = decode(response.data, exact_numbers=self._exact_numbers) if response.data else None
        except ValueError:
            # The body is not repeated: whatever it is, it is not ours to show.
            raise UnexpectedAnswer(
                f"{self.server} answered {response.status} with something that is not JSON: is this a Strongroom?",
                status=response.status,
                code="unexpected-answer",
            ) from None
        if ok:
            return Answer(response.status, document, response.headers.get("ETag"))
        raise problem_error(response.status, document, retry_after=response.headers.get("Retry-After"))


def _cause(error: NewConnectionError) -> str:
    cause = error.__cause__
    return cause.strerror if isinstance(cause, OSError) and cause.strerror else "nobody listens there"


def _server_url(server: str, *, insecure_http: bool) -> urllib3.util.Url:
    try:
        url = urllib3.util.parse_url(server)
    except LocationParseError:
        raise Misconfigured("The server's address is not a URL.", code="server-address") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise Misconfigured(
            "The server's address must look like https://vault.example.com or http://127.0.0.1:8420.",
            code="server-address",
        )
    if url.auth or url.query or url.fragment:
        raise Misconfigured(
            "The server's address must hold no user, query or fragment; pass the credential as credential or credential_file.",
            code="server-address",
        )
    if url.scheme == "http" and not insecure_http and not _is_loopback(url.host):
        raise Misconfigured(
            f"http:// to {url.host} would carry the credential and every record in the clear. Use https://, or "
            "allow it with insecure_http if something else encrypts this way.",
            code="insecure-http",
        )
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _tls(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError, for a file without certificates, is one of them
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise Misconfigured(f"The authorities' file {ca} cannot be used: {reason}.", code="ca") from error
