"""Routes under /v1/keyrings."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint
from flask import Response

from vault.api import answers, jobs, key_models
from vault.api.caller import current_caller
from vault.api.services import Services
from vault.api.spec import Operation, describe
from vault.audit.events import Action
from vault.core.census import KeyringCensus, VersionCensus
from vault.core.vault_exposure import VaultExposure


def keyrings_blueprint(services: Services) -> APIBlueprint:
    """Routes for keyrings and the census of what depends on them."""
    blueprint = APIBlueprint("keyrings", __name__, url_prefix="/v1/keyrings", tag="keyrings")

    @blueprint.get("")
    @describe(
        blueprint,
        Operation(
            action=Action.KEYRING_READ,
            summary="All keyrings, their versions and what depends on each",
            output=key_models.KeyringList,
        ),
    )
    def census() -> Response:
        rings = services.census.take(current_caller())
        exposure = _exposure(services.census.exposure())
        items = [_rendered(ring) for ring in rings]
        return answers.answer({"items": items, "next_cursor": None, "exposure": exposure})

    @blueprint.post("/<keyring>/rotate")
    @describe(
        blueprint,
        Operation(
            action=Action.KEYRING_ROTATE,
            summary="Ask for the next key version; a worker with the administration door makes it",
            output=key_models.Job,
            status=202,
            refusals=(404,),
        ),
    )
    def rotate(keyring: str) -> Response:
        job = services.key_requests.rotate(current_caller(), keyring)
        return answers.answer(jobs.rendered(job), 202, {"Location": f"/v1/jobs/{job.row.name}"})

    return blueprint


def _rendered(census: KeyringCensus) -> dict[str, Any]:
    return {
        "name": census.ring.row.name,
        "provider": census.ring.row.provider,
        "active_version": census.ring.active.version,
        "index_key": census.index_key_id,
        "index_entries": census.index_entries,
        "versions": [_version(version) for version in census.versions],
    }


def _version(census: VersionCensus) -> dict[str, Any]:
    return {
        "version": census.row.version,
        "state": census.row.state,
        "compromised": bool(census.row.compromised),
        "provider": census.row.provider,
        "provider_key": census.row.provider_key,
        "provider_version": census.row.provider_version,
        "algorithm": census.row.algorithm,
        "adopted_at": answers.moment(census.row.adopted_at),
        "created_at": answers.moment(census.row.created_at),
        "activated_at": answers.moment(census.row.activated_at),
        "deactivated_at": answers.moment(census.row.deactivated_at),
        "records": census.records,
        "history": census.history,
        "stored_keys": census.stored_keys,
    }


def _exposure(exposure: VaultExposure) -> dict[str, Any]:
    return {
        "data_keys": exposure.data_keys,
        "until": answers.moment(exposure.until),
        "processes": [
            {
                "host": process.host,
                "pid": process.pid,
                "role": process.role,
                "data_keys": process.cached_data_keys or 0,
                "until": answers.moment(process.cached_until),
                "as_of": answers.moment(process.heartbeat_at),
            }
            for process in exposure.processes
        ],
    }
