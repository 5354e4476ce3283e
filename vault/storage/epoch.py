"""The vault epoch in SQL."""

from __future__ import annotations

from peewee import Database

from vault.storage.engine import Engine, whole
from vault.storage.statements import Statement
from vault.storage.tables import VaultEpochTable


class EpochRaise:
    """Raises the epoch inside a transaction that changes what processes keep in memory.

    Comes last of all: every such transaction holds this one row until its commit, and would else wait for another that
    waits for it.
    """

    def __init__(self) -> None:
        self._raise = Statement(VaultEpochTable.update({VaultEpochTable.value: VaultEpochTable.value + 1}))

    def run(self, database: Database) -> None:
        """Raise it by one."""
        self._raise.run(database, {})


class SqlEpochStore:
    """Tells the epoch.

    Args:
        engine: where the statement runs.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._current = Statement(VaultEpochTable.select(VaultEpochTable.value).order_by(VaultEpochTable.id))

    @whole
    def current(self) -> int:
        """The epoch as of the newest commit; see :class:`vault.core.vault_epoch.EpochStore`."""
        with self._engine.read() as database:
            row = self._current.run(database, {}).fetchone()
        return 0 if row is None else int(row[0])
