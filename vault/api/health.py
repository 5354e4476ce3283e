"""/healthz and /readyz: open to everyone, and silent about everything but the reason."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response

from keyproviders.interface import HealthStatus
from vault.api import answers, models
from vault.api.services import Services
from vault.api.spec import Operation, describe
from vault.telemetry.logs import event_logger

log = event_logger("strongroom.api")


def health_blueprint(services: Services) -> APIBlueprint:
    """Routes for whoever watches the process."""
    blueprint = APIBlueprint("health", __name__, tag="health")

    @blueprint.get("/healthz")
    @describe(blueprint, Operation(action=None, summary="The process runs", output=models.HealthAnswer))
    def healthz() -> Response:
        return answers.answer({"status": "ok"})

    @blueprint.get("/readyz")
    @describe(
        blueprint,
        Operation(
            action=None,
            summary="Keys and store work; 503 with the same body if they do not",
            output=models.ReadinessAnswer,
            also={503: "Keys or store do not work"},
        ),
    )
    def readyz() -> Response:
        proof = services.readiness()
        body = {
            "status": "ready" if proof.is_ready else "not-ready",
            "store": proof.store,
            # The status alone: the detail can name files, and nobody has shown a credential here.
            "providers": {name: str(health.status) for name, health in proof.providers.items()},
        }
        for name, health in proof.providers.items():
            if health.status is not HealthStatus.OK:
                # Its detail is a sentence of the provider, and can name files: `strongroom doctor` shows it.
                log.error("provider-not-ready", provider=name, outcome=str(health.status))
        return answers.answer(body, 200 if proof.is_ready else 503)

    return blueprint
