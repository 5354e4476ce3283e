"""The access log as core writes it: events become signed rows, and no answer precedes its entry."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable

from vault.audit.entry import EntryOrigin, canonical_entry
from vault.audit.events import Action, AuditEvent, Result
from vault.core.audit_ports import AuditStore, RefusalTally
from vault.core.clock import MINUTE
from vault.core.policy import DEFAULT_TENANT, Caller
from vault.core.ports import Clock
from vault.core.row_mac import RowAuthenticator
from vault.core.rows import AuditRow


class AuditTrail:
    """Makes entries of this process.

    Args:
        store: where entries go.
        authenticator: gives the current row authenticator.
        clock: tells the time.
    """

    def __init__(
        self, store: AuditStore, authenticator: Callable[[], RowAuthenticator], clock: Clock
    ) -> None:
        self._store = store
        self._authenticator = authenticator
        self._clock = clock
        self.boot_id = os.urandom(16)
        """Names this process in its entries."""
        self._sequence = itertools.count(1)

    def entry(self, event: AuditEvent) -> AuditRow:
        """Turn an event into a signed row, to be committed together with what it reports."""
        authenticator = self._authenticator()
        origin = EntryOrigin(
            entry_id=os.urandom(16),
            boot_id=self.boot_id,
            sequence=next(self._sequence),
            mac_key_id=authenticator.current,
            time=self._clock() if event.time is None else event.time,
        )
        row = AuditRow(
            tenant=event.tenant,
            entry_id=origin.entry_id,
            time=origin.time,
            principal=event.principal,
            action=str(event.action),
            result=str(event.result),
            reason=event.reason,
            collection=event.collection,
            token=event.token,
            purpose=event.purpose,
            canonical=canonical_entry(event, origin),
        )
        return authenticator.sign(row)

    def append(self, *events: AuditEvent) -> None:
        """Commit entries for events that change nothing else.

        Raises:
            UnavailableError: the log cannot be written; the caller must not answer with data.
        """
        self._store.append([self.entry(event) for event in events])

    def refused_without_credential(self, *, address: str, reason: str) -> None:
        """Count a request that nobody was authenticated for: one entry per address, reason and minute."""
        minute = self._clock() // MINUTE
        refusal = RefusalTally(address=address, reason=reason, minute=minute, count=1)
        self._store.tally_refusal(refusal, entry_for=self._tally_entry)

    def close_tallies(self) -> None:
        """Turn the counts of past minutes into entries, so that a search sees them."""
        self._store.close_tallies(self._clock() // MINUTE, entry_for=self._tally_entry)

    def _tally_entry(self, tally: RefusalTally) -> AuditRow:
        return self.entry(
            AuditEvent(
                action=Action.REQUEST,
                result=Result.REFUSED,
                tenant=DEFAULT_TENANT,
                reason=tally.reason,
                address=tally.address,
                count=tally.count,
                time=tally.minute * MINUTE,
            )
        )


def event_of(caller: Caller, action: Action, result: Result, **details: object) -> AuditEvent:
    """An event with the caller's part filled in."""
    event = AuditEvent(
        action=action,
        result=result,
        tenant=caller.tenant,
        principal=caller.principal,
        credential=caller.credential,
        purpose=caller.purpose,
        request_id=caller.request_id,
        address=caller.address,
    )
    return dataclasses.replace(event, **details)  # type: ignore[arg-type]  # names are checked by the dataclass
