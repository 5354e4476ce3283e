"""Receipts of requests with an Idempotency-Key: inserted with the records that they name, found by their request."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from peewee import Database

from vault.core.receipts import Receipt, ReceiptExistsError
from vault.core.rows import RecordRow
from vault.storage.engine import Engine, Step, whole
from vault.storage.statements import NewRowStatement, Statement, slot
from vault.storage.tables import IdempotencyTable

_NAMES = tuple(field.name for field in dataclasses.fields(Receipt))


class ReceiptStatements:
    """What is done to receipts inside a transaction that somebody else opened and will commit."""

    def __init__(self) -> None:
        table = IdempotencyTable
        new = {getattr(table, name): slot(name) for name in _NAMES}
        self._forget_old = Statement(
            table.delete().where(
                table.tenant == slot("tenant"),
                table.request_hash == slot("request_hash"),
                table.expires_at <= slot("now"),
            )
        )
        self._claim = NewRowStatement(table.insert(new).on_conflict_ignore())
        self._insert = Statement(table.insert(new))
        self._blank = Statement(
            table.update({table.body_hash: None}).where(
                table.token == slot("token"),
                table.tenant == slot("tenant"),
                table.collection == slot("collection"),
            )
        )

    def claim(self, database: Database, receipt: Receipt, *, now: int) -> None:
        """Insert the receipt that decides who of several twins does the work.

        What is left of a request whose time is over makes room: the key may be used again.

        Raises:
            ReceiptExistsError: another one has.
        """
        self._forget_old.run(database, _values(receipt) | {"now": now})
        if not self._claim.insert(database, _values(receipt)):
            raise ReceiptExistsError

    def step_of_claim(self, receipt: Receipt) -> Step:
        """The INSERT of a claim for which no room has to be made."""
        return self._claim, _values(receipt)

    def insert(self, database: Database, receipts: Sequence[Receipt]) -> None:
        """Insert the receipts of a batch's operations."""
        self._insert.run_all(database, [_values(receipt) for receipt in receipts])

    def blank(self, database: Database, row: RecordRow) -> None:
        """Take away what was derived from a record's content; that the request was carried out stays known."""
        self._blank.run(database, {"tenant": row.tenant, "collection": row.collection, "token": row.token})


class SqlReceiptStore:
    """Finds receipts in SQL.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        table = IdempotencyTable
        self._find = Statement(
            table.select(*(getattr(table, name) for name in _NAMES))
            .where(table.tenant == slot("tenant"), table.request_hash == slot("request_hash"))
            .order_by(table.position)
        )

    @whole
    def find(self, tenant: str, request_hash: bytes) -> list[Receipt]:
        """The receipts of one request; see :class:`vault.core.receipts.ReceiptStore`."""
        with self._engine.read() as database:
            found = self._find.run(database, {"tenant": tenant, "request_hash": request_hash}).fetchall()
        return [Receipt(**dict(zip(_NAMES, columns, strict=True))) for columns in found]


def _values(receipt: Receipt) -> dict[str, object]:
    return {name: getattr(receipt, name) for name in _NAMES}
