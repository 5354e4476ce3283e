"""What every access to a record must satisfy, whatever it then does."""

from __future__ import annotations

from dataclasses import dataclass

from vault.core.collections import Definition
from vault.core.errors import (
    PreconditionFailedError,
    PreconditionRequiredError,
    RecordErasedError,
    RecordExpiredError,
    UnprocessableError,
    Violation,
)
from vault.core.normalise import is_region
from vault.core.policy import Caller
from vault.core.rows import RecordRow


@dataclass(frozen=True, slots=True)
class IfMatch:
    """The states that the caller is willing to change.

    Attributes:
        write_ids: the writes that its ETags name.
        any_state: ``If-Match: *``.
    """

    write_ids: frozenset[bytes]
    any_state: bool = False


def check_purpose_stated(caller: Caller, definition: Definition) -> None:
    """Raise if the collection demands a purpose and the caller states none."""
    if definition.settings.purpose_required and caller.purpose is None:
        raise UnprocessableError(
            "This collection demands a purpose: send the header Strongroom-Purpose.",
            code="purpose-required",
            violations=[Violation("", "purpose-required", "header Strongroom-Purpose")],
        )


def check_if_match(row: RecordRow, if_match: IfMatch | None, definition: Definition) -> None:
    """Raise unless the stored record is in a state that the caller is willing to change."""
    if if_match is None:
        if definition.settings.if_match_required:
            raise PreconditionRequiredError(
                "This collection demands If-Match: send the ETag of your last read."
            )
        return
    if not if_match.any_state and row.write_id not in if_match.write_ids:
        raise PreconditionFailedError("The record has changed since this ETag; read it again.")


def check_not_erased(row: RecordRow) -> None:
    """Raise if only a tombstone is left."""
    if row.erased_at is not None:
        raise RecordErasedError("The record was erased; GET .../erasure says when and how.")


def is_expired(row: RecordRow, now: int) -> bool:
    """Whether the record's time is over."""
    return row.expires_at is not None and row.expires_at <= now


def check_live(row: RecordRow, now: int) -> None:
    """Raise if the record was erased or its time is over."""
    check_not_erased(row)
    if is_expired(row, now):
        raise RecordExpiredError("The record's time is over.")


def check_region(region: str | None) -> None:
    """Raise unless the region is one that telephone numbers can be read in, or None."""
    if region is not None and not is_region(region):
        raise UnprocessableError(
            "The region is a two-letter code such as DE.",
            code="region",
            violations=[Violation("/region", "region")],
        )
