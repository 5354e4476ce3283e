"""Routes under /v1/collections/{c}/records."""

from __future__ import annotations

from typing import Any

from apiflask import APIBlueprint
from flask import Response, request

from vault.api import answers, models
from vault.api.bodies import (
    MERGE_PATCH,
    cursor_of,
    cursor_text,
    if_match,
    is_plain,
    limit_of,
    lookup_of,
    names_of,
    read_body,
    read_members,
    text_member,
    time_member,
)
from vault.api.bulk import add_bulk_route
from vault.api.caller import current_caller
from vault.api.idempotency import REPLAYED_HEADER, claimed
from vault.api.services import Services
from vault.api.spec import Operation, describe
from vault.audit.events import Action
from vault.core.errors import UnprocessableError, Violation
from vault.core.ports import Page, RecordKey
from vault.core.record_drafts import NewDocument
from vault.core.records import Created
from vault.core.releases import View
from vault.core.tokens import parse_token, token_text

_WRITE_REFUSALS = (400, 404, 409, 410, 412, 413, 415, 422, 428)


def records_blueprint(services: Services) -> APIBlueprint:
    """Routes for single records and look-up."""
    blueprint = APIBlueprint(
        "records", __name__, url_prefix="/v1/collections/<collection>/records", tag="records"
    )
    _writing(blueprint, services)
    add_bulk_route(blueprint, services)
    _reading(blueprint, services)
    _erasing(blueprint, services)
    return blueprint


def _writing(blueprint: APIBlueprint, services: Services) -> None:
    @blueprint.post("")
    @describe(
        blueprint,
        Operation(
            action=Action.RECORD_CREATE,
            summary="Store a record and get a token",
            output=models.RecordMetadata,
            status=201,
            body=models.NewRecord,
            headers=models.CreateHeaders,
            refusals=(400, 404, 409, 410, 413, 415, 422),
            takes_idempotency_key=True,
        ),
    )
    def create(collection: str) -> Response:
        caller = current_caller()
        body = read_body()
        document = _new_document(body)
        with claimed(services, caller, [body]) as claim:
            if claim is None:
                created = Created(services.records.create(caller, collection, document))
            else:
                created = services.records.create_once(caller, collection, document, claim)
        row = created.row
        headers = {"Location": f"/v1/collections/{collection}/records/{token_text(row.token)}"}
        if created.is_unchanged:
            headers |= answers.etag(row)
        if created.is_replay:
            headers[REPLAYED_HEADER] = "true"
        return answers.answer(answers.metadata(row), 201, headers)

    @blueprint.put("/<token>")
    @describe(
        blueprint,
        Operation(
            action=Action.RECORD_UPDATE,
            summary="Replace a record's document",
            output=models.RecordMetadata,
            body=models.NewRecord,
            headers=models.WriteHeaders,
            refusals=_WRITE_REFUSALS,
        ),
    )
    def replace(collection: str, token: str) -> Response:
        caller = current_caller()
        key = RecordKey(caller.tenant, collection, parse_token(token))
        row = services.records.replace(caller, key, _new_document(read_body()), if_match=if_match())
        return answers.answer(answers.metadata(row), 200, answers.etag(row))

    @blueprint.patch("/<token>")
    @describe(
        blueprint,
        Operation(
            action=Action.RECORD_UPDATE,
            summary="Merge a patch (RFC 7396, application/merge-patch+json) into a record's document",
            output=models.RecordMetadata,
            headers=models.WriteHeaders,
            refusals=_WRITE_REFUSALS,
        ),
    )
    def patch(collection: str, token: str) -> Response:
        caller = current_caller()
        key = RecordKey(caller.tenant, collection, parse_token(token))
        row = services.records.patch(caller, key, read_body(MERGE_PATCH), if_match=if_match())
        return answers.answer(answers.metadata(row), 200, answers.etag(row))


