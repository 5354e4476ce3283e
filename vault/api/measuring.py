"""What every request leaves behind: one line in the log and its numbers, under the pattern of its route.

It stands around the whole application, so that nothing which happens to a request escapes it.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from flask import request

from vault.api.caller import REQUEST_ID
from vault.telemetry.logs import event_logger, running_request
from vault.telemetry.metrics import Metrics

UNMATCHED = "unmatched"
"""The route of a path that is none of ours: the path itself is free text from outside."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ROUTE = "strongroom.route"
_PARAMETER = re.compile(r"<(?:[^:<>]*:)?([^<>]*)>")
_FAILED = 500

log = event_logger("strongroom.requests")


def name_route() -> None:
    """Note the route of the request that runs, for when Flask has let go of it."""
    rule = request.url_rule
    if rule is not None:
        request.environ[_ROUTE] = rule.rule


class Measuring:
    """The application, and what is noted of each request.

    Args:
        application: answers.
        metrics: where requests are counted.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], metrics: Metrics) -> None:
        self._application = application
        self._metrics = metrics
        self._patterns: dict[str, str] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        began = time.perf_counter()
        status = _FAILED

        def start(line: str, *rest: Any) -> Any:
            nonlocal status
            status = int(line[:3])
            return start_response(line, *rest)

        environ[REQUEST_ID] = request_id = uuid.uuid4().hex
        running_request.set(request_id)
        self._metrics.request_began()
        try:
            return self._application(environ, start)
        finally:
            self._note(environ, status, time.perf_counter() - began)
            running_request.set(None)

    def _note(self, environ: dict[str, Any], status: int, seconds: float) -> None:
        rule = environ.get(_ROUTE)
        route = UNMATCHED if rule is None else self._pattern(rule)
        method = environ["REQUEST_METHOD"].upper()
        if method not in METHODS:
            method = "other"
        self._metrics.request_ended(route, method, status, seconds)
        log.info("request", route=route, method=method, status=status, milliseconds=round(seconds * 1000, 3))

    def _pattern(self, rule: str) -> str:
        pattern = self._patterns.get(rule)
        if pattern is None:
            pattern = self._patterns[rule] = _PARAMETER.sub(r"{\1}", rule)
        return pattern
