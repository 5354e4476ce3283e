"""The job that makes pending key versions active, once every live process has proved them."""

from __future__ import annotations

import time

from vault.audit.events import Action, AuditEvent, Result
from vault.core.job_ports import LeaseLostError, ProcessStore, Turn
from vault.core.key_requests import RotationStore
from vault.core.key_versions import change_over, reason_of, without_proof
from vault.core.keyrings import Keyrings
from vault.core.ports import Clock
from vault.core.rows import KeyState, KeyVersionRow
from vault.core.trail import AuditTrail
from vault.rotation.job import Step, progress_at
from vault.telemetry.logs import event_logger

_log = event_logger("strongroom.keys")


class ActivateKeyVersions:
    """Makes a pending version active and deactivates the one before it, in one transaction.

    A process that lives and cannot use the version stands in the way: its reads of what others write would fail. One
    that gives no sign of life for 30 seconds does not; when it wakes up, the database refuses what it writes under the
    deactivated version, and it computes the write again under the new one.

    Args:
        rotations: finds and activates.
        processes: who lives, and what each has proved.
        keyrings: the keyrings.
        trail: where it is audited.
        clock: tells the time.
    """

    name = "activate-key-versions"
    operation = "activate"

    def __init__(
        self,
        rotations: RotationStore,
        processes: ProcessStore,
        *,
        keyrings: Keyrings,
        trail: AuditTrail,
        clock: Clock,
    ) -> None:
        self._rotations = rotations
        self._processes = processes
        self._keyrings = keyrings
        self._trail = trail
        self._clock = clock

    def is_waiting(self) -> bool:
        """Whether a pending version is proved by every live process."""
        return bool(self._ready())

    def step(self, turn: Turn) -> Step:
        """Activate one version; see :class:`vault.rotation.job.Job`."""
        ready = self._ready()
        if not ready:
            raise LeaseLostError(self.name)
        # The rows that are changed are those whose MACs were checked by this load.
        self._keyrings.load()
        ring = self._keyrings.get(ready[0].tenant, ready[0].keyring)
        pending = ring.versions.get(ready[0].version)
        if pending is None or pending.state != KeyState.PENDING:
            raise LeaseLostError(self.name)
        now = self._clock()
        event = AuditEvent(
            action=Action.KEY_VERSION_ACTIVATE,
            result=Result.DONE,
            tenant=pending.tenant,
            reason=reason_of(pending),
        )
        started = time.monotonic()
        following = self._rotations.activate(
            change_over(ring, pending, now),
            entry=self._trail.entry(event),
            turn=turn,
            progress=progress_at(now),
        )
        seconds = time.monotonic() - started
        _log.info("key-version-activated", keyring=pending.keyring, version=pending.version)
        return Step(following, 1, 0, seconds, is_more=len(ready) > 1)

    def _ready(self) -> list[KeyVersionRow]:
        pending = self._rotations.pending_versions()
        if not pending:
            return []
        processes, now = self._processes.processes(), self._clock()
        return [row for row in pending if not without_proof(row, processes, now)]
