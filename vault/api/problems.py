"""The one error table: every refusal as an RFC 9457 problem. Nothing else decides a status."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from flask import Response

from vault.core.errors import (
    ConflictError,
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


def render(error: VaultError, *, request_id: str) -> Response:
    """Render an error as a problem."""
    response = problem(
        status_of(error),
        error.code,
        error.title,
        error.detail,
        request_id=request_id,
        violations=error.violations,
    )
    if isinstance(error, NotAuthenticatedError):
        response.headers["WWW-Authenticate"] = 'Bearer realm="strongroom"'
    if isinstance(error, UnavailableError):
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def problem(
    status: int, code: str, title: str, detail: str, *, request_id: str, violations: Sequence[Violation] = ()
) -> Response:
    """Make a problem from its parts."""
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
    return Response(orjson.dumps(members), status=status, content_type=PROBLEM_TYPE)
