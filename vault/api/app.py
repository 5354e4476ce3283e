"""The WSGI application: routes, the way in, the way out, and the one place where every error ends."""

from __future__ import annotations

from typing import Any

from apiflask import APIFlask
from flask import Response, current_app, request
from pydantic.json_schema import models_json_schema
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

import vault
from vault.api import models
from vault.api.alarms import report
from vault.api.audit import audit_blueprint
from vault.api.bodies import MAX_BODY_BYTES, check_query, too_large
from vault.api.caller import authenticate, known_caller, peer_address, request_id
from vault.api.collections import collections_blueprint
from vault.api.docs import docs_blueprint
from vault.api.health import health_blueprint
from vault.api.idempotency import check_key_has_effect
from vault.api.jobs import jobs_blueprint
from vault.api.keyrings import keyrings_blueprint
from vault.api.measuring import Measuring, name_route
from vault.api.metrics import metrics_blueprint
from vault.api.problems import problem, render, status_of
from vault.api.records import records_blueprint
from vault.api.services import Services
from vault.api.turns import Turns, give_back_turn
from vault.audit.events import Action, Result
from vault.core.errors import (
    OUTCOME_UNKNOWN,
    NotAuthenticatedError,
    RecordNotFoundError,
    UnavailableError,
    VaultError,
)
from vault.core.policy import Caller
from vault.core.tokens import parse_token
from vault.core.trail import event_of
from vault.telemetry.logs import event_logger
from vault.telemetry.metrics import Metrics
from vault.telemetry.traces import places_of

log = event_logger("strongroom.api")

_SERVER_ERROR = 500
_DESCRIPTION = """A vault for personal records: send a JSON record, keep the token.

Every answer that is not a success is an RFC 9457 problem. Personal values never stand in a URL: look-ups are POST
bodies. Without `reveal=plain` answers are masked."""


def create_app(services: Services) -> APIFlask:
    """Build the application around its services; nothing is read, opened or started here."""
    app = APIFlask(
        "strongroom", title="Strongroom", version=vault.__version__, docs_path=None, json_errors=False
    )
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES + 1,
        OPENAPI_VERSION="3.1.0",
        INFO={"description": _DESCRIPTION, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        SECURITY_SCHEMES={"bearer": {"type": "http", "scheme": "bearer"}},
        AUTO_404_RESPONSE=False,
        AUTO_AUTH_ERROR_RESPONSE=False,
        AUTO_VALIDATION_ERROR_RESPONSE=False,
        AUTO_SERVERS=False,  # it would describe, for all, the host name that the first reader happened to use
        SERVERS=[{"url": "/"}],
        AUTO_OPERATION_ID=True,
    )
    app.spec_processor(_complete)
    metrics = services.metrics or Metrics(vault.__version__)
    for blueprint in (
        records_blueprint(services),
        collections_blueprint(services),
        keyrings_blueprint(services),
        jobs_blueprint(services),
        audit_blueprint(services),
        health_blueprint(services),
        metrics_blueprint(metrics),
        docs_blueprint(),
    ):
        app.register_blueprint(blueprint)
    _install_way_in(app, services)
    _install_errors(app, services, metrics)
    app.wsgi_app = Measuring(app.wsgi_app, metrics)
    return app


def _install_way_in(app: APIFlask, services: Services) -> None:
    turns = Turns()

    @app.before_request
    def way_in() -> None:
        name_route()
        if request.path.startswith("/v1/"):
            turns.take()
            authenticate(services)
            if request.endpoint is not None:
                check_query(getattr(_view(), "query_names", frozenset()))
                check_key_has_effect(takes_key=getattr(_view(), "takes_idempotency_key", False))

    @app.teardown_request
    def way_home(_error: BaseException | None) -> None:
        give_back_turn()

    @app.after_request
    def way_out(response: Response) -> Response:
        response.headers["Request-Id"] = request_id()
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
        return response


