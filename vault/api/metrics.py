"""/metrics: the numbers of this server for Prometheus, for whoever asks from this machine."""

from __future__ import annotations

import ipaddress

from apiflask import APIBlueprint
from flask import Response, request

from vault.api.caller import peer_address, request_id
from vault.api.problems import problem
from vault.api.spec import Operation, describe
from vault.telemetry.metrics import CONTENT_TYPE, Metrics

FORWARDING_HEADERS = (
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-IP",
)
"""One of these says that a proxy stands between: then everyone looks as if they asked from its machine."""


def metrics_blueprint(metrics: Metrics) -> APIBlueprint:
    """The route for whoever watches the numbers."""
    blueprint = APIBlueprint("metrics", __name__, tag="metrics")

    @blueprint.get("/metrics")
    @describe(
        blueprint,
        Operation(
            action=None,
            summary="Numbers in Prometheus's text format, for callers on this machine only",
            media_type=CONTENT_TYPE.partition(";")[0],
            refusals=(403,),
        ),
    )
    def numbers() -> Response:
        if not _is_from_here():
            return problem(
                403,
                "metrics-loopback-only",
                "Only on the server's own machine",
                "Ask for /metrics on the machine of the server, by a loopback address and without a proxy.",
                request_id=request_id(),
            )
        return Response(metrics.render(), content_type=CONTENT_TYPE)

    return blueprint


def _is_from_here() -> bool:
    if any(header in request.headers for header in FORWARDING_HEADERS):
        return False
    try:
        address = ipaddress.ip_address(peer_address())
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
