"""What every process does about once a second: load keys that have changed, and prove those that are to be used."""

from __future__ import annotations

import time
from dataclasses import dataclass

from keyproviders.errors import KeyProviderError
from vault.core.errors import VaultError
from vault.core.key_versions import name_of
from vault.core.keyrings import Keyrings
from vault.core.rows import KeyState, KeyVersionRow
from vault.core.vault_epoch import EpochStore
from vault.telemetry.logs import event_logger

PAUSE_SECONDS = 5.0
"""How long after a proof that failed the next one is tried."""
_PROVED_STATES = frozenset({KeyState.PENDING, KeyState.ACTIVE})

_log = event_logger("strongroom.keys")


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What this process can say of its keys.

    Attributes:
        epoch_seen: the vault epoch whose keys it has loaded; None before the first.
        proved: the key versions under which it has wrapped and unwrapped, by name.
        cached_data_keys: how many unwrapped data keys it keeps.
        cached_seconds: until the last of them is forgotten.
    """

    epoch_seen: int | None
    proved: tuple[str, ...]
    cached_data_keys: int
    cached_seconds: float


class KeyWatch:
    """Follows the vault epoch for one process.

    Args:
        epoch: tells it.
        keyrings: of this process; loaded again when the epoch has grown.
    """

    def __init__(self, epoch: EpochStore, keyrings: Keyrings) -> None:
        self._epoch = epoch
        self._keyrings = keyrings
        self._seen: int | None = None
        self._proved: set[str] = set()
        self._failed: dict[str, tuple[float, str]] = {}
        self._trouble: dict[str, str] = {}

    def look(self) -> bool:
        """Load and prove what is new; whatever fails is logged, and tried again.

        Returns:
            Whether there is news to report.

        Raises:
            VaultError: the database does not say what the epoch is.
        """
        seen, proved = self._seen, len(self._proved)
        now = self._epoch.current()
        if now != seen:
            self._follow(now)
        for version in self._to_prove():
            self._prove(version)
        return (self._seen, len(self._proved)) != (seen, proved)

    def report(self) -> KeyReport:
        """What there is to say at this moment."""
        exposure = self._keyrings.exposure()
        return KeyReport(self._seen, tuple(sorted(self._proved)), exposure.data_keys, exposure.seconds)

    def _follow(self, epoch: int) -> None:
        # The epoch was read before the keys: what is loaded is at least as new.
        try:
            missing = {name: error.code for name, error in self._keyrings.load().items()}
        except VaultError as error:
            missing = {"": error.code}
        for name, word in missing.items():
            if self._trouble.get(name) != word:
                _log.error("keys-not-loaded", keyring=name or None, code=word)
        self._trouble = missing
        if not missing:
            self._seen = epoch
            known = {name_of(row) for ring in self._keyrings.all() for row in ring.versions.values()}
            self._proved &= known

    def _to_prove(self) -> list[KeyVersionRow]:
        now = time.monotonic()
        return [
            version
            for ring in self._keyrings.all()
            for version in ring.versions.values()
            if version.state in _PROVED_STATES
            and name_of(version) not in self._proved
            and self._failed.get(name_of(version), (0.0, ""))[0] <= now
        ]

    def _prove(self, version: KeyVersionRow) -> None:
        name = name_of(version)
        try:
            self._keyrings.prove(version)
        except (KeyProviderError, VaultError) as error:
            word = type(error).__name__
            if self._failed.get(name, (0.0, ""))[1] != word:
                _log.error(
                    "key-version-not-proved",
                    keyring=version.keyring,
                    version=version.version,
                    provider=version.provider,
                    outcome=word,
                )
            self._failed[name] = (time.monotonic() + PAUSE_SECONDS, word)
            return
        self._failed.pop(name, None)
        self._proved.add(name)
        _log.info("key-version-proved", keyring=version.keyring, version=version.version)
