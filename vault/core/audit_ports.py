"""What core needs of a store for the access log: insert and search, never change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from vault.core.ports import Page
from vault.core.rows import AuditRow


@dataclass(frozen=True, slots=True)
class AuditCriteria:
    """What to search the log for; None means any."""

    tenant: str
    principal: str | None = None
    tokens: tuple[bytes, ...] | None = None
    action: str | None = None
    result: str | None = None
    collection: str | None = None
    purpose: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class RefusalTally:
    """Unauthenticated requests of one minute from one address for one reason."""

    address: str
    reason: str
    minute: int
    count: int


class AuditStore(Protocol):
    """The access log: insert only."""

    def append(self, entries: Sequence[AuditRow]) -> None:
        """Commit entries on their own."""
        ...

    def search(self, criteria: AuditCriteria, *, page: Page, entry: AuditRow) -> list[AuditRow]:
        """Find entries, newest first (``page.after`` is the id to stay below, 0 for none); commit the entry."""
        ...

    def tally_refusal(self, refusal: RefusalTally, *, entry_for: Callable[[RefusalTally], AuditRow]) -> None:
        """Add to the tally of the running minute; turn the tallies of past minutes into entries."""
        ...

    def close_tallies(self, before_minute: int, *, entry_for: Callable[[RefusalTally], AuditRow]) -> None:
        """Turn the tallies of past minutes into entries."""
        ...
