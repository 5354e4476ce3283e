"""From sealed records to what one write commits together, and clearing expired records out of its way."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable

from vault.audit.events import Action, AuditEvent, Result
from vault.core.collections import Definition
from vault.core.policy import Caller
from vault.core.ports import RecordKey, RecordWrite, StaleWriteError
from vault.core.receipts import Receipt
from vault.core.record_access import RecordAccess
from vault.core.record_rules import is_expired
from vault.core.record_seal import SealedRecord, document_sha256
from vault.core.rows import RecordHistoryRow, RecordRow
from vault.core.tombstones import erase_event, tombstone
from vault.core.trail import event_of


class RecordWrites:
    """Prepares writes.

    Args:
        access: the way to the records.
    """

    def __init__(self, access: RecordAccess) -> None:
        self._access = access

    def new(
        self, caller: Caller, sealed: SealedRecord, names: tuple[str, ...], receipt: Receipt | None = None
    ) -> RecordWrite:
        """What creating a record commits."""
        event = _write_event(caller, Action.RECORD_CREATE, sealed.row, names)
        return RecordWrite(
            record=sealed.row, index=sealed.index, entry=self._access.trail.entry(event), receipt=receipt
        )

    def change(
        self,
        caller: Caller,
        sealed: SealedRecord,
        names: tuple[str, ...],
        *,
        previous: RecordRow,
        definition: Definition,
    ) -> RecordWrite:
        """What putting the next generation in the place of ``previous`` commits."""
        event = _write_event(caller, Action.RECORD_UPDATE, sealed.row, names)
        return RecordWrite(
            record=sealed.row,
            index=sealed.index,
            entry=self._access.trail.entry(event),
            history_limit=definition.settings.history,
            history=self._as_history(previous) if definition.settings.history else None,
        )

    def erase_expired(self, caller: Caller, collection: str, tokens: Iterable[bytes]) -> None:
        """Erase those of these records whose time is over: a value that nobody can read must not stay taken."""
        for token in set(tokens):
            row = self._access.store.find(RecordKey(caller.tenant, collection, token))
            if row is None or row.erased_at is not None or not is_expired(row, self._access.clock()):
                continue
            self._access.check(row)
            event = erase_event(caller, row, reason="expired")
            ring = self._access.keyrings.get(row.tenant, row.keyring)
            # Somebody else may have erased it meanwhile; either way the write is worth another try.
            with contextlib.suppress(StaleWriteError):
                self._access.store.erase(
                    tombstone(row, ring, self._access.clock()),
                    previous=row,
                    entry=self._access.trail.entry(event),
                )

    def _as_history(self, row: RecordRow) -> RecordHistoryRow:
        columns = {field.name: getattr(row, field.name) for field in dataclasses.fields(row)}
        kept = RecordHistoryRow(**columns | {"id": None})
        return self._access.keyrings.authenticator(row.tenant, row.keyring).sign(kept)


def _write_event(caller: Caller, action: Action, row: RecordRow, names: tuple[str, ...]) -> AuditEvent:
    return event_of(
        caller,
        action,
        Result.DONE,
        collection=row.collection,
        token=row.token,
        generation=row.generation,
        seal_epoch=row.seal_epoch,
        document_sha256=document_sha256(row),
        fields=names,
    )
