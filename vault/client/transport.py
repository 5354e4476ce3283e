"""HTTP exchanges: bytes out, a document or a named error back."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import urllib3
from urllib3.exceptions import (
    ClosedPoolError,
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    SSLError,
)

import vault
from vault.client.documents import decode
from vault.client.errors import ConnectionFailed, StrongroomError, UnexpectedAnswer
from vault.client.problems import problem_error
from vault.client.retrying import RetryPolicy, advised_seconds

KEY_HEADER = "Idempotency-Key"
# As many threads as wait at once for the vault keep their connections; none is made before it is needed.
_POOLED_CONNECTIONS = 64


@dataclass(frozen=True, slots=True)
class Exchange:
    """What happened on the wire, for metrics and traces: nothing personal is in it.

    Attributes:
        path: path and query as sent.
        status: the HTTP status, or None if no answer came.
        attempt: 1, or more if the request was sent before.
    """

    method: str
    path: str
    status: int | None
    seconds: float
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be sent.

    Attributes:
        method: the HTTP method.
        path: starts with ``/``; its segments are safe as they stand. Never personal values: URLs end in logs.
        headers: sent as they are, credential included.
        content: the body, or None.
        reads: it changes nothing, so that it may be sent again.
        waits: False if a pause before another try is of no use.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)
    reads: bool = False
    waits: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer.

    Attributes:
        document: None if there was no body.
        replayed: the server had carried out the request before.
    """

    status: int
    document: Any = field(repr=False)
    etag: str | None
    replayed: bool


