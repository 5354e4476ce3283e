"""One batch to the server and back: carried out once, however often it is sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from uuid import UUID

from vault.cli.failure import Failure
from vault.cli.moving.batches import Batch
from vault.cli.moving.entries import Entry, NewRecord, Refusal
from vault.cli.moving.patience import Patience
from vault.client import BulkItem, BulkResult, Client, Create
from vault.core.pointers import OTHER_NAME

KEY_SECONDS = 23 * 3600
"""How long a batch may be sent again: the server keeps its key for 24 hours."""

_OF_THE_REQUEST = frozenset({"expires_at", "region", "data", OTHER_NAME})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an entry: a token, or why there is none; in a dry run neither, if it would be stored."""

    entry: Entry
    token: UUID | None = None
    refusals: tuple[Refusal, ...] = ()


class Sender:
    """Sends batches, from any thread.

    Args:
        client: makes no tries of its own.
        collection: where the records go.
        import_id: of the import; with a batch's number it names the batch.
        declared: names that the collection's schema declares; others are not told.
        is_dry_run: only ask what would be refused.
        patience: waits while the server is away.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        client: Client,
        collection: str,
        *,
        import_id: str,
        declared: AbstractSet[str],
        is_dry_run: bool,
        patience: Patience,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._collection = collection
        self._import_id = import_id
        self._tellable = declared | _OF_THE_REQUEST
        self._is_dry_run = is_dry_run
        self._patience = patience
        self._clock = clock

    def send(self, batch: Batch) -> tuple[Outcome, ...]:
        """Return what became of each entry of a batch, in their order.

        Raises:
            StrongroomError: the server refuses the batch as a whole.
            StoppedError: it did not answer until somebody wanted to stop.
            Failure: it did not answer for so long that it may have forgotten the batch.
        """
        records = batch.records
        items = iter(self._stored(batch, records).items if records else ())
        return tuple(
            Outcome(entry, refusals=entry.refusals)
            if entry.record is None
            else self._outcome(entry, next(items))
            for entry in batch.entries
        )

    def _stored(self, batch: Batch, records: list[NewRecord]) -> BulkResult:
        operations = [Create(record.data, record.expires_at, record.region) for record in records]
        key = None if self._is_dry_run else f"import-{self._import_id}-{batch.number}"
        begun = self._clock()

        def check_age() -> None:
            if key is not None and self._clock() - begun > KEY_SECONDS:
                raise Failure(f"The server did not answer for {KEY_SECONDS // 3600} hours.")

        return self._patience.insist(
            lambda: self._client.bulk(
                self._collection, operations, dry_run=self._is_dry_run, idempotency_key=key
            ),
            before_retry=check_age,
        )

    def _outcome(self, entry: Entry, item: BulkItem) -> Outcome:
        if item.error is None:
            return Outcome(entry, token=item.token)
        told = tuple(
            Refusal(self._told(violation.pointer), violation.code) for violation in item.error.errors
        )
        return Outcome(entry, refusals=told or (Refusal("", _rule(item.error.code)),))

    def _told(self, pointer: str) -> str:
        # The server tells no other names either; a report is kept, so it is made sure of here.
        segments = pointer.split("/")[1:]
        return "".join(
            f"/{segment if segment.isdigit() or _unescaped(segment) in self._tellable else OTHER_NAME}"
            for segment in segments
        )


def _unescaped(segment: str) -> str:
    return segment.replace("~1", "/").replace("~0", "~")


def _rule(code: str) -> str:
    # A batch that is told again has lost the single rules; its problem's code is what remains.
    return "duplicate" if code == "duplicate-value" else code
