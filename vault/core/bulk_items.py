"""From a planned operation to what the store carries out, with the entries that go with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from vault.core.errors import DuplicateValueError, IntegrityError, TooLargeError, VaultError
from vault.core.operations import GetOperation, LookupOperation, Operation
from vault.core.policy import Caller
from vault.core.ports import DuplicateIndexError, RecordKey, TagQuery
from vault.core.record_access import RecordAccess, not_found
from vault.core.record_drafts import Drafted
from vault.core.record_seal import SealedRecord
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
class ShownLimits:
    """How much one batch shows: records, and bytes of their sealed documents."""

    records: int
    document_bytes: int


class _Room:
    """What is left of a batch's limits; nothing, once something did not fit: what is fetched has a limit, too."""

    def __init__(self, limits: ShownLimits) -> None:
        self._limits = limits
        self.empty()

    def empty(self) -> None:
        self._records = self._limits.records
        self._bytes = self._limits.document_bytes
        self._is_full = False

    def take(self, rows: Sequence[RecordRow]) -> None:
        self._records -= len(rows)
        self._bytes -= sum(len(row.sealed_document or b"") for row in rows)
        self._is_full |= self._records < 0 or self._bytes < 0
        self.check()

    def check(self) -> None:
        if self._is_full:
            raise TooLargeError(
                f"A batch shows at most {self._limits.records:,} records and {self._limits.document_bytes:,} bytes of "
                "documents; ask for this one in another batch.",
                code="answer-too-large",
            )


class ItemMaker:
    """Makes the items of one batch, which share one limit on what they show.

    Args:
        access: the way to the records.
        limits: how much the batch shows.
    """

    def __init__(self, access: RecordAccess, limits: ShownLimits) -> None:
        self._access = access
        self._room = _Room(limits)
        self._writes = RecordWrites(access)
        self._releases = Releases(access)

    def begin(self) -> None:
        """Forget what was shown: the transaction begins, maybe once more."""
        self._room.empty()

    def item(self, caller: Caller, collection: str, step: Step) -> BatchItem:
        """Make the item of one step."""
        refused = self._refusal_entry(caller, collection, step.operation)
        if step.refusal is not None:
            return BatchRefused(step.refusal, refused(step.refusal))
        if isinstance(step.operation, GetOperation):
            return self._read_item(caller, collection, step, step.operation, refused)
        if isinstance(step.operation, LookupOperation):
            return self._lookup_item(caller, step, step.operation, refused)
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
        refused: RefusalEntry,
    ) -> BatchRead:
        definition = step.defined()

        def entry_for(current: RecordRow | None, wanted: RecordRow | None) -> tuple[RecordRow, AuditRow]:
            if current is None:
                raise not_found()
            row, entry = self._releases.read_entry(
                caller, definition, operation.view, current=current, wanted=wanted
            )
            self._room.take([row])
            return row, entry

        key = RecordKey(caller.tenant, collection, operation.token)
        return BatchRead(key, operation.generation, entry_for, refused, self._room.check)

    def _lookup_item(
        self,
        caller: Caller,
        step: Step,
        operation: LookupOperation,
        refused: RefusalEntry,
    ) -> BatchLookup:
        definition = step.defined()
        lookup = operation.lookup

        def entries_for(found: Sequence[tuple[IndexRow, RecordRow]]) -> Sequence[AuditRow]:
            self._room.take([row for _, row in found])
            return self._releases.lookup_entries(
                caller, definition, lookup.view, field=lookup.field, found=found
            )

        assert step.query is not None  # noqa: S101 - a look-up that was not refused has its tag
        return BatchLookup(step.query, lookup.page, entries_for, refused, self._room.check)

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
