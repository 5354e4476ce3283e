"""Routes under /v1/audit."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from uuid import UUID

from apiflask import APIBlueprint
from flask import Response

from vault.api import answers, models
from vault.api.bodies import (
    cursor_of,
    cursor_text,
    limit_of,
    read_body,
    read_members,
    text_member,
    time_member,
)
from vault.api.caller import current_caller
from vault.api.services import Services
from vault.api.spec import Operation, describe
from vault.audit.events import Action, Result
from vault.core.audit_ports import AuditCriteria
from vault.core.audit_search import FoundEntry, Person
from vault.core.clock import to_text
from vault.core.errors import RecordNotFoundError, UnprocessableError, Violation
from vault.core.ports import Page
from vault.core.tokens import parse_token

_CRITERIA = (
    "principal",
    "token",
    "person",
    "action",
    "result",
    "collection",
    "purpose",
    "since",
    "until",
    "limit",
    "cursor",
)


def audit_blueprint(services: Services) -> APIBlueprint:
    """Routes for the access log."""
    blueprint = APIBlueprint("audit", __name__, url_prefix="/v1/audit", tag="audit")

    @blueprint.post("/search")
    @describe(
        blueprint,
        Operation(
            action=Action.AUDIT_SEARCH,
            summary="Search the access log, newest first",
            output=models.AuditPage,
            body=models.AuditQuery,
            refusals=(400, 404, 413, 415, 422),
        ),
    )
    def search() -> Response:
        body = read_members(read_body(), allowed=_CRITERIA)
        limit = limit_of(body.get("limit"))
        caller = current_caller()
        found = services.audit.search(
            caller,
            _criteria(caller.tenant, body),
            person=_person(body.get("person")),
            page=Page(limit, cursor_of(body.get("cursor"))),
        )
        more = cursor_text(found[-1].row.id) if len(found) == limit else None
        return answers.answer({"items": [_rendered(entry) for entry in found], "next_cursor": more})

    return blueprint


def _criteria(tenant: str, body: dict[str, Any]) -> AuditCriteria:
    token = text_member(body, "token")
    return AuditCriteria(
        tenant=tenant,
        tokens=None if token is None else (_token(token),),
        since=time_member(body, "since"),
        until=time_member(body, "until"),
        action=_word(body, "action", Action),
        result=_word(body, "result", Result),
        **{name: text_member(body, name) for name in ("principal", "collection", "purpose")},
    )


def _word(body: dict[str, Any], name: str, words: type[StrEnum]) -> str | None:
    text = text_member(body, name)
    # Nothing found must mean that nothing happened, not that the word was misspelt.
    if text is not None and text not in list(words):
        raise UnprocessableError(
            f"The log knows no such {name}.",
            code="body-members",
            violations=[Violation(f"/{name}", "enum", ", ".join(words))],
        )
    return text


def _token(text: str) -> bytes:
    try:
        return parse_token(text)
    except RecordNotFoundError:
        raise UnprocessableError(
            "The token is a UUID.", code="body-members", violations=[Violation("/token", "uuid")]
        ) from None


def _person(body: Any) -> Person | None:
    if body is None:
        return None
    members = read_members(
        body, allowed=("collection", "field", "value", "region"), required=("collection", "field", "value")
    )
    return Person(
        collection=text_member(members, "collection") or "",
        field=text_member(members, "field") or "",
        value=members["value"],
        region=text_member(members, "region"),
    )


def _rendered(entry: FoundEntry) -> dict[str, Any]:
    event = entry.event
    return {
        "id": entry.row.entry_id.hex(),
        "time": to_text(entry.row.time),
        "principal": event.principal,
        "credential": event.credential,
        "action": str(event.action),
        "result": str(event.result),
        "reason": event.reason,
        "collection": event.collection,
        "token": None if event.token is None else str(UUID(bytes=event.token)),
        "generation": event.generation,
        "fields": list(event.fields),
        "lookup_field": event.lookup_field,
        "reveal": event.reveal,
        "purpose": event.purpose,
        "request_id": event.request_id,
        "address": event.address,
        "count": event.count,
    }
