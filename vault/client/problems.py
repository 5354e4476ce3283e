"""From an RFC 9457 problem to the exception that a caller can catch. One table decides."""

from __future__ import annotations

from typing import Any

from vault.client.errors import (
    Conflict,
    Duplicate,
    Gone,
    InvalidRequest,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PreconditionFailed,
    StrongroomError,
    Unavailable,
    UnexpectedAnswer,
    Violation,
)

_PREFIX = "urn:strongroom:error:"
_BY_CODE: dict[str, type[StrongroomError]] = {"duplicate-value": Duplicate}
_BY_STATUS: dict[int, type[StrongroomError]] = {
    400: InvalidRequest,
    401: NotAuthenticated,
    403: NotAllowed,
    404: NotFound,
    405: InvalidRequest,
    409: Conflict,
    410: Gone,
    412: PreconditionFailed,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    428: InvalidRequest,
    429: Unavailable,
    503: Unavailable,
}


def problem_error(status: int, document: Any, *, retry_after: str | None) -> StrongroomError:
    """Turn an answer that is not a success into the error to raise.

    Args:
        status: the HTTP status.
        document: the decoded body, whatever it is.
        retry_after: the header's value; only whole seconds count.
    """
    problem_type = document.get("type") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(problem_type, str):
        # Somebody between us and the vault speaks. Even so, 503 means: try later.
        if status in {429, 503}:
            return _timed(Unavailable(f"The server answered {status}.", status=status), retry_after)
        return UnexpectedAnswer(
            f"The server answered {status} and no problem that Strongroom knows.",
            status=status,
            code="unexpected-answer",
        )
    code = problem_type.removeprefix(_PREFIX)
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, StrongroomError)
    title = str(document.get("title") or "")
    error = kind(
        str(document.get("detail") or title or f"The server answered {status}."),
        status=status,
        code=code,
        title=title,
        request_id=document.get("request_id"),
        errors=_violations(document.get("errors")),
    )
    return _timed(error, retry_after) if isinstance(error, Unavailable) else error


def _timed(error: Unavailable, retry_after: str | None) -> Unavailable:
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        error.retry_after_seconds = max(1, int(retry_after))
    return error


def _violations(items: Any) -> list[Violation]:
    if not isinstance(items, list):
        return []
    return [
        Violation(str(item.get("pointer") or ""), str(item.get("code") or ""), str(item.get("detail") or ""))
        for item in items
        if isinstance(item, dict)
    ]
