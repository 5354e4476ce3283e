"""Routes under /v1/keyrings."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint
from flask import Response

from vault.api import answers, models
from vault.api.caller import current_caller
from vault.api.services import Services
from vault.api.spec import Operation, describe
from vault.audit.events import Action
from vault.core.census import KeyringCensus, VersionCensus


def keyrings_blueprint(services: Services) -> APIBlueprint:
    """Routes for keyrings and the census of what depends on them."""
    blueprint = APIBlueprint("keyrings", __name__, url_prefix="/v1/keyrings", tag="keyrings")

    @blueprint.get("")
    @describe(
        blueprint,
        Operation(
            action=Action.KEYRING_READ,
            summary="All keyrings, their versions and what depends on each",
            output=models.KeyringList,
        ),
    )
    def census() -> Response:
        rings = services.census.take(current_caller())
        return answers.answer({"items": [_rendered(ring) for ring in rings], "next_cursor": None})

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
        "created_at": answers.moment(census.row.created_at),
        "records": census.records,
        "history": census.history,
        "stored_keys": census.stored_keys,
    }
