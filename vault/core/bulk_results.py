"""What becomes of a batch: the result of each operation, now or from the receipts of an earlier time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vault.audit.events import Action
from vault.core.batches import Outcome
from vault.core.bulk_items import code_of
from vault.core.errors import VaultError
from vault.core.idempotency import HEADER_POSITION, Claim
from vault.core.operations import EraseOperation, Operation
from vault.core.ports import DuplicateIndexError
from vault.core.receipts import Receipt
from vault.core.record_access import not_found
from vault.core.record_rules import check_live
from vault.core.releases import ShownRecord
from vault.core.rows import RecordRow

STATUS = {Action.RECORD_CREATE: 201, Action.RECORD_UPDATE: 200, Action.RECORD_ERASE: 204}
"""HTTP status that a receipt remembers of a write that was done."""
WHOLE_BATCH_STATUS = 200


@dataclass(frozen=True, slots=True)
class Written:
    """A create, update or erase that was carried out.

    Attributes:
        action: which of them.
        row: as it is stored now; a tombstone after an erase.
        is_unchanged: False in a replay if somebody has written the record since.
    """

    action: Action
    row: RecordRow
    is_unchanged: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up found, and whether there may be more."""

    records: list[ShownRecord]
    is_full: bool


@dataclass(frozen=True, slots=True)
class EarlierRefusal:
    """An operation of a replayed batch that was refused when the batch was carried out."""

    status: int
    code: str


ItemResult: TypeAlias = Written | ShownRecord | Found | EarlierRefusal | VaultError


@dataclass(frozen=True, slots=True)
class BulkResult:
    """What became of a batch.

    Attributes:
        items: in the order of the operations.
        is_replay: the batch was carried out before, under the same Idempotency-Key.
    """

    items: list[ItemResult]
    is_replay: bool = False


class OperationRefused(Exception):  # noqa: N818 - a way out with an error inside, not one of its own
    """An atomic batch was refused for one of its operations; nothing of it was stored.

    Args:
        position: which one, from 0.
        error: why; its refusal is audited.
    """

    def __init__(self, position: int, error: VaultError) -> None:
        super().__init__(f"operation {position}: {error.code}")
        self.position = position
        self.error = error


def header_receipt(claim: Claim, collection: str) -> Receipt:
    """The receipt that stands for a batch as a whole."""
    return claim.receipt(HEADER_POSITION, status=WHOLE_BATCH_STATUS, collection=collection)


def receipts_of(
    claim: Claim, collection: str, operations: Sequence[Operation], outcomes: Sequence[Outcome]
) -> list[Receipt]:
    """The receipts of a batch's operations, which are all writes."""
    return [
        _receipt(claim, collection, place, operation, outcome)
        for place, (operation, outcome) in enumerate(zip(operations, outcomes, strict=True))
    ]


def _receipt(claim: Claim, collection: str, place: int, operation: Operation, outcome: Outcome) -> Receipt:
    if isinstance(outcome, RecordRow):
        return claim.receipt(
            place,
            status=STATUS[operation.action],
            collection=collection,
            token=outcome.token,
            generation=outcome.generation,
        )
    assert isinstance(outcome, DuplicateIndexError | VaultError)  # noqa: S101 - look-ups take no key
    return claim.receipt(
        place,
        status=claim.status_of(outcome),
        collection=collection,
        token=operation.token,
        code=code_of(outcome),
    )


def replayed(operation: Operation, receipt: Receipt, rows: Mapping[bytes, RecordRow], now: int) -> ItemResult:
    """The result of an operation that an earlier request carried out, from its receipt and the record of now."""
    if receipt.code is not None:
        return EarlierRefusal(receipt.status, receipt.code)
    row = rows.get(receipt.token or b"")
    if row is None:
        return not_found()
    if not isinstance(operation, EraseOperation):
        try:
            check_live(row, now)
        except VaultError as gone:
            return gone
    return Written(operation.action, row, is_unchanged=row.generation == receipt.generation)
