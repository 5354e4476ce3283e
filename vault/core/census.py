"""The census: what depends on which key version. It is one GROUP BY, since every row says its version."""

from __future__ import annotations

from dataclasses import dataclass

from vault.audit.events import Action, Result
from vault.core.job_ports import ProcessStore
from vault.core.keyring_loading import Keyring
from vault.core.keyrings import Keyrings
from vault.core.policy import Caller, authorize
from vault.core.ports import Clock, KeyStore
from vault.core.rows import KeyVersionRow
from vault.core.trail import AuditTrail, event_of
from vault.core.vault_exposure import VaultExposure, exposure_of


@dataclass(frozen=True, slots=True)
class VersionCensus:
    """One key version and the rows that need it.

    Attributes:
        row: the key version.
        records: live records.
        history: kept earlier generations.
        stored_keys: index, MAC and signing keys.
    """

    row: KeyVersionRow
    records: int
    history: int
    stored_keys: int


@dataclass(frozen=True, slots=True)
class KeyringCensus:
    """One keyring with its versions.

    Attributes:
        ring: the keyring.
        versions: oldest first.
        index_key_id: the index key that makes tags now.
        index_entries: rows that carry tags of that key.
    """

    ring: Keyring
    versions: list[VersionCensus]
    index_key_id: int
    index_entries: int


class Census:
    """Counts what depends on each key.

    Args:
        store: counts rows.
        keyrings: the keyrings as loaded.
        trail: where it is audited.
        processes: what others keep in memory.
        clock: tells the time.
    """

    def __init__(
        self,
        store: KeyStore,
        keyrings: Keyrings,
        trail: AuditTrail,
        *,
        processes: ProcessStore,
        clock: Clock,
    ) -> None:
        self._store = store
        self._keyrings = keyrings
        self._trail = trail
        self._processes = processes
        self._clock = clock

    def take(self, caller: Caller) -> list[KeyringCensus]:
        """Count for every keyring of the caller's tenant."""
        authorize(caller, Action.KEYRING_READ)
        self._keyrings.load()
        counts = self._store.census()
        entries = self._store.index_census()
        self._trail.append(event_of(caller, Action.KEYRING_READ, Result.DONE))
        rings = [ring for ring in self._keyrings.all() if ring.row.tenant == caller.tenant]
        return [
            KeyringCensus(
                ring=ring,
                versions=[
                    _counted(row, counts.get((row.tenant, row.keyring, row.version), {}))
                    for row in _ordered(ring)
                ],
                index_key_id=ring.index.key_id,
                index_entries=entries.get(ring.index.key_id, 0),
            )
            for ring in rings
        ]

    def exposure(self) -> VaultExposure:
        """The unwrapped data keys that all live processes keep. For callers who may take the census."""
        return exposure_of(
            self._processes.processes(),
            boot_id=self._trail.boot_id,
            own=self._keyrings.exposure(),
            now=self._clock(),
        )


def _ordered(ring: Keyring) -> list[KeyVersionRow]:
    return [ring.versions[number] for number in sorted(ring.versions)]


def _counted(row: KeyVersionRow, counts: dict[str, int]) -> VersionCensus:
    return VersionCensus(
        row=row,
        records=counts.get("record", 0),
        history=counts.get("record_history", 0),
        stored_keys=counts.get("stored_key", 0),
    )
