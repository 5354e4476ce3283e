"""Every way in which the vault says no, as one tree.

Each error carries data for its answer, never a personal value, key, token secret or PIN. The HTTP rim turns
``code`` and the fields into an RFC 9457 problem; nothing else decides a status::

    VaultError                                   HTTP
    |- InvalidRequestError                       400 413 415 422 428
    |- NotAuthenticatedError                     401
    |- NotAuthorizedError                        403
    |- NotFoundError                             404
    |- ConflictError, DuplicateValueError        409
    |- RecordErasedError, RecordExpiredError     410
    |- PreconditionFailedError                   412
    |- UnavailableError                          503 + Retry-After
    |- IntegrityError                            500, alarm
    `- MisconfiguredError                        refuse to start
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request.

    Attributes:
        pointer: RFC 6901 JSON pointer into the request's document. A segment that the schema does not
            declare stands as ``*other``: a name somebody sent can be personal, too.
        code: the rule that was broken, for example ``required``, ``format``, ``duplicate``.
        detail: one sentence about the rule, without the value; may be empty.
    """

    pointer: str
    code: str
    detail: str = ""


class VaultError(Exception):
    """The root. ``code`` is the last part of the problem type ``urn:strongroom:error:CODE``.

    Args:
        detail: one sentence for the caller: what is wrong and, where it helps, what to do next.
        violations: the single things that are wrong, when there are several.
    """

    code = "internal"
    title = "Internal error"
    is_audited = False
    """Whether core has written the entry for this failure already."""

    def __init__(self, detail: str, *, violations: Sequence[Violation] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.violations = tuple(violations)


class InvalidRequestError(VaultError):
    """The request cannot be carried out as sent; sending it again will not help.

    Args:
        detail: one sentence for the caller.
        code: the problem code.
        violations: the single things that are wrong.
    """

    code = "invalid-request"
    title = "The request is not valid"

    def __init__(self, detail: str, *, code: str | None = None, violations: Sequence[Violation] = ()) -> None:
        super().__init__(detail, violations=violations)
        if code is not None:
            self.code = code


class MalformedBodyError(InvalidRequestError):
    """The body is not the JSON that was promised (400)."""

    code = "malformed-body"
    title = "The body cannot be read"


class TooLargeError(InvalidRequestError):
    """The body or document is over a documented limit (413)."""

    code = "too-large"
    title = "The body is too large"


class UnsupportedMediaTypeError(InvalidRequestError):
    """The content type is not the one this call takes (415)."""

    code = "unsupported-media-type"
    title = "The content type is not supported"


class UnprocessableError(InvalidRequestError):
    """Well-formed, and against a rule: schema, normaliser, mask, purpose (422)."""

    code = "unprocessable"
    title = "The request breaks a rule"


class PreconditionRequiredError(InvalidRequestError):
    """The collection demands ``If-Match`` and none was sent (428)."""

    code = "precondition-required"
    title = "If-Match is required"


class NotAuthenticatedError(VaultError):
    """No credential, or none that counts (401). Unknown, revoked and expired look the same from outside.

    Args:
        reason: ``missing``, ``malformed`` or ``invalid``: for the audit log, never for the answer.
    """

    code = "not-authenticated"
    title = "A valid credential is required"

    def __init__(self, reason: str) -> None:
        super().__init__("Send a valid credential as: Authorization: Bearer ...")
        self.reason = reason


class NotAuthorizedError(VaultError):
    """The credential is good and does not allow this (403)."""

    code = "not-authorized"
    title = "Not allowed"


class NotFoundError(VaultError):
    """There is no such collection, record or other thing (404)."""

    code = "not-found"
    title = "Not found"


class CollectionNotFoundError(NotFoundError):
    """There is no collection of this name in the caller's tenant."""

    code = "collection-not-found"


class RecordNotFoundError(NotFoundError):
    """There is no record with this token in the collection."""

    code = "record-not-found"


class KeyringNotFoundError(NotFoundError):
    """There is no keyring of this name in the caller's tenant."""

    code = "keyring-not-found"


class JobNotFoundError(NotFoundError):
    """There is no job of this id that the caller may see."""

    code = "job-not-found"


class ConflictError(VaultError):
    """The request conflicts with what is stored (409).

    Args:
        detail: one sentence for the caller.
        code: the problem code.
        violations: the single things that conflict.
    """

    code = "conflict"
    title = "Conflict"

    def __init__(self, detail: str, *, code: str | None = None, violations: Sequence[Violation] = ()) -> None:
        super().__init__(detail, violations=violations)
        if code is not None:
            self.code = code


class SchemaConflictError(ConflictError):
    """A schema change that the records already stored do not allow."""

    code = "schema-conflict"


class DuplicateValueError(ConflictError):
    """Another record holds a value that must be unique. Names the field, never the value."""

    code = "duplicate-value"
    title = "The value is taken"

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(
            "Another record of this collection has the same value in: " + ", ".join(fields),
            violations=[Violation(f"/{field}", "duplicate") for field in fields],
        )
        self.fields = tuple(fields)


class InFlightError(ConflictError):
    """A twin of this request, with the same Idempotency-Key, is being carried out (409 + Retry-After)."""

    code = "idempotency-in-flight"
    title = "The same request is being carried out"
    retry_after_seconds = 1

    def __init__(self) -> None:
        super().__init__(
            "A request with this Idempotency-Key is being carried out; send it again in a second."
        )


class RecordErasedError(VaultError):
    """The record was erased (410)."""

    code = "record-erased"
    title = "Erased"


class RecordExpiredError(VaultError):
    """The record's time is over (410), even if the eraser has not come by yet."""

    code = "record-expired"
    title = "Expired"


class PreconditionFailedError(VaultError):
    """``If-Match`` names another state of the record than the stored one (412)."""

    code = "precondition-failed"
    title = "The record has changed"


OUTCOME_UNKNOWN = "outcome-unknown"
"""The code of an :class:`UnavailableError` after which nobody knows whether the write was carried out, whole, or not."""


class UnavailableError(VaultError):
    """Keys, store or audit cannot be reached just now; nothing was half-written (503 + Retry-After).

    Args:
        detail: one sentence for the caller.
        code: ``keys-unavailable``, ``store-unavailable``, ``audit-unavailable`` or ``outcome-unknown``.
        retry_after_seconds: a whole number of seconds, at least 1.

    Attributes:
        reason: a fixed word for the log, if it is known why.
    """

    code = "unavailable"
    title = "Not available just now"
    reason: str | None = None

    def __init__(self, detail: str, *, code: str = "unavailable", retry_after_seconds: int = 1) -> None:
        super().__init__(detail)
        self.code = code
        self.retry_after_seconds = retry_after_seconds


class IntegrityError(VaultError):
    """Stored bytes are not what the vault wrote (500 and an alarm). Wrong data is never returned.

    Args:
        finding: a fixed word for what is wrong, for example ``row-mac``, ``seal``, ``index-binding``.
        where: the table and public reference, for example ``record 6f1c...``; for the log, not the answer.
    """

    code = "integrity"
    title = "Stored data failed an integrity check"

    def __init__(self, finding: str, *, where: str) -> None:
        super().__init__("Stored data failed an integrity check; the operator has been alarmed.")
        self.finding = finding
        # A tampered name can hold halves of surrogate pairs, which no terminal, log or JSON takes.
        self.where = where.encode("utf-8", "backslashreplace").decode()

    def __str__(self) -> str:
        return f"{self.finding}: {self.where}"


class MisconfiguredError(VaultError):
    """The configuration, a file or the database does not allow a safe start. The sentence says what to do."""

    code = "misconfigured"
    title = "Misconfigured"