class Transport:
    """Keeps connections to one server, and nothing else: no redirects, no proxies from the environment.

    Args:
        url: as ``vault.client.address`` has checked it.
        tls: for https.
        timeout_seconds: for connecting, and for each wait on the answer.
        exact_numbers: see ``vault.client.documents.decode``.
        retrying: when a request is sent again.
        observer: called after each exchange.
    """

    def __init__(
        self,
        url: urllib3.util.Url,
        *,
        tls: ssl.SSLContext | None,
        timeout_seconds: float,
        exact_numbers: bool,
        retrying: RetryPolicy,
        observer: Callable[[Exchange], None] | None,
    ) -> None:
        self.server = url.url.rstrip("/")
        self._url = url
        self._prefix = (url.path or "").rstrip("/")
        self._tls = tls
        self._timeout_seconds = timeout_seconds
        self._exact_numbers = exact_numbers
        self._retrying = retrying
        self._observer = observer
        self._is_closed = False
        # By process id: a forked child that went on with its parent's sockets would read answers meant for others.
        # The parent's stay referred to, because their end would take a lock that a thread of the parent may hold.
        self._pools: dict[int, urllib3.HTTPConnectionPool] = {}

    def close(self) -> None:
        """Close the pooled connections of this process."""
        self._is_closed = True
        pool = self._pools.get(os.getpid())
        if pool is not None:
            pool.close()

    def exchange(self, request: Request) -> Answer:
        """Send a request, again if that is safe and may help, and return its successful answer.

        Raises:
            StrongroomError: every other outcome, as drawn in ``vault.client.errors``.
        """
        tries = self._retrying.begin(
            reads=request.reads, key=request.headers.get(KEY_HEADER), waits=request.waits
        )
        headers = {
            "Accept": "application/json, application/problem+json",
            "User-Agent": f"strongroom-client/{vault.__version__}",
            **request.headers,
        }
        while True:
            try:
                return self._answer(self._send(request, headers, attempt=tries.count))
            except StrongroomError as error:
                if not tries.go_on_after(error):
                    raise

    def _pool(self) -> urllib3.HTTPConnectionPool:
        if self._is_closed:
            raise ConnectionFailed("The client is closed.", code="client-closed", title="No answer")
        process = os.getpid()
        # Two threads may both make one: neither has a connection yet, and one of them is kept.
        return self._pools.get(process) or self._pools.setdefault(process, self._new_pool())

    def _new_pool(self) -> urllib3.HTTPConnectionPool:
        host, port = self._url.host or "", self._url.port
        timeout = urllib3.Timeout(connect=self._timeout_seconds, read=self._timeout_seconds)
        if self._tls is None:
            return urllib3.HTTPConnectionPool(host, port, timeout=timeout, maxsize=_POOLED_CONNECTIONS)
        return urllib3.HTTPSConnectionPool(
            host, port, timeout=timeout, maxsize=_POOLED_CONNECTIONS, ssl_context=self._tls
        )

    def _send(
        self, request: Request, headers: Mapping[str, str], *, attempt: int
    ) -> urllib3.BaseHTTPResponse:
        pool = self._pool()
        target = self._prefix + request.path
        start = time.perf_counter()
        status = None
        try:
            # No redirects: the credential goes to the server that was named, and to no other.
            response = pool.urlopen(
                request.method, target, body=request.content, headers=headers, retries=False, redirect=False
            )
            status = response.status
        except HTTPError as error:
            raise self._connection_failed(error) from error
        finally:
            if self._observer is not None:
                seconds = time.perf_counter() - start
                self._observer(Exchange(request.method, target, status, seconds, attempt))
        return response

    def _connection_failed(self, error: HTTPError) -> ConnectionFailed:
        is_unsent = isinstance(error, ClosedPoolError | NewConnectionError | ConnectTimeoutError)
        if isinstance(error, ClosedPoolError):
            code, detail = "client-closed", "The client is closed."
        elif isinstance(error, SSLError) and isinstance(_tls_cause(error), ssl.SSLEOFError):
            # Its last word, which would say why, is lost to whoever is still sending.
            code = "connection-lost"
            detail = (
                f"{self.server} ended the TLS connection before it answered: it went away, or it wants another "
                "client certificate."
            )
        elif isinstance(error, SSLError):
            is_unsent = _is_about_trust(error)
            code, detail = "tls", f"No trusted TLS connection to {self.server}: {error}"
        elif isinstance(error, NewConnectionError):
            code, detail = "connection-refused", f"No connection to {self.server}: {_cause(error)}."
        elif isinstance(error, urllib3.exceptions.TimeoutError):
            code, detail = "timeout", f"No answer from {self.server} within {self._timeout_seconds:g} s."
        else:
            code, detail = "connection-lost", f"The connection to {self.server} broke before the answer came."
        failure = ConnectionFailed(detail, code=code, title="No answer")
        failure.outcome_unknown = not is_unsent
        return failure

    def _answer(self, response: urllib3.BaseHTTPResponse) -> Answer:
        ok = 200 <= response.status < 300  # noqa: PLR2004 - the HTTP success class
        try:
            document = decode(response.data, exact_numbers=self._exact_numbers) if response.data else None
        except ValueError:
            document = None
            if ok:
                # The body is not repeated: whatever it is, it is not ours to show.
                failure = UnexpectedAnswer(
                    f"{self.server} answered {response.status} with something that is not JSON: is this a Strongroom?",
                    status=response.status,
                    code="unexpected-answer",
                )
                failure.outcome_unknown = True
                raise failure from None
        headers = response.headers
        if ok:
            replayed = headers.get("Idempotency-Replayed") == "true"
            return Answer(response.status, document, headers.get("ETag"), replayed)
        raise problem_error(
            response.status, document, retry_after=advised_seconds(headers.get("Retry-After"))
        )


def _cause(error: NewConnectionError) -> str:
    cause = error.__cause__
    return cause.strerror if isinstance(cause, OSError) and cause.strerror else "nobody listens there"


def _tls_cause(error: SSLError) -> object:
    return error.args[0] if error.args else None


def _is_about_trust(error: SSLError) -> bool:
    """Whether no connection came about: one side did not accept the other, or does not speak TLS."""
    cause = _tls_cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return True
    reason = str(getattr(cause, "reason", None) or "")
    return any(word in reason for word in ("CERT", "UNKNOWN_CA", "HANDSHAKE", "VERSION", "PROTOCOL"))
