"""What every request leaves behind: one line in the log and its numbers, under the pattern of its route."""

from __future__ import annotations

import re
import time

from flask import Response, g, request

from vault.api.caller import request_id
from vault.telemetry.logs import event_logger, running_request
from vault.telemetry.metrics import Metrics

UNMATCHED = "unmatched"
"""The route of a path that is none of ours: the path itself is free text from outside."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PARAMETER = re.compile(r"<(?:[^:<>]*:)?([^<>]*)>")
_FAILED = 500

log = event_logger("strongroom.requests")


class Measuring:
    """Follows each request from its first hook to its last.

    Args:
        metrics: where requests are counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._patterns: dict[str, str] = {}

    def begin(self) -> None:
        """Note that a request came; call it before anything that can refuse."""
        g.began = time.perf_counter()
        running_request.set(request_id())
        self._metrics.request_began()

    def answered(self, response: Response) -> None:
        """Note what it is answered with."""
        g.status = response.status_code

    def end(self) -> None:
        """Count the request and write its line; call it when nothing else can happen to it."""
        began = g.pop("began", None)
        if began is None:
            return
        seconds = time.perf_counter() - began
        status = g.pop("status", _FAILED)
        method = request.method if request.method in METHODS else "other"
        route = self._route()
        self._metrics.request_ended(route, method, status, seconds)
        log.info("request", route=route, method=method, status=status, milliseconds=round(seconds * 1000, 3))
        running_request.set(None)

    def _route(self) -> str:
        rule = request.url_rule
        if rule is None:
            return UNMATCHED
        pattern = self._patterns.get(rule.rule)
        if pattern is None:
            pattern = self._patterns[rule.rule] = _PARAMETER.sub(r"{\1}", rule.rule)
        return pattern
