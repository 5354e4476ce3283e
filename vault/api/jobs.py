"""Routes under /v1/jobs."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint
from flask import Response

from vault.api import answers, key_models
from vault.api.caller import current_caller
from vault.api.services import Services
from vault.api.spec import Operation, describe
from vault.audit.events import Action
from vault.core.clock import to_text
from vault.core.key_requests import ShownJob


def jobs_blueprint(services: Services) -> APIBlueprint:
    """Routes for what is done in the background."""
    blueprint = APIBlueprint("jobs", __name__, url_prefix="/v1/jobs", tag="jobs")

    @blueprint.get("")
    @describe(
        blueprint,
        Operation(action=Action.JOB_READ, summary="All jobs, the newest last", output=key_models.JobList),
    )
    def list_jobs() -> Response:
        jobs = services.key_requests.all(current_caller())
        return answers.answer({"items": [rendered(job) for job in jobs], "next_cursor": None})

    @blueprint.get("/<job>")
    @describe(
        blueprint,
        Operation(
            action=Action.JOB_READ, summary="What became of a job", output=key_models.Job, refusals=(404,)
        ),
    )
    def show(job: str) -> Response:
        return answers.answer(rendered(services.key_requests.job(current_caller(), job)))

    return blueprint


def rendered(job: ShownJob) -> dict[str, Any]:
    """A job as an answer shows it."""
    row = job.row
    return {
        "id": row.name,
        "operation": row.operation,
        "state": row.state,
        "waits_for": job.waits_for,
        "keyring": row.keyring,
        "key_version": row.key_version,
        "requested_by": row.requested_by,
        "done": row.done,
        "failed": row.failed,
        "error": row.error,
        "created_at": to_text(row.created_at),
        "updated_at": to_text(row.updated_at),
    }
