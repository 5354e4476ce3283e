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

_TRY_LATER = {429, 503}
_SERVER_ERROR = 500
_UNSETTLED = {"outcome-unknown", "idempotency-in-flight"}
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


def problem_error(status: int, document: Any, *, retry_after: int | None) -> StrongroomError:
    """Turn an answer that is not a success into the error to raise.

    Args:
        status: the HTTP status.
        document: the decoded body, whatever it is.
        retry_after: the seconds that the server asks to wait, if it does.
    """
    problem_type = document.get("type") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(problem_type, str):
        # Somebody between us and the vault speaks. Even so, 503 means: try later. But a proxy says 5xx also of a
        # request that it has passed on, and then lost the answer to.
        speaker: type[StrongroomError] = Unavailable if status in _TRY_LATER else UnexpectedAnswer
        error = speaker(
            f"The server answered {status} and no problem that Strongroom knows.",
            status=status,
            code="unexpected-answer",
        )
        return _noted(error, retry_after, outcome_unknown=status >= _SERVER_ERROR)
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
    index = document.get("index")
    error.index = index if isinstance(index, int) else None
    return _noted(error, retry_after, outcome_unknown=code in _UNSETTLED)


def _noted(error: StrongroomError, retry_after: int | None, *, outcome_unknown: bool) -> StrongroomError:
    if retry_after is not None:
        error.retry_after_seconds = retry_after
    error.outcome_unknown = outcome_unknown
    return error


def _violations(items: Any) -> list[Violation]:
    if not isinstance(items, list):
        return []
    return [
        Violation(str(item.get("pointer") or ""), str(item.get("code") or ""), str(item.get("detail") or ""))
        for item in items
        if isinstance(item, dict)
    ]
