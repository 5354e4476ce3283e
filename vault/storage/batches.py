"""Carrying out a batch: one transaction, each operation that can be refused in a savepoint of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from peewee import Database

from vault.core.batches import (
    Batch,
    BatchCreate,
    BatchErase,
    BatchItem,
    BatchLookup,
    BatchRead,
    BatchRefused,
    BatchRefusedError,
    BatchReplace,
    Outcome,
)
from vault.core.errors import VaultError
from vault.core.ports import DuplicateIndexError, StaleWriteError
from vault.core.rows import AuditRow
from vault.storage.engine import Engine
from vault.storage.record_transaction import RecordTransaction


class _DryRun(Exception):  # noqa: N818 - not an error: the way out of a transaction that keeps nothing
    pass


class _HeldByExpiredError(Exception):
    def __init__(self, tokens: list[bytes]) -> None:
        super().__init__("expired")
        self.tokens = tokens


def run_batch(engine: Engine, inside: RecordTransaction, batch: Batch) -> list[Outcome]:
    """Carry out prepared operations in their order; see :class:`vault.core.ports.RecordStore`."""
    outcomes: list[Outcome] = []
    batch.begin()
    with contextlib.suppress(_DryRun), engine.write() as database:
        if batch.claim is not None:
            inside.receipts.claim(database, batch.claim, now=batch.now)
        entries: list[AuditRow] = []
        expired: list[bytes] = []
        for position, item in enumerate(batch.items):
            try:
                outcome, told = _carried_out(database, inside, batch, item)
            except _HeldByExpiredError as held:
                # All of them are named at once: with a new plan for each, the attempts would not suffice.
                expired += held.tokens
                continue
            if batch.is_atomic and not expired and isinstance(outcome, DuplicateIndexError | VaultError):
                raise BatchRefusedError(position, outcome)
            outcomes.append(outcome)
            entries += told
        if expired:
            raise StaleWriteError("expired", expired)
        if batch.is_dry_run:
            raise _DryRun
        if batch.receipts_for is not None:
            inside.receipts.insert(database, batch.receipts_for(outcomes))
        inside.append(database, entries)
    return outcomes


def _carried_out(
    database: Database, inside: RecordTransaction, batch: Batch, item: BatchItem
) -> tuple[Outcome, list[AuditRow]]:
    if isinstance(item, BatchRefused):
        return item.error, [item.entry]
    if isinstance(item, BatchErase):
        inside.erase(database, item.tombstone, item.previous)
        return item.tombstone, [item.entry]
    try:
        if isinstance(item, BatchRead | BatchLookup):
            return _read(database, inside, batch, item)
        _write(database, inside, batch, item)
    except (DuplicateIndexError, VaultError) as error:
        return error, [item.refused(error)]
    return item.write.record, [item.write.entry]


def _read(
    database: Database, inside: RecordTransaction, batch: Batch, item: BatchRead | BatchLookup
) -> tuple[Outcome, list[AuditRow]]:
    item.check_room()
    if isinstance(item, BatchLookup):
        found = inside.lookup(database, item.query, batch.now, item.page, is_held=True)
        return [row for _, row in found], list(item.entries_for(found))
    # Its entry comes at the end of the batch: until then nobody is to change what it says.
    current = inside.find(database, item.key, is_held=True)
    wanted = None if current is None else inside.generation(database, current, item.generation)
    row, entry = item.entry_for(current, wanted)
    return row, [entry]


def _write(
    database: Database, inside: RecordTransaction, batch: Batch, item: BatchCreate | BatchReplace
) -> None:
    try:
        with _savepoint(database, batch):
            if isinstance(item, BatchCreate):
                inside.create(database, item.write)
            else:
                inside.replace(database, item.write, item.previous)
    except DuplicateIndexError as error:
        expired = error.expired(batch.now)
        if not expired:
            raise
        if not batch.is_dry_run:
            raise _HeldByExpiredError(expired) from error
        # Nothing is erased for a dry run: what is freed here is taken again when it rolls back.
        inside.free_values(database, item.write.record, expired)
        _write(database, inside, batch, item)


@contextlib.contextmanager
def _savepoint(database: Database, batch: Batch) -> Iterator[None]:
    # An atomic batch ends with its first refusal, so there is nothing to come back to.
    if batch.is_atomic and not batch.is_dry_run:
        yield
        return
    with database.savepoint():
        yield
