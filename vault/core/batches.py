"""Batches as the store sees them: prepared operations, carried out in their order in one transaction.

Everything that needs keys or rules was done before; a store only stores, finds, and asks for the entries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vault.core.errors import VaultError
from vault.core.ports import DuplicateIndexError, Page, RecordKey, RecordWrite, TagQuery
from vault.core.receipts import Receipt
from vault.core.rows import AuditRow, IndexRow, RecordRow


class BatchRefusedError(Exception):
    """An atomic batch holds an operation that was refused; nothing was kept.

    Args:
        position: which operation.
        error: why.
    """

    def __init__(self, position: int, error: Refusal) -> None:
        super().__init__(f"operation {position}")
        self.position = position
        self.error = error


Refusal: TypeAlias = DuplicateIndexError | VaultError
RefusalEntry: TypeAlias = Callable[[Refusal], AuditRow]
"""Makes the entry of an operation that was refused."""


@dataclass(frozen=True, slots=True)
class BatchCreate:
    """Store a new record."""

    write: RecordWrite
    refused: RefusalEntry


@dataclass(frozen=True, slots=True)
class BatchReplace:
    """Store the next generation, if ``previous`` is still the stored revision."""

    write: RecordWrite
    previous: RecordRow
    refused: RefusalEntry


@dataclass(frozen=True, slots=True)
class BatchErase:
    """Turn a record into its tombstone, if ``previous`` is still the stored revision."""

    tombstone: RecordRow
    previous: RecordRow
    entry: AuditRow


@dataclass(frozen=True, slots=True)
class BatchRead:
    """Fetch a record, or an earlier generation, with its entry.

    Attributes:
        entry_for: chooses what is read from the current row (None: no such record) and the wanted one (None: not
            kept), and makes its entry; raises a VaultError to refuse.
        check_room: asked before anything is fetched; raises a VaultError if the batch has shown enough.
    """

    key: RecordKey
    generation: int | None
    entry_for: Callable[[RecordRow | None, RecordRow | None], tuple[RecordRow, AuditRow]]
    refused: RefusalEntry
    check_room: Callable[[], None]


@dataclass(frozen=True, slots=True)
class BatchLookup:
    """Find live records by tag with their entries.

    Attributes:
        entries_for: makes the entries of what was found; raises a VaultError to refuse.
        check_room: as for a read.
    """

    query: TagQuery
    page: Page
    entries_for: Callable[[Sequence[tuple[IndexRow, RecordRow]]], Sequence[AuditRow]]
    refused: RefusalEntry
    check_room: Callable[[], None]


@dataclass(frozen=True, slots=True)
class BatchRefused:
    """Refused before the transaction began."""

    error: VaultError
    entry: AuditRow


BatchItem: TypeAlias = BatchCreate | BatchReplace | BatchErase | BatchRead | BatchLookup | BatchRefused
Outcome: TypeAlias = RecordRow | list[RecordRow] | Refusal
"""The row that was written or read, the rows that were found, or why not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Prepared operations.

    Attributes:
        items: in their order.
        now: UTC microseconds: what is expired.
        is_atomic: all or nothing.
        is_dry_run: do it all, and keep nothing, not even entries.
        claim: the receipt that stands for the whole request; the first thing that is written.
        receipts_for: makes the receipts of the single operations from their outcomes.
        begin: called first of all, and again if the transaction was lost and all of it is done once more.
    """

    items: Sequence[BatchItem]
    now: int
    is_atomic: bool = False
    is_dry_run: bool = False
    claim: Receipt | None = None
    receipts_for: Callable[[Sequence[Outcome]], Sequence[Receipt]] | None = None
    begin: Callable[[], None] = lambda: None
