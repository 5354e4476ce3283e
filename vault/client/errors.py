# ruff: noqa: N818 - users write `except strongroom.NotFound`: the short names are the public face, as in most clients
"""What a call to a vault can answer other than success.

Each carries what the server's RFC 9457 problem says; none carries a personal value or the credential::

    StrongroomError                    HTTP          the caller's move
    |- InvalidRequest                  400 413 415   mend the request
    |                                  422 428
    |- NotAuthenticated                401           another credential
    |- NotAllowed                      403           another grant
    |- NotFound                        404           nobody has it
    |- Conflict                        409           look at what is stored
    |  `- Duplicate                    409           ``fields`` names what is taken
    |- Gone                            410           erased or expired, for good
    |- PreconditionFailed              412           read again, then decide
    |- Unavailable                     429 503       try again after ``retry_after_seconds``; the client has done so
    |- ConnectionFailed                -             nobody answered
    |- UnexpectedAnswer                any           this is no Strongroom, or one that is too new
    `- Misconfigured                   -             nothing was sent: mend the client's settings
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong with a request.

    Attributes:
        pointer: RFC 6901 JSON pointer into the request's document.
        code: the rule that was broken, for example ``required`` or ``duplicate``.
        detail: one sentence about the rule, without the value; may be empty.
    """

    pointer: str
    code: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.pointer or '/'}: {self.detail or self.code}"


class StrongroomError(Exception):
    """The root: catch it to catch everything that the client raises about a request.

    Args:
        detail: one sentence: what is wrong and, where it helps, what to do next.
        status: the HTTP status, or None if there was no answer.
        code: the last part of the problem type ``urn:strongroom:error:CODE``.
        title: the kind of problem, in a few words.
        request_id: the server's name for this request: what its operator asks for.
        errors: the single things that are wrong, when there are several.

    Attributes:
        index: which operation of an atomic batch was refused; the others were not carried out either.
        attempts: how often the request was sent, or tried to be.
        outcome_unknown: True if a write may have been carried out all the same: look, or send it again with the
            same ``idempotency_key``.
        idempotency_key: the key that the request carried, if it did.
        retry_after_seconds: the server's advice when to try again, if it gave one.
    """

    index: int | None = None
    attempts: int = 1
    outcome_unknown: bool = False
    idempotency_key: str | None = None
    retry_after_seconds: int | None = None

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        code: str = "unknown",
        title: str = "",
        request_id: str | None = None,
        errors: Sequence[Violation] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.code = code
        self.title = title
        self.request_id = request_id
        self.errors = tuple(errors)

    def __str__(self) -> str:
        # Where there is no sentence about a single thing, the detail has said it already.
        single = [str(error) for error in self.errors if error.detail]
        known = [self.code]
        if self.index is not None:
            known.append(f"operation {self.index}")
        if self.request_id:
            known.append(f"request {self.request_id}")
        if self.attempts > 1:
            known.append(f"tried {self.attempts} times")
        if self.outcome_unknown:
            known.append("outcome unknown")
        return f"{' '.join([self.detail, *single])} ({', '.join(known)})"


class InvalidRequest(StrongroomError):
    """The request breaks a rule; sending it again will not help. ``errors`` says where."""


class NotAuthenticated(StrongroomError):
    """The server wants a credential, or does not accept this one."""


class NotAllowed(StrongroomError):
    """The credential is good and does not allow this."""


class NotFound(StrongroomError):
    """There is no such collection, record or other thing."""


class Conflict(StrongroomError):
    """The request conflicts with what is stored."""


class Duplicate(Conflict):
    """Another record holds a value that must be unique."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the taken fields; their values are never told."""
        pointers = (error.pointer.removeprefix("/") for error in self.errors)
        return tuple(pointer.replace("~1", "/").replace("~0", "~") for pointer in pointers)


class Gone(StrongroomError):
    """The record was erased, or its time is over; it does not come back."""


class PreconditionFailed(StrongroomError):
    """The record is not in the state that ``if_match`` names: read it again, then decide."""


class Unavailable(StrongroomError):
    """The vault cannot answer just now; nothing was written, unless ``outcome_unknown`` says so.

    ``retry_after_seconds`` is the server's advice, at least 1.
    """

    retry_after_seconds: int = 1


class ConnectionFailed(StrongroomError):
    """No answer came: refused, unreachable, an untrusted certificate, or the time was over."""


class UnexpectedAnswer(StrongroomError):
    """An answer that Strongroom does not give: a proxy's page, a redirect, or another release's format."""


class Misconfigured(StrongroomError):
    """The client's own settings do not allow a safe call. Nothing was sent; the sentence says what to do."""
