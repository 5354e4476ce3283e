"""Routes under /v1/collections."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from apiflask import APIBlueprint
from flask import Response

from vault.api import answers, models
from vault.api.bodies import read_body, read_members, text_member
from vault.api.caller import current_caller
from vault.api.services import Services
from vault.api.spec import Operation, describe
from vault.audit.events import Action
from vault.core.collections import Definition, Settings


def collections_blueprint(services: Services) -> APIBlueprint:
    """Routes for record types."""
    blueprint = APIBlueprint("collections", __name__, url_prefix="/v1/collections", tag="collections")

    @blueprint.get("")
    @describe(
        blueprint,
        Operation(
            action=Action.COLLECTION_READ, summary="List the collections", output=models.CollectionList
        ),
    )
    def list_collections() -> Response:
        definitions = services.collections.show_all(current_caller())
        return answers.answer({"items": [_rendered(each) for each in definitions], "next_cursor": None})

    @blueprint.get("/<collection>")
    @describe(
        blueprint,
        Operation(
            action=Action.COLLECTION_READ,
            summary="Show a collection",
            output=models.Collection,
            refusals=(404,),
        ),
    )
    def show(collection: str) -> Response:
        return answers.answer(_rendered(services.collections.show(current_caller(), collection)))

    @blueprint.put("/<collection>")
    @describe(
        blueprint,
        Operation(
            action=Action.COLLECTION_DEFINE,
            summary="Create a collection or change its definition",
            output=models.Collection,
            body=models.CollectionRequest,
            refusals=(400, 409, 413, 415, 422),
            also={201: "The collection is new"},
        ),
    )
    def define(collection: str) -> Response:
        body = read_members(read_body(), allowed=("schema", "settings", "keyring"), required=("schema",))
        settings = Settings.parse(body.get("settings", {}))
        definition, is_new = services.collections.define(
            current_caller(), collection, body["schema"], settings, keyring=text_member(body, "keyring")
        )
        return answers.answer(_rendered(definition), 201 if is_new else 200)

    return blueprint


def _rendered(definition: Definition) -> dict[str, Any]:
    return {
        "name": definition.row.name,
        "schema_version": definition.version,
        "schema": definition.source,
        "settings": asdict(definition.settings),
        "keyring": definition.row.keyring,
        "created_at": answers.moment(definition.row.created_at),
        "updated_at": answers.moment(definition.row.updated_at),
    }