def _install_errors(app: APIFlask, services: Services, metrics: Metrics) -> None:
    @app.errorhandler(VaultError)
    def refused(error: VaultError) -> Response:
        try:
            _record_refusal(services, error)
        except VaultError as audit_error:
            # Without the log nothing is answered but that. It says that nothing was done, though: whoever is not told that
            # this may be untrue would take a write that is there for one that is not.
            not_audited = _not_audited(metrics, audit_error)
            told = error if error.code == OUTCOME_UNKNOWN else not_audited
            return render(told, request_id=request_id())
        if status_of(error) >= _SERVER_ERROR:
            report(error)
        return render(error, request_id=request_id())

    @app.errorhandler(HTTPException)
    def not_served(error: HTTPException) -> Response:
        if isinstance(error, RequestEntityTooLarge):
            response: Response = refused(too_large())
            return response
        status = error.code or _SERVER_ERROR
        code = error.name.lower().replace(" ", "-")
        try:
            _record_unserved(services, code)
        except VaultError as audit_error:
            return render(_not_audited(metrics, audit_error), request_id=request_id())
        response = problem(
            status, code, error.name, "See /docs for what is served here.", request_id=request_id()
        )
        if status == 405 and getattr(error, "valid_methods", None):  # noqa: PLR2004  # Method Not Allowed
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))  # type: ignore[attr-defined]
        return response

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        # Where it happened goes to the log; the answer carries the request id and nothing else.
        log.critical("request-crashed", places=places_of(error))
        failure = VaultError("An unexpected error; the log has it under this request id.")
        try:
            # What was released before it went wrong has an entry that says so; this is the second one.
            _record_refusal(services, failure)
        except Exception as audit_error:  # noqa: BLE001  # the last place where an error can end
            failure = _not_audited(metrics, audit_error)
        return render(failure, request_id=request_id())


def _not_audited(metrics: Metrics, error: Exception) -> UnavailableError:
    metrics.audit_failed()
    log.error("refusal-not-audited", places=places_of(error))
    return UnavailableError(
        "The access log cannot be written; nothing is answered without it.", code="audit-unavailable"
    )


def _record_refusal(services: Services, error: VaultError) -> None:
    if isinstance(error, NotAuthenticatedError):
        services.trail.refused_without_credential(address=peer_address(), reason=error.reason)
        return
    caller = known_caller()
    # A store that refuses cannot log its own refusal either; asking it again only makes the caller wait.
    if caller is None or error.is_audited or error.code == "store-unavailable":
        return
    services.trail.append(
        event_of(
            caller,
            _attempted_action(),
            Result.FAILED if status_of(error) >= _SERVER_ERROR else Result.REFUSED,
            reason=error.code,
            **_attempted_record(services, caller),
        )
    )


def _record_unserved(services: Services, reason: str) -> None:
    caller = known_caller()
    if caller is not None:
        services.trail.append(event_of(caller, Action.REQUEST, Result.REFUSED, reason=reason))


def _attempted_action() -> Action:
    return getattr(_view(), "action", None) or Action.REQUEST


def _view() -> object:
    return current_app.view_functions.get(request.endpoint or "")


def _attempted_record(services: Services, caller: Caller) -> dict[str, Any]:
    arguments = request.view_args or {}
    # The name of a collection that does not exist is free text from outside: it stays out of the log, whatever
    # the reason of the refusal.
    if "collection" not in arguments or not services.collections.exists(
        caller.tenant, arguments["collection"]
    ):
        return {}
    details: dict[str, Any] = {"collection": arguments["collection"]}
    try:
        details["token"] = parse_token(arguments["token"]) if "token" in arguments else None
    except RecordNotFoundError:
        details["token"] = None
    return details


def _complete(spec: dict[str, Any]) -> dict[str, Any]:
    """Add to the generated description what APIFlask cannot see on the views."""
    _, definitions = models_json_schema(
        [(models.Problem, "serialization")], ref_template="#/components/schemas/{model}"
    )
    spec.setdefault("components", {}).setdefault("schemas", {}).update(definitions["$defs"])
    for operations in spec["paths"].values():
        for operation in operations.values():
            if "requestBody" in operation:
                operation["requestBody"]["required"] = True
    patch = spec["paths"]["/v1/collections/{collection}/records/{token}"]["patch"]
    patch["requestBody"] = {
        "required": True,
        "content": {"application/merge-patch+json": {"schema": {"type": "object"}}},
    }
    return spec
