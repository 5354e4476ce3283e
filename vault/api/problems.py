"""The one error table: every refusal as an RFC 9457 problem. Nothing else decides a status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from flask import Response

from vault.core.batches import Refusal
from vault.core.errors import (
    OUTCOME_UNKNOWN,
    ConflictError,
    DuplicateValueError,
    InFlightError,
    IntegrityError,
    InvalidRequestError,
    MalformedBodyError,
    NotAuthenticatedError,
    NotAuthorizedError,
    NotFoundError,
    PreconditionFailedError,
    PreconditionRequiredError,
    RecordErasedError,
    RecordExpiredError,
    TooLargeError,
    UnavailableError,
    UnprocessableError,
    UnsupportedMediaTypeError,
    VaultError,
    Violation,
)
from vault.core.ports import DuplicateIndexError

PROBLEM_TYPE = "application/problem+json"

# The first class that fits decides, so special cases stand above the classes that they belong to.
STATUS_OF: tuple[tuple[type[VaultError], int], ...] = (
    (MalformedBodyError, 400),
    (TooLargeError, 413),
    (UnsupportedMediaTypeError, 415),
    (UnprocessableError, 422),
    (PreconditionRequiredError, 428),
    (InvalidRequestError, 400),
    (NotAuthenticatedError, 401),
    (NotAuthorizedError, 403),
    (NotFoundError, 404),
    (ConflictError, 409),
    (RecordErasedError, 410),
    (RecordExpiredError, 410),
    (PreconditionFailedError, 412),
    (UnavailableError, 503),
    (IntegrityError, 500),
    (VaultError, 500),
)


def status_of(error: VaultError) -> int:
    """The HTTP status for an error."""
    return next(status for kind, status in STATUS_OF if isinstance(error, kind))


def refusal_status(refusal: Refusal) -> int:
    """The HTTP status for what a batch refuses, before or in its transaction."""
    return (
        status_of(DuplicateValueError(())) if isinstance(refusal, DuplicateIndexError) else status_of(refusal)
    )


def render(error: VaultError, *, request_id: str, index: int | None = None) -> Response:
    """Render an error as a problem.

    Args:
        error: what went wrong.
        request_id: of the request.
        index: which operation of an atomic batch it was; None for any other request.
    """
    members = problem_members(error, request_id=request_id)
    if error.code == OUTCOME_UNKNOWN:
        members["outcome"] = "unknown"
    if index is not None:
        members["index"] = index
    response = _response(members)
    if isinstance(error, NotAuthenticatedError):
        response.headers["WWW-Authenticate"] = 'Bearer realm="strongroom"'
    if isinstance(error, UnavailableError | InFlightError):
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def problem_members(error: VaultError, *, request_id: str) -> dict[str, Any]:
    """An error as the members of a problem, for an answer or an item of one."""
    return _members(
        status_of(error),
        error.code,
        error.title,
        error.detail,
        request_id=request_id,
        violations=error.violations,
    )


def problem(status: int, code: str, title: str, detail: str, *, request_id: str) -> Response:
    """Make a problem that is none of core's errors."""
    return _response(_members(status, code, title, detail, request_id=request_id))


def _response(members: dict[str, Any]) -> Response:
    return Response(orjson.dumps(members), status=members["status"], content_type=PROBLEM_TYPE)


def _members(
    status: int, code: str, title: str, detail: str, *, request_id: str, violations: Sequence[Violation] = ()
) -> dict[str, Any]:
    members: dict[str, Any] = {
        "type": f"urn:strongroom:error:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request_id,
    }
    if violations:
        members["errors"] = [
            {"pointer": item.pointer, "code": item.code} | ({"detail": item.detail} if item.detail else {})
            for item in violations
        ]
    return members
