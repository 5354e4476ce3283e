"""What a database server's refusal means for whoever asked."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from vault.core.errors import UnavailableError


class Kind(Enum):
    """What to do about it."""

    AGAIN = "again"
    """Nothing was kept; the whole transaction may run again."""
    ELSEWHERE = "elsewhere"
    """This server takes no writes now; another connection may reach one that does."""
    LOST = "lost"
    """The connection is gone, and with it the knowledge of what the server did last."""
    LATER = "later"
    """Nothing was kept, and trying again at once would not help."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One refusal.

    Attributes:
        kind: what to do about it.
        reason: the word for the metric.
        sentence: what to tell; it ends without a full stop.
    """

    kind: Kind
    reason: str
    sentence: str


DISK_FULL = Failure(Kind.LATER, "full", "The database server's disk is full")
TOO_MANY = Failure(Kind.LATER, "connections", "The database server takes no more connections")
TOO_SLOW = Failure(Kind.LATER, "deadline", "The database server did not answer in time")
READ_ONLY = Failure(Kind.ELSEWHERE, "read-only", "The database server takes no writes just now")
CONFLICT = Failure(Kind.AGAIN, "conflict", "The database was busy with others' writes")
NO_LOCK = Failure(Kind.AGAIN, "busy", "Others kept the rows locked for too long")
LOST = Failure(Kind.LOST, "lost", "The connection to the database was lost")
DENIED = Failure(
    Kind.LATER,
    "denied",
    "The database user lacks a privilege for this; docs/operations/databases.md lists those that it needs",
)
WRONG_TABLES = Failure(
    Kind.LATER,
    "schema",
    "The database lacks a table or column that this release needs; run strongroom doctor",
)
TOO_LONG = Failure(Kind.LATER, "too-long", "The database server refuses a value of this length")


class ServerAwayError(UnavailableError):
    """The server takes no connection just now. Whoever asks over HTTP does not hear where it is; who works here does.

    Args:
        sentence: for the host's commands.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(
            "The database cannot be reached just now; nothing was done.", code="store-unavailable"
        )
        self._sentence = sentence

    def __str__(self) -> str:
        return self._sentence


class ServerRefusalError(UnavailableError):
    """The server does not carry something out, and would not at the next try. Who works on the host hears where it is.

    Args:
        failure: why.
        place: where.
    """

    def __init__(self, failure: Failure, place: str) -> None:
        super().__init__(f"{failure.sentence}; nothing was written.", code="store-unavailable")
        self.reason = failure.reason
        self._place = place

    def __str__(self) -> str:
        return f"{self._place}: {self.detail}"


def causes_of(error: BaseException) -> Iterator[BaseException]:
    """An error, what the driver raised for it, and what came before: the first thing that went wrong comes first."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    for each in reversed(chain):
        yield from (part for part in each.args if isinstance(part, BaseException))
        yield each


_OTHER_NAME = "The server's certificate is for another name than [database] url has"
_CERTIFICATES = {10: "The server's certificate has expired; renew it", 62: _OTHER_NAME, 64: _OTHER_NAME}
"""What OpenSSL finds wrong with one (X509_V_ERR_...); anything else: nobody vouches for it."""


def tls_refusal(error: ssl.SSLError) -> str:
    """What Python's TLS holds against a server; it ends without a full stop."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"There is no TLS that both sides speak ({error.reason})"
    otherwise = "The server's certificate is not vouched for; set [database] ca"
    return f"{_CERTIFICATES.get(error.verify_code, otherwise)} ({error.verify_message.rstrip('.')})"
