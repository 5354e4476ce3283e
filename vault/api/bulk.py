"""The route for batches: operations in, one result for each of them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from apiflask import APIBlueprint
from flask import Response

from vault.api import answers, bulk_models, models
from vault.api.alarms import report
from vault.api.bodies import (
    MAX_BULK_BODY_BYTES,
    cursor_text,
    etag_text,
    flag_member,
    generation_member,
    if_match_member,
    is_plain,
    list_member,
    lookup_of,
    names_of,
    read_body,
    read_members,
    text_member,
    time_member,
)
from vault.api.caller import current_caller, request_id
from vault.api.idempotency import REPLAYED_HEADER, claimed, key_header
from vault.api.problems import problem_members, render, status_of
from vault.api.services import Services
from vault.api.spec import Operation as Described
from vault.api.spec import describe
from vault.api.turns import long_work
from vault.audit.events import Action
from vault.core.bulk import MAX_OPERATIONS
from vault.core.bulk_results import (
    BulkResult,
    EarlierRefusal,
    Found,
    ItemResult,
    OperationRefused,
    Written,
)
from vault.core.errors import UnprocessableError, VaultError, Violation
from vault.core.idempotency import refused_key
from vault.core.operations import (
    CreateOperation,
    EraseOperation,
    GetOperation,
    LookupOperation,
    Operation,
    UnreadableOperation,
    UpdateOperation,
)
from vault.core.record_drafts import NewDocument, Patch
from vault.core.releases import ShownRecord, View
from vault.core.tokens import parse_token, token_text

_CREATED = 201
_DONE = 200
_ERASED = 204
_SERVER_ERROR = 500


def add_bulk_route(blueprint: APIBlueprint, services: Services) -> None:
    """Add ``POST .../records/bulk``."""

    @blueprint.post("/bulk")
    @describe(
        blueprint,
        Described(
            action=Action.REQUEST,
            summary="Carry out up to 1,000 operations in one transaction",
            output=bulk_models.BulkAnswer,
            body=bulk_models.BulkRequest,
            headers=models.CreateHeaders,
            refusals=(400, 404, 409, 410, 412, 413, 415, 422, 428, 500),
            takes_idempotency_key=True,
        ),
    )
    def bulk(collection: str) -> Response:
        caller = current_caller()
        body = read_members(
            read_body(max_bytes=MAX_BULK_BODY_BYTES),
            allowed=("operations", "atomic", "dry_run"),
            required=("operations",),
        )
        bodies = list_member(body, "operations", at_most=MAX_OPERATIONS)
        operations = [operation_of(each) for each in bodies]
        is_atomic, is_dry_run = flag_member(body, "atomic"), flag_member(body, "dry_run")
        if is_dry_run or key_header() is not None:
            _check_only_writes(operations, is_dry_run=is_dry_run)
        try:
            # The key first: a twin hears at once that it must wait, and does not stand in line behind the first.
            with claimed(services, caller, bodies, mark=int(is_atomic)) as claim, long_work():
                result = services.bulk.run(
                    caller, collection, operations, is_atomic=is_atomic, is_dry_run=is_dry_run, claim=claim
                )
        except OperationRefused as refused:
            _report_failure(refused.error)
            return render(refused.error, request_id=request_id(), index=refused.position)
        return _answer(result, is_dry_run=is_dry_run)


def _check_only_writes(operations: list[Operation], *, is_dry_run: bool) -> None:
    reads = [
        place
        for place, operation in enumerate(operations)
        if isinstance(operation, GetOperation | LookupOperation)
    ]
    if is_dry_run and key_header() is not None:
        raise refused_key("A dry run stores nothing, so it takes no Idempotency-Key.")
    if not reads:
        return
    if is_dry_run:
        raise UnprocessableError(
            "A dry run is for writes: a get or look-up would release data.",
            code="body-members",
            violations=[Violation(f"/operations/{reads[0]}/op", "enum", "create, update or erase")],
        )
    raise refused_key("A batch that reads takes no Idempotency-Key: reading again is safe.")


def operation_of(body: Any) -> Operation:
    """Read one operation; what cannot be read keeps its place, with the reason."""
    op = body.get("op") if isinstance(body, dict) else None
    read = _READERS.get(op) if isinstance(op, str) else None
    if read is None:
        return UnreadableOperation(
            Action.REQUEST,
            None,
            UnprocessableError(
                "An operation is an object with op: create, get, update, erase or lookup.",
                code="body-members",
                violations=[Violation("/op", "enum", "create, get, update, erase or lookup")],
            ),
        )
    action, reader = read
    try:
        return reader(body)
    except VaultError as error:
        return UnreadableOperation(action, _token_or_none(body), error)


def _token_or_none(body: dict[str, Any]) -> bytes | None:
    try:
        return _token(body) if "token" in body else None
    except VaultError:
        return None


def _token(body: dict[str, Any]) -> bytes:
    return parse_token(text_member(body, "token") or "")


def _create(body: dict[str, Any]) -> Operation:
    read_members(body, allowed=("op", "data", "expires_at", "region"), required=("data",))
    return CreateOperation(_document(body))


def _document(body: dict[str, Any]) -> NewDocument:
    return NewDocument(
        data=body["data"], expires_at=time_member(body, "expires_at"), region=text_member(body, "region")
    )


def _get(body: dict[str, Any]) -> Operation:
    read_members(body, allowed=("op", "token", "reveal", "fields", "generation"), required=("token",))
    return GetOperation(_token(body), generation_member(body), _view(body))


def _view(body: dict[str, Any]) -> View:
    return View(is_plain(body.get("reveal")), names_of(body.get("fields")))


def _update(body: dict[str, Any]) -> Operation:
    if "patch" in body:
        read_members(body, allowed=("op", "token", "patch", "if_match"), required=("token",))
        return UpdateOperation(_token(body), Patch(body["patch"]), if_match_member(body))
    read_members(
        body,
        allowed=("op", "token", "data", "expires_at", "region", "if_match"),
        required=("token", "data"),
    )
    return UpdateOperation(_token(body), _document(body), if_match_member(body))


def _erase(body: dict[str, Any]) -> Operation:
    read_members(body, allowed=("op", "token", "if_match"), required=("token",))
    return EraseOperation(_token(body), if_match_member(body))


def _lookup(body: dict[str, Any]) -> Operation:
    read_members(
        body,
        allowed=("op", "field", "value", "region", "reveal", "fields", "limit", "cursor"),
        required=("field", "value"),
    )
    return LookupOperation(lookup_of(body))


_READERS: dict[str, tuple[Action, Callable[[dict[str, Any]], Operation]]] = {
    "create": (Action.RECORD_CREATE, _create),
    "get": (Action.RECORD_READ, _get),
    "update": (Action.RECORD_UPDATE, _update),
    "erase": (Action.RECORD_ERASE, _erase),
    "lookup": (Action.RECORD_LOOKUP, _lookup),
}


def _answer(result: BulkResult, *, is_dry_run: bool) -> Response:
    items = [_item(item, is_dry_run=is_dry_run) for item in result.items]
    body: dict[str, Any] = {"items": items, "failed": sum("problem" in item for item in items)}
    if is_dry_run:
        body["dry_run"] = True
    headers = {REPLAYED_HEADER: "true"} if result.is_replay else None
    return answers.answer(body, headers=headers)


def _item(result: ItemResult, *, is_dry_run: bool) -> dict[str, Any]:
    if isinstance(result, VaultError):
        _report_failure(result)
        return {
            "status": status_of(result),
            "problem": problem_members(result, request_id=request_id()),
        }
    if isinstance(result, EarlierRefusal):
        return {"status": result.status, "problem": _earlier_problem(result)}
    if isinstance(result, Found):
        more = cursor_text(result.records[-1].row.id) if result.is_full else None
        return {"status": _DONE, "items": [_record(shown) for shown in result.records], "next_cursor": more}
    if isinstance(result, ShownRecord):
        return {"status": _DONE, **_record(result)}
    return _written(result, is_dry_run=is_dry_run)


def _written(result: Written, *, is_dry_run: bool) -> dict[str, Any]:
    status = {Action.RECORD_CREATE: _CREATED, Action.RECORD_ERASE: _ERASED}.get(result.action, _DONE)
    if is_dry_run:
        return {"status": status}
    if result.action is Action.RECORD_ERASE:
        return {"status": status, "token": token_text(result.row.token)}
    etag = etag_text(result.row.write_id) if result.is_unchanged else None
    return {"status": status, **answers.metadata(result.row), "etag": etag}


def _record(shown: ShownRecord) -> dict[str, Any]:
    return answers.record(shown) | {"etag": etag_text(shown.row.write_id)}


def _earlier_problem(refusal: EarlierRefusal) -> dict[str, Any]:
    return {
        "type": f"urn:strongroom:error:{refusal.code}",
        "title": "Refused when the batch was carried out",
        "status": refusal.status,
        "detail": "What was wrong is not kept; send this operation under a new Idempotency-Key to hear it.",
        "request_id": request_id(),
    }


def _report_failure(error: VaultError) -> None:
    # The rim sees the whole batch, which may well be a success.
    if status_of(error) >= _SERVER_ERROR:
        report(error)
