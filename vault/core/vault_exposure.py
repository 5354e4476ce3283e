"""The exposure of the whole vault: the unwrapped data keys that all live processes keep, and until when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vault.core.data_key_cache import Exposure
from vault.core.job_ports import MICROSECONDS, ProcessRow


@dataclass(frozen=True, slots=True)
class VaultExposure:
    """What is kept in memory.

    Attributes:
        processes: those that live. What another one keeps is as of its last heartbeat.
    """

    processes: tuple[ProcessRow, ...]

    @property
    def data_keys(self) -> int:
        """How many data keys all of them keep; one that two processes keep counts twice."""
        return sum(process.cached_data_keys or 0 for process in self.processes)

    @property
    def until(self) -> int | None:
        """When the last of them is forgotten, UTC microseconds; None if there is none."""
        return max(
            (process.cached_until for process in self.processes if process.cached_until is not None),
            default=None,
        )


def exposure_of(processes: Iterable[ProcessRow], *, boot_id: bytes, own: Exposure, now: int) -> VaultExposure:
    """Sum up what processes say of themselves.

    Args:
        processes: their rows.
        boot_id: of this process, for which ``own`` is exact.
        own: what this process keeps at this moment.
        now: UTC microseconds.
    """
    until = now + round(own.seconds * MICROSECONDS) if own.data_keys else None
    return VaultExposure(
        tuple(
            replace(row, cached_data_keys=own.data_keys, cached_until=until, heartbeat_at=now)
            if row.boot_id == boot_id
            else row
            for row in processes
            if row.is_alive(now) or row.boot_id == boot_id
        )
    )