def _reading(blueprint: APIBlueprint, services: Services) -> None:
    @blueprint.get("/<token>")
    @describe(
        blueprint,
        Operation(
            action=Action.RECORD_READ,
            summary="Read a record, masked unless reveal=plain",
            output=models.Record,
            query=models.ReadQuery,
            headers=models.PurposeHeader,
            refusals=(404, 410, 422),
        ),
    )
    def read(collection: str, token: str) -> Response:
        caller = current_caller()
        key = RecordKey(caller.tenant, collection, parse_token(token))
        view = View(is_plain(request.args.get("reveal")), names_of(request.args.get("fields")))
        shown = services.reading.read(caller, key, view=view, generation=_generation())
        return answers.answer(answers.record(shown), 200, answers.etag(shown.row))

    @blueprint.get("")
    @describe(
        blueprint,
        Operation(
            action=Action.RECORD_LIST,
            summary="List records without their documents",
            output=models.RecordPage,
            query=models.PageQuery,
            headers=models.PurposeHeader,
            refusals=(404, 422),
        ),
    )
    def list_records(collection: str) -> Response:
        limit = limit_of(request.args.get("limit"))
        page = Page(limit, cursor_of(request.args.get("cursor")))
        rows = services.reading.list_page(current_caller(), collection, page=page)
        items = [answers.metadata(row) for row in rows]
        return answers.answer(
            {"items": items, "next_cursor": cursor_text(rows[-1].id) if len(rows) == limit else None}
        )

    @blueprint.post("/lookup")
    @describe(
        blueprint,
        Operation(
            action=Action.RECORD_LOOKUP,
            summary="Find records by the value of an indexed field",
            output=models.FoundRecords,
            body=models.LookupRequest,
            headers=models.PurposeHeader,
            refusals=(400, 404, 413, 415, 422),
        ),
    )
    def lookup(collection: str) -> Response:
        body = read_members(
            read_body(),
            allowed=("field", "value", "region", "reveal", "fields", "limit", "cursor"),
            required=("field", "value"),
        )
        lookup = lookup_of(body)
        found = services.reading.lookup(current_caller(), collection, lookup)
        items = [answers.record(shown) for shown in found]
        more = cursor_text(found[-1].row.id) if len(found) == lookup.page.limit else None
        return answers.answer({"items": items, "next_cursor": more})


def _erasing(blueprint: APIBlueprint, services: Services) -> None:
    @blueprint.delete("/<token>")
    @describe(
        blueprint,
        Operation(
            action=Action.RECORD_ERASE,
            summary="Erase a record",
            status=204,
            headers=models.WriteHeaders,
            refusals=(404, 410, 412, 422, 428),
        ),
    )
    def erase(collection: str, token: str) -> Response:
        caller = current_caller()
        key = RecordKey(caller.tenant, collection, parse_token(token))
        services.erasures.erase(caller, key, if_match=if_match())
        return answers.nothing()

    @blueprint.get("/<token>/erasure")
    @describe(
        blueprint,
        Operation(
            action=Action.ERASURE_READ,
            summary="What became of an erased record",
            output=models.Erasure,
            refusals=(404, 409),
        ),
    )
    def erasure(collection: str, token: str) -> Response:
        caller = current_caller()
        state = services.erasures.state(caller, RecordKey(caller.tenant, collection, parse_token(token)))
        body = {
            "token": token_text(state.row.token),
            "collection": collection,
            "state": "final" if state.is_final else "done",
            "erased_at": answers.moment(state.row.erased_at),
            "final_at": answers.moment(state.row.final_at),
            "key_versions": [
                {"keyring": keyring, "version": version} for keyring, version in state.opened_by
            ],
        }
        return answers.answer(body)


def _new_document(body: Any) -> NewDocument:
    read_members(body, allowed=("data", "expires_at", "region"), required=("data",))
    return NewDocument(
        data=body["data"], expires_at=time_member(body, "expires_at"), region=text_member(body, "region")
    )


def _generation() -> int | None:
    text = request.args.get("generation")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < len(str(2**63)) and int(text) > 0):
        raise UnprocessableError(
            "The generation is a whole number from 1.",
            code="query",
            violations=[Violation("/generation", "range")],
        )
    return int(text)
