"""The audit store: entries are inserted and read, never changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from peewee import Database

from vault.core.audit_ports import AuditCriteria, RefusalTally
from vault.core.ports import Page
from vault.core.rows import AuditRow
from vault.storage.engine import Engine, whole
from vault.storage.fields import locking
from vault.storage.replica import Replica
from vault.storage.statements import RowMapper, Statement, slot
from vault.storage.tables import AuditTable, RefusalTallyTable

_EQUAL = ("tenant", "principal", "action", "result", "collection", "purpose")


class SqlAuditStore:
    """The access log in SQL.

    Args:
        engine: where the statements run.
        replica: where searches are asked first.
    """

    def __init__(self, engine: Engine, replica: Replica | None = None) -> None:
        self._engine = engine
        self._replica = replica
        self._audit = RowMapper(AuditRow)
        self._append = self._audit.insert()
        tally = RefusalTallyTable
        self._count_up = Statement(
            tally.insert(
                address=slot("address"), reason=slot("reason"), minute=slot("minute"), count=slot("count")
            ).on_conflict(
                conflict_target=(tally.address, tally.reason, tally.minute),
                update={tally.count: tally.count + slot("count")},
            )
        )
        is_past = tally.minute < slot("minute")
        self._any_past = Statement(tally.select(tally.id).where(is_past).limit(1))
        # Locked: whoever comes second finds them gone, instead of reporting them once more.
        self._past = Statement(
            locking(
                tally.select(tally.address, tally.reason, tally.minute, tally.count)
                .where(is_past)
                .order_by(tally.minute, tally.id)
            )
        )
        self._forget = Statement(tally.delete().where(tally.minute < slot("minute")))

    @whole
    def append(self, entries: Sequence[AuditRow]) -> None:
        """Commit entries; see :class:`vault.core.ports.AuditStore`."""
        with self._engine.write() as database:
            self._insert(database, entries)

    def search(self, criteria: AuditCriteria, *, page: Page, entry: AuditRow) -> list[AuditRow]:
        """Find entries, newest first; see :class:`vault.core.ports.AuditStore`."""
        table = AuditTable
        conditions: list[Any] = [
            getattr(table, name) == value for name in _EQUAL if (value := getattr(criteria, name)) is not None
        ]
        if criteria.tokens is not None:
            conditions.append(table.token.in_(list(criteria.tokens)))
        if criteria.since is not None:
            conditions.append(table.time >= criteria.since)
        if criteria.until is not None:
            conditions.append(table.time < criteria.until)
        if page.after:
            conditions.append(table.id < page.after)
        query = (
            table.select(*self._audit.columns).where(*conditions).order_by(table.id.desc()).limit(page.limit)
        )
        return self._found(Statement(query), entry)

    @whole
    def _found(self, statement: Statement, entry: AuditRow) -> list[AuditRow]:
        def rows(database: Database) -> list[AuditRow]:
            return self._audit.all(statement.run(database, {}))

        found = None if self._replica is None else self._replica.read(rows)
        with self._engine.write() as database:
            if found is None:
                found = rows(database)
            self._insert(database, [entry])
        return found

    @whole
    def tally_refusal(self, refusal: RefusalTally, *, entry_for: Callable[[RefusalTally], AuditRow]) -> None:
        """Count one more refusal of the running minute; see :class:`vault.core.ports.AuditStore`."""
        with self._engine.write() as database:
            values = {name: getattr(refusal, name) for name in RefusalTally.__slots__}
            self._count_up.run(database, values)
            self._close(database, refusal.minute, entry_for)

    @whole
    def close_tallies(self, before_minute: int, *, entry_for: Callable[[RefusalTally], AuditRow]) -> None:
        """Turn the tallies of past minutes into entries; see :class:`vault.core.ports.AuditStore`."""
        with self._engine.read() as database:
            if self._any_past.run(database, {"minute": before_minute}).fetchone() is None:
                return
        with self._engine.write() as database:
            self._close(database, before_minute, entry_for)

    def _close(self, database: Database, minute: int, entry_for: Callable[[RefusalTally], AuditRow]) -> None:
        past = [RefusalTally(*columns) for columns in self._past.run(database, {"minute": minute}).fetchall()]
        if past:
            self._insert(database, [entry_for(tally) for tally in past])
            self._forget.run(database, {"minute": minute})

    def _insert(self, database: Database, entries: Sequence[AuditRow]) -> None:
        for entry in entries:
            self._append.run(database, self._audit.values(entry))
