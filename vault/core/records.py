"""Writing records: create, replace, patch.

Each attempt mints a new data key; what the database finds stale is computed again from the start, so no data key
ever makes a second seal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from vault.audit.events import Action, Result
from vault.core.errors import DuplicateValueError, UnavailableError
from vault.core.idempotency import Claim
from vault.core.policy import Caller
from vault.core.ports import DuplicateIndexError, RecordKey, StaleWriteError
from vault.core.receipts import Receipt, ReceiptExistsError
from vault.core.record_access import MAX_ATTEMPTS, RecordAccess
from vault.core.record_drafts import Change, NewDocument, Patch, draft_change, draft_new
from vault.core.record_rules import IfMatch, check_if_match, check_live
from vault.core.record_seal import RecordSealer
from vault.core.record_writes import RecordWrites
from vault.core.rows import RecordRow
from vault.core.trail import event_of

T = TypeVar("T")
CREATED = 201
"""HTTP status that a receipt of a create remembers."""


class Created(NamedTuple):
    """A stored record, and whether an earlier request with the same Idempotency-Key stored it.

    ``is_unchanged`` is False for a record that somebody has written since.
    """

    row: RecordRow
    is_replay: bool = False
    is_unchanged: bool = True


class Records:
    """Creates and changes records.

    Args:
        access: the way to the records.
    """

    def __init__(self, access: RecordAccess) -> None:
        self._access = access
        self._sealer = RecordSealer(access.keyrings)
        self._writes = RecordWrites(access)

    def create(self, caller: Caller, collection: str, document: NewDocument) -> RecordRow:
        """Store a new record and return its row.

        Raises:
            UnprocessableError: schema, normaliser, region or purpose.
            DuplicateValueError: a unique value is taken.
        """
        return self._until_fresh(caller, collection, lambda: self._create(caller, collection, document, None))

    def create_once(self, caller: Caller, collection: str, document: NewDocument, claim: Claim) -> Created:
        """Store a new record, unless the claim's request has done so before.

        Raises:
            UnprocessableError: as for :meth:`create`; or another body under the same key.
            DuplicateValueError: a unique value is taken.
            RecordErasedError: an earlier request stored it, and it was erased since.
        """
        earlier = claim.earlier()
        if not earlier:
            try:
                return Created(
                    self._until_fresh(
                        caller, collection, lambda: self._create(caller, collection, document, claim)
                    )
                )
            except ReceiptExistsError:
                earlier = claim.of_twin()
        return self._replayed(caller, collection, earlier[0])

    def replace(
        self, caller: Caller, key: RecordKey, document: NewDocument, *, if_match: IfMatch | None
    ) -> RecordRow:
        """Store the next generation of a record and return its row.

        Raises:
            UnprocessableError: schema, normaliser, region, purpose, or a mask that would overwrite its value.
            DuplicateValueError: a unique value is taken.
            PreconditionFailedError: the record is not in a state that ``if_match`` names.
        """
        return self._change(caller, key, document, if_match)

    def patch(self, caller: Caller, key: RecordKey, patch: Any, *, if_match: IfMatch | None) -> RecordRow:
        """Merge a patch into a record's document, store the next generation and return its row.

        Raises:
            UnprocessableError: as for :meth:`replace`.
            DuplicateValueError: a unique value is taken.
            PreconditionFailedError: the record is not in a state that ``if_match`` names.
        """
        return self._change(caller, key, Patch(patch), if_match)

    def _create(
        self, caller: Caller, collection: str, document: NewDocument, claim: Claim | None
    ) -> RecordRow:
        definition = self._access.definition_for(caller, Action.RECORD_CREATE, collection)
        drafted = draft_new(document, definition, self._access.clock())
        (sealed,) = self._sealer.seal([drafted.draft], definition)
        receipt = None
        if claim is not None:
            receipt = claim.receipt(
                0, status=CREATED, collection=collection, token=sealed.row.token, generation=1
            )
        self._access.store.create(self._writes.new(caller, sealed, drafted.names, receipt))
        return sealed.row

    def _replayed(self, caller: Caller, collection: str, receipt: Receipt) -> Created:
        self._access.definition_for(caller, Action.RECORD_CREATE, collection)
        row = self._live(RecordKey(caller.tenant, collection, receipt.token or b""))
        event = event_of(
            caller,
            Action.RECORD_CREATE,
            Result.RELEASED,
            reason="replayed",
            collection=collection,
            token=row.token,
            generation=row.generation,
        )
        self._access.trail.append(event)
        return Created(row, is_replay=True, is_unchanged=row.generation == receipt.generation)

    def _change(self, caller: Caller, key: RecordKey, change: Change, if_match: IfMatch | None) -> RecordRow:
        def attempt() -> RecordRow:
            definition = self._access.definition_for(caller, Action.RECORD_UPDATE, key.collection)
            previous = self._live(key)
            check_if_match(previous, if_match, definition)
            current = self._sealer.open(previous)
            drafted = draft_change(change, previous, current, definition, self._access.clock())
            (sealed,) = self._sealer.seal([drafted.draft], definition)
            write = self._writes.change(
                caller, sealed, drafted.names, previous=previous, definition=definition
            )
            self._access.store.replace(write, previous=previous)
            return sealed.row

        return self._until_fresh(caller, key.collection, attempt)

    def _live(self, key: RecordKey) -> RecordRow:
        row = self._access.found(key)
        check_live(row, self._access.clock())
        return row

    def _until_fresh(self, caller: Caller, collection: str, attempt: Callable[[], T]) -> T:
        for _ in range(MAX_ATTEMPTS):
            try:
                return attempt()
            except DuplicateIndexError as error:
                expired = error.expired(self._access.clock())
                if not expired:
                    raise DuplicateValueError(tuple(error.holders)) from error
                self._writes.erase_expired(caller, collection, expired)
            except StaleWriteError as stale:
                if stale.cause == "keys":
                    self._access.keyrings.load()
        raise contended("The write")


def contended(what: str) -> UnavailableError:
    """The answer of a write that was stale each time that it was computed."""
    return UnavailableError(
        f"{what} was overtaken {MAX_ATTEMPTS} times by changes of keys, schema or record; nothing was written.",
        code="contended",
    )
