"""The processes that work on this database."""

from __future__ import annotations

from vault.core.job_ports import ProcessRow
from vault.storage.engine import Engine, whole
from vault.storage.jobs import all_of, names_of, values_of
from vault.storage.statements import Statement, slot
from vault.storage.tables import ProcessTable

_CHANGING = ("heartbeat_at", "epoch_seen", "proved", "cached_data_keys", "cached_until")


class SqlProcessStore:
    """Processes in SQL.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        table, names = ProcessTable, names_of(ProcessRow)
        self._write = Statement(
            table.insert({getattr(table, name): slot(name) for name in names}).on_conflict(
                conflict_target=(table.boot_id,),
                update={getattr(table, name): slot(name) for name in _CHANGING},
            )
        )
        self._remove = Statement(table.delete().where(table.boot_id == slot("boot_id")))
        self._list = Statement(table.select(*(getattr(table, name) for name in names)).order_by(table.id))

    @whole
    def write(self, row: ProcessRow) -> None:
        """Commit a process's row; see :class:`vault.core.job_ports.ProcessStore`."""
        with self._engine.write() as database:
            self._write.run(database, values_of(row))

    @whole
    def remove(self, boot_id: bytes) -> None:
        """Delete a process's row; see :class:`vault.core.job_ports.ProcessStore`."""
        with self._engine.write() as database:
            self._remove.run(database, {"boot_id": boot_id})

    @whole
    def processes(self) -> list[ProcessRow]:
        """All processes; see :class:`vault.core.job_ports.ProcessStore`."""
        with self._engine.read() as database:
            return all_of(ProcessRow, self._list.run(database, {}))
