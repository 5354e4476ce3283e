"""A process's place among those that work on the vault: its row, its heartbeat, and its eye on the keys."""

from __future__ import annotations

from vault.bootstrap.opening import Vault
from vault.core.clock import system_clock
from vault.core.job_ports import ProcessRole
from vault.rotation.presence import Presence
from vault.rotation.proving import KeyWatch


def presence_of(vault: Vault, role: ProcessRole, *, administers: bool = False) -> Presence:
    """The presence of this process, not begun yet."""
    return Presence(
        vault.stores.processes,
        boot_id=vault.services.trail.boot_id,
        role=role,
        clock=system_clock,
        watch=KeyWatch(vault.stores.epoch, vault.keyrings),
        administers=administers,
    )
