"""Planning a batch: everything that needs rules or keys, done for all operations before the transaction begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vault.core.batches import BatchItem
from vault.core.bulk_items import ItemMaker, ShownLimits, Step
from vault.core.collections import Definition
from vault.core.content import Content
from vault.core.errors import (
    NotAuthorizedError,
    UnavailableError,
    UnprocessableError,
    VaultError,
    Violation,
)
from vault.core.operations import (
    CreateOperation,
    EraseOperation,
    LookupOperation,
    Operation,
    UnreadableOperation,
    UpdateOperation,
)
from vault.core.policy import Caller, authorize
from vault.core.reading import Reading
from vault.core.record_access import RecordAccess, not_found
from vault.core.record_drafts import draft_change, draft_new
from vault.core.record_rules import check_if_match, check_live, check_not_erased, check_purpose_stated
from vault.core.record_seal import RecordSealer
from vault.core.rows import RecordRow


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """A batch that is ready for its transaction.

    Attributes:
        steps: one for each operation.
        items: the same for the store.
        now: UTC microseconds that the plan was made for.
        begin: to be called whenever the transaction begins.
    """

    steps: Sequence[Step]
    items: Sequence[BatchItem]
    now: int
    begin: Callable[[], None]


class Planner:
    """Plans batches.

    Args:
        access: the way to the records.
        reading: makes the tags of look-ups.
        limits: how much one batch shows.
    """

    def __init__(self, access: RecordAccess, reading: Reading, limits: ShownLimits) -> None:
        self._access = access
        self._reading = reading
        self._limits = limits
        self._sealer = RecordSealer(access.keyrings)

    def plan(self, caller: Caller, collection: str, operations: Sequence[Operation]) -> PlannedBatch:
        """Do all that can be done before the transaction.

        Raises:
            CollectionNotFoundError: there is no such collection.
            UnprocessableError: ``purpose-required``.
            UnavailableError: keys or store are out.
        """
        now = self._access.clock()
        steps = [Step(operation) for operation in operations]
        self._authorize(caller, collection, steps)
        _refuse_repeated(steps)
        self._find_previous(caller, collection, _live(steps), now)
        self._draft(_live(steps), now)
        self._seal(_live(steps))
        for step in _live(steps):
            if isinstance(step.operation, LookupOperation):
                self._find_tag(step, step.operation)
        maker = ItemMaker(self._access, self._limits)
        items = [maker.item(caller, collection, step) for step in steps]
        return PlannedBatch(steps, items, now, maker.begin)

    def _authorize(self, caller: Caller, collection: str, steps: Sequence[Step]) -> None:
        # Once for all: redefined between two operations, one could be stored by a definition that never checked it.
        definition = self._access.collections.current(caller.tenant, collection)
        for step in steps:
            if isinstance(step.operation, UnreadableOperation):
                step.refusal = step.operation.error
                continue
            try:
                authorize(caller, step.operation.action)
                step.definition = definition
            except NotAuthorizedError as error:
                step.refusal = error
        if _live(steps):
            check_purpose_stated(caller, definition)

    def _find_previous(self, caller: Caller, collection: str, steps: Sequence[Step], now: int) -> None:
        changes = [
            (step, step.operation)
            for step in steps
            if isinstance(step.operation, UpdateOperation | EraseOperation)
        ]
        rows = self._access.store.find_many(
            caller.tenant, collection, [operation.token for _, operation in changes]
        )
        for step, operation in changes:
            try:
                step.previous = self._checked(rows.get(operation.token), operation, step.defined(), now)
            except VaultError as error:
                step.refusal = error

    def _checked(
        self,
        row: RecordRow | None,
        operation: UpdateOperation | EraseOperation,
        definition: Definition,
        now: int,
    ) -> RecordRow:
        if row is None:
            raise not_found()
        self._access.check(row)
        if isinstance(operation, EraseOperation):
            check_not_erased(row)
        else:
            check_live(row, now)
        check_if_match(row, operation.if_match, definition)
        return row

    def _draft(self, steps: Sequence[Step], now: int) -> None:
        updates = [
            (step, step.operation, step.previous)
            for step in steps
            if isinstance(step.operation, UpdateOperation) and step.previous is not None
        ]
        contents = self._sealer.open_all([previous for _, _, previous in updates])
        current: dict[int, Content] = {}
        for (step, _, _), content in zip(updates, contents, strict=True):
            if isinstance(content, UnavailableError):
                # Nothing has happened yet, and the others would fare no better.
                raise content
            if isinstance(content, VaultError):
                step.refusal = content
            else:
                current[id(step)] = content
        for step in _live(steps):
            try:
                if isinstance(step.operation, CreateOperation):
                    step.drafted = draft_new(step.operation.document, step.defined(), now)
                elif isinstance(step.operation, UpdateOperation) and step.previous is not None:
                    step.drafted = draft_change(
                        step.operation.change, step.previous, current[id(step)], step.defined(), now
                    )
            except VaultError as error:
                step.refusal = error

    def _seal(self, steps: Sequence[Step]) -> None:
        drafted = [(step, step.drafted) for step in steps if step.drafted is not None]
        if not drafted:
            return
        definition = drafted[0][0].defined()
        sealed = self._sealer.seal([each.draft for _, each in drafted], definition)
        for (step, _), record in zip(drafted, sealed, strict=True):
            step.sealed = record

    def _find_tag(self, step: Step, operation: LookupOperation) -> None:
        lookup = operation.lookup
        try:
            step.query = self._reading.tag_query(step.defined(), lookup.field, lookup.value, lookup.region)
        except VaultError as error:
            step.refusal = error


def _live(steps: Sequence[Step]) -> list[Step]:
    return [step for step in steps if step.refusal is None]


def _refuse_repeated(steps: Sequence[Step]) -> None:
    seen: set[bytes] = set()
    for step in _live(steps):
        token = step.operation.token
        if token is None:
            continue
        if token in seen:
            step.refusal = UnprocessableError(
                "A batch names each token once; send this operation in another batch.",
                code="repeated-token",
                violations=[Violation("/token", "repeated")],
            )
        seen.add(token)
