"""Planning a batch: everything that needs rules or keys, done for all operations before the transaction begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vault.audit.events import Result
from vault.core.batches import (
    BatchCreate,
    BatchErase,
    BatchItem,
    BatchLookup,
    BatchRead,
    BatchRefused,
    BatchReplace,
    Refusal,
    RefusalEntry,
)
from vault.core.collections import Definition
from vault.core.content import Content
from vault.core.errors import (
    DuplicateValueError,
    IntegrityError,
    NotAuthorizedError,
    TooLargeError,
    UnavailableError,
    UnprocessableError,
    VaultError,
    Violation,
)
from vault.core.operations import (
    CreateOperation,
    EraseOperation,
    GetOperation,
    LookupOperation,
    Operation,
    UnreadableOperation,
    UpdateOperation,
)
from vault.core.policy import Caller, authorize
from vault.core.ports import DuplicateIndexError, RecordKey, TagQuery
from vault.core.reading import Reading
from vault.core.record_access import RecordAccess, not_found
from vault.core.record_drafts import Drafted, draft_change, draft_new
from vault.core.record_rules import check_if_match, check_live, check_not_erased, check_purpose_stated
from vault.core.record_seal import RecordSealer, SealedRecord
from vault.core.record_writes import RecordWrites
from vault.core.releases import Releases
from vault.core.rows import AuditRow, IndexRow, RecordRow
from vault.core.tombstones import erase_event, tombstone
from vault.core.trail import event_of


@dataclass(slots=True)
class Step:
    """One operation on its way through the plan.

    Attributes:
        refusal: why it cannot be carried out; nothing more is done about it then.
        definition: of the collection.
        previous: the row that it changes.
        drafted: what it will store.
        sealed: the same, sealed.
        query: the look-up by tag that it asks for.
    """

    operation: Operation
    refusal: VaultError | None = None
    definition: Definition | None = None
    previous: RecordRow | None = None
    drafted: Drafted | None = None
    sealed: SealedRecord | None = None
    query: TagQuery | None = None

    def defined(self) -> Definition:
        """The definition, for a step that was not refused."""
        assert self.definition is not None  # noqa: S101 - set before any other work on the step
        return self.definition


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """A batch that is ready for its transaction.

    Attributes:
        steps: one for each operation.
        items: the same for the store.
        now: UTC microseconds that the plan was made for.
    """

    steps: Sequence[Step]
    items: Sequence[BatchItem]
    now: int


@dataclass(slots=True)
class _Budget:
    """How much of a batch's answer is left, in bytes of sealed documents."""

    limit: int
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.limit

    def take(self, rows: Sequence[RecordRow]) -> None:
        size = sum(len(row.sealed_document or b"") for row in rows)
        if size > self.left:
            raise TooLargeError(
                f"This batch shows over {self.limit:,} bytes of documents; ask for this one in another batch.",
                code="answer-too-large",
            )
        self.left -= size


class Planner:
    """Plans batches.

    Args:
        access: the way to the records.
        reading: makes the tags of look-ups.
        max_shown_bytes: how much one batch shows.
    """

    def __init__(self, access: RecordAccess, reading: Reading, *, max_shown_bytes: int) -> None:
        self._access = access
        self._reading = reading
        self._max_shown_bytes = max_shown_bytes
        self._sealer = RecordSealer(access.keyrings)
        self._writes = RecordWrites(access)
        self._releases = Releases(access)

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
        budget = _Budget(self._max_shown_bytes)
        items = [self._item(caller, collection, step, budget) for step in steps]
        return PlannedBatch(steps, items, now)

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

    def _item(self, caller: Caller, collection: str, step: Step, budget: _Budget) -> BatchItem:
        refused = self._refusal_entry(caller, collection, step.operation)
        if step.refusal is not None:
            return BatchRefused(step.refusal, refused(step.refusal))
        if isinstance(step.operation, GetOperation):
            return self._read_item(caller, collection, step, step.operation, budget, refused)
        if isinstance(step.operation, LookupOperation):
            return self._lookup_item(caller, step, step.operation, budget, refused)
        if step.sealed is None or step.drafted is None:
            return self._erase_item(caller, step)
        if step.previous is None:
            return BatchCreate(self._writes.new(caller, step.sealed, step.drafted.names), refused)
        write = self._writes.change(
            caller,
            step.sealed,
            step.drafted.names,
            previous=step.previous,
            definition=step.defined(),
        )
        return BatchReplace(write, step.previous, refused)

    def _erase_item(self, caller: Caller, step: Step) -> BatchErase:
        previous = step.previous
        assert previous is not None  # noqa: S101 - an erase that was not refused has its row
        ring = self._access.keyrings.get(previous.tenant, previous.keyring)
        return BatchErase(
            tombstone(previous, ring, self._access.clock()),
            previous,
            self._access.trail.entry(erase_event(caller, previous)),
        )

    def _read_item(
        self,
        caller: Caller,
        collection: str,
        step: Step,
        operation: GetOperation,
        budget: _Budget,
        refused: RefusalEntry,
    ) -> BatchRead:
        definition = step.defined()

        def entry_for(current: RecordRow | None, wanted: RecordRow | None) -> tuple[RecordRow, AuditRow]:
            if current is None:
                raise not_found()
            row, entry = self._releases.read_entry(
                caller, definition, operation.view, current=current, wanted=wanted
            )
            budget.take([row])
            return row, entry

        key = RecordKey(caller.tenant, collection, operation.token)
        return BatchRead(key, operation.generation, entry_for, refused)

    def _lookup_item(
        self,
        caller: Caller,
        step: Step,
        operation: LookupOperation,
        budget: _Budget,
        refused: RefusalEntry,
    ) -> BatchLookup:
        definition = step.defined()
        lookup = operation.lookup

        def entries_for(found: Sequence[tuple[IndexRow, RecordRow]]) -> Sequence[AuditRow]:
            budget.take([row for _, row in found])
            return self._releases.lookup_entries(
                caller, definition, lookup.view, field=lookup.field, found=found
            )

        assert step.query is not None  # noqa: S101 - a look-up that was not refused has its tag
        return BatchLookup(step.query, lookup.page, entries_for, refused)

    def _refusal_entry(self, caller: Caller, collection: str, operation: Operation) -> RefusalEntry:
        def entry(refusal: Refusal) -> AuditRow:
            event = event_of(
                caller,
                operation.action,
                result_of(refusal),
                reason=code_of(refusal),
                collection=collection,
                token=operation.token,
            )
            return self._access.trail.entry(event)

        return entry


def code_of(refusal: Refusal) -> str:
    """The problem code of a refusal."""
    return DuplicateValueError.code if isinstance(refusal, DuplicateIndexError) else refusal.code


def result_of(refusal: Refusal) -> Result:
    """How an operation that was not carried out ended, as its entry says it."""
    return Result.FAILED if isinstance(refusal, IntegrityError) else Result.REFUSED


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
