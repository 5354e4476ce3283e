"""What a worker answers before its keys can be had: 503, and to whoever watches it, why.

A process without its MAC and index keys can check and find nothing, so it serves nothing. It goes on trying, and hands
over to the real application with the first success.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from keyproviders.errors import KeyProviderError
from keyproviders.health import status_of
from vault.core.errors import UnavailableError
from vault.telemetry.logs import event_logger

RETRY_SECONDS = 1.0
"""How long to wait between tries."""
_HEADERS = (
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
log = event_logger("strongroom.server")


class StartingApplication:
    """A WSGI application that stands in for another one until that can be made.

    Args:
        make: makes the real one.
        error: why it could not be made at the first try.
        give_up: called if a later try fails in a way that waiting cannot mend; it ends the process.
    """

    def __init__(
        self, make: Callable[[], Application], error: UnavailableError, *, give_up: Callable[[], None]
    ) -> None:
        self._make = make
        self._error = error
        self._give_up = give_up
        self._real: Application | None = None
        threading.Thread(target=self._try_for_ever, name="starting", daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        if self._real is not None:
            return self._real(environ, start_response)
        path = environ.get("PATH_INFO", "")
        request_id = uuid.uuid4().hex
        status, content_type, body = self._answer(path, request_id)
        headers = [("Content-Type", content_type), ("Request-Id", request_id), *_HEADERS]
        if status.startswith("503"):
            headers.append(("Retry-After", str(self._error.retry_after_seconds)))
        payload = b"" if environ.get("REQUEST_METHOD") == "HEAD" else orjson.dumps(body)
        start_response(status, [*headers, ("Content-Length", str(len(payload)))])
        return [payload]

    def _answer(self, path: str, request_id: str) -> tuple[str, str, dict[str, Any]]:
        if path == "/healthz":
            return "200 OK", "application/json", {"status": "ok"}
        if path == "/readyz":
            body = {
                "status": "not-ready",
                "store": _store_of(self._error),
                "providers": _providers_of(self._error),
            }
            return "503 Service Unavailable", "application/json", body
        return (
            "503 Service Unavailable",
            "application/problem+json",
            {
                "type": f"urn:strongroom:error:{self._error.code}",
                "title": self._error.title,
                "status": 503,
                "detail": "This server is starting and cannot have its keys just now; nothing was done.",
                "request_id": request_id,
            },
        )

    def _try_for_ever(self) -> None:
        while self._real is None:
            threading.Event().wait(RETRY_SECONDS)
            try:
                self._real = self._make()
            except UnavailableError as error:
                if _providers_of(error) != _providers_of(self._error):
                    for provider, status in _providers_of(error).items():
                        log.warning("start-waits", code=error.code, provider=provider, outcome=status)
                self._error = error
            except BaseException:
                log.critical("start-failed")
                self._give_up()
                raise
        log.info("start-went-on")


def _store_of(error: UnavailableError) -> str:
    return "ok" if _providers_of(error) else error.code


def _providers_of(error: UnavailableError) -> dict[str, str]:
    cause = error.__cause__
    return {cause.provider: str(status_of(cause))} if isinstance(cause, KeyProviderError) else {}
