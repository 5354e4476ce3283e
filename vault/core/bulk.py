"""Batches of operations: what would happen one after the other, with keys fetched together and one commit.

First everything that needs rules or keys, for all operations; then one transaction that only stores (docs/adr/0014).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from vault.audit.events import Action, Result
from vault.core.batches import Batch, BatchRefusedError, Outcome, Refusal
from vault.core.bulk_items import ShownLimits, Step, result_of
from vault.core.bulk_plan import PlannedBatch, Planner
from vault.core.bulk_results import (
    BulkResult,
    Found,
    ItemResult,
    OperationRefused,
    Written,
    header_receipt,
    receipts_of,
    replayed,
)
from vault.core.errors import (
    DuplicateValueError,
    UnprocessableError,
    VaultError,
    Violation,
)
from vault.core.idempotency import Claim
from vault.core.operations import GetOperation, LookupOperation, Operation
from vault.core.policy import Caller
from vault.core.ports import DuplicateIndexError, StaleWriteError
from vault.core.reading import Reading
from vault.core.receipts import Receipt, ReceiptExistsError
from vault.core.record_access import MAX_ATTEMPTS, RecordAccess
from vault.core.record_writes import RecordWrites
from vault.core.records import contended
from vault.core.releases import Release, Releases, ShownRecord
from vault.core.rows import RecordRow
from vault.core.trail import event_of

MAX_OPERATIONS = 1_000
"""How many operations a batch has at most; at least one."""
SHOWN_LIMITS = ShownLimits(records=5_000, document_bytes=16 * 1_048_576)
"""How much a batch shows at most; look-ups and gets are refused from the first one on that does not fit. Each record
that is shown has an entry, and while entries are written nobody else writes."""


class Bulk:
    """Carries out batches.

    Args:
        access: the way to the records.
        reading: makes the tags of look-ups.
    """

    def __init__(self, access: RecordAccess, reading: Reading) -> None:
        self._access = access
        self._planner = Planner(access, reading, SHOWN_LIMITS)
        self._releases = Releases(access)
        self._writes = RecordWrites(access)

    def run(
        self,
        caller: Caller,
        collection: str,
        operations: Sequence[Operation],
        *,
        is_atomic: bool = False,
        is_dry_run: bool = False,
        claim: Claim | None = None,
    ) -> BulkResult:
        """Carry out a batch.

        Args:
            caller: who asks.
            collection: where.
            operations: 1 to :data:`MAX_OPERATIONS`.
            is_atomic: all or nothing.
            is_dry_run: find out what would happen, and keep nothing.
            claim: the request's hold on its Idempotency-Key.

        Raises:
            CollectionNotFoundError: there is no such collection.
            OperationRefused: the batch is atomic, and this operation cannot be carried out.
            UnavailableError: keys or store are out; nothing was kept.
            UnprocessableError: the number of operations, or another body under the same key.
        """
        if not 1 <= len(operations) <= MAX_OPERATIONS:
            raise UnprocessableError(
                f"A batch has 1 to {MAX_OPERATIONS:,} operations.",
                code="body-members",
                violations=[Violation("/operations", "range", f"1 to {MAX_OPERATIONS:,} operations")],
            )
        earlier = [] if claim is None else claim.earlier()
        if not earlier:
            try:
                return self._until_fresh(caller, collection, operations, is_atomic, is_dry_run, claim)
            except ReceiptExistsError:
                earlier = [] if claim is None else claim.of_twin()
        return self._replayed(caller, collection, operations, earlier)

    def _until_fresh(
        self,
        caller: Caller,
        collection: str,
        operations: Sequence[Operation],
        is_atomic: bool,  # noqa: FBT001 - passed through from the keyword of run()
        is_dry_run: bool,  # noqa: FBT001 - the same
        claim: Claim | None,
    ) -> BulkResult:
        for _ in range(MAX_ATTEMPTS):
            plan = self._planner.plan(caller, collection, operations)
            batch = Batch(
                items=plan.items,
                now=plan.now,
                begin=plan.begin,
                is_atomic=is_atomic,
                is_dry_run=is_dry_run,
                claim=None if claim is None else header_receipt(claim, collection),
                receipts_for=None
                if claim is None
                else functools.partial(receipts_of, claim, collection, operations),
            )
            try:
                outcomes = self._access.store.batch(batch)
            except BatchRefusedError as refused:
                error = _explained(refused.error)
                raise self._refused(caller, collection, operations, refused.position, error) from refused
            except StaleWriteError as stale:
                self._make_fresh(caller, collection, stale)
                continue
            if is_dry_run:
                self._rehearsed(caller, collection, len(operations))
            return BulkResult(self._answered(caller, operations, plan, outcomes))
        raise contended("The batch")

    def _make_fresh(self, caller: Caller, collection: str, stale: StaleWriteError) -> None:
        if stale.cause == "keys":
            self._access.keyrings.load()
        elif stale.cause == "expired":
            self._writes.erase_expired(caller, collection, stale.tokens)

    def _refused(
        self,
        caller: Caller,
        collection: str,
        operations: Sequence[Operation],
        position: int,
        error: VaultError,
    ) -> OperationRefused:
        operation = operations[position]
        self._access.trail.append(
            event_of(
                caller,
                operation.action,
                result_of(error),
                reason=error.code,
                collection=collection,
                token=operation.token,
            )
        )
        error.is_audited = True
        return OperationRefused(position, error)

    def _rehearsed(self, caller: Caller, collection: str, count: int) -> None:
        self._access.trail.append(
            event_of(caller, Action.RECORD_REHEARSE, Result.DONE, collection=collection, count=count)
        )

    def _answered(
        self,
        caller: Caller,
        operations: Sequence[Operation],
        plan: PlannedBatch,
        outcomes: Sequence[Outcome],
    ) -> list[ItemResult]:
        # All released rows are opened together: one call to each key provider.
        releases = [
            _releases_of(operation, outcome, step)
            for operation, outcome, step in zip(operations, outcomes, plan.steps, strict=True)
        ]
        shown = iter(self._releases.show([release for of_item in releases for release in of_item]))
        return [
            self._result(caller, operation, outcome, of_item, [next(shown) for _ in of_item])
            for operation, outcome, of_item in zip(operations, outcomes, releases, strict=True)
        ]

    def _result(
        self,
        caller: Caller,
        operation: Operation,
        outcome: Outcome,
        releases: Sequence[Release],
        shown: Sequence[ShownRecord | VaultError],
    ) -> ItemResult:
        if isinstance(outcome, DuplicateIndexError | VaultError):
            return _explained(outcome)
        error = next((result for result in shown if isinstance(result, VaultError)), None)
        if error is not None:
            self._releases.failed(caller, releases, error)
            return error
        records = [result for result in shown if not isinstance(result, VaultError)]
        if isinstance(operation, LookupOperation):
            return Found(records, is_full=len(records) == operation.lookup.page.limit)
        if isinstance(operation, GetOperation):
            return records[0]
        assert isinstance(outcome, RecordRow)  # noqa: S101 - what a write gives
        return Written(operation.action, outcome)

    def _replayed(
        self, caller: Caller, collection: str, operations: Sequence[Operation], earlier: Sequence[Receipt]
    ) -> BulkResult:
        self._access.definition_for(caller, Action.RECORD_CREATE, collection)
        tokens = [receipt.token for receipt in earlier if receipt.token is not None]
        rows = self._access.store.find_many(caller.tenant, collection, tokens)
        for row in rows.values():
            self._access.check(row)
        now = self._access.clock()
        items = [
            replayed(operation, receipt, rows, now)
            for operation, receipt in zip(operations, earlier, strict=True)
        ]
        events = [
            event_of(
                caller,
                item.action,
                Result.RELEASED,
                reason="replayed",
                collection=collection,
                token=item.row.token,
                generation=item.row.generation,
            )
            for item in items
            if isinstance(item, Written)
        ]
        self._access.trail.append(*events)
        return BulkResult(items, is_replay=True)


def _explained(refusal: Refusal) -> VaultError:
    if isinstance(refusal, DuplicateIndexError):
        return DuplicateValueError(tuple(refusal.holders))
    return refusal


def _releases_of(operation: Operation, outcome: Outcome, step: Step) -> list[Release]:
    if isinstance(operation, GetOperation) and isinstance(outcome, RecordRow):
        return [Release(operation.action, outcome, step.defined(), operation.view)]
    if isinstance(operation, LookupOperation) and isinstance(outcome, list):
        view = operation.lookup.view
        return [Release(operation.action, row, step.defined(), view, step.query) for row in outcome]
    return []
