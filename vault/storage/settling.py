"""A transaction whose end was not heard: did it commit?"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import peewee
from playhouse.pool import MaxConnectionsExceeded

from vault.core.errors import OUTCOME_UNKNOWN, UnavailableError
from vault.storage.engine import Told
from vault.storage.server_pool import ServerPool
from vault.storage.tables import AuditTable

SETTLE_SECONDS = 5.0
"""How long to ask before saying that nobody knows."""
_POLL_SECONDS = 0.05


def settle(
    database: ServerPool, told: Sequence[Told], is_over: Callable[[], bool], error: BaseException
) -> bool:
    """Find out whether a transaction committed; the connection that it had is dropped.

    Args:
        database: the pool; this thread has a connection of it, or had.
        told: the audit entries of the transaction. Their ids are unique, so one of them is its proof.
        is_over: ends the transaction's session on the server, and says whether that has ended: as long as it has not, the
            transaction may still commit.
        error: what was heard instead.

    Returns:
        Whether it committed; if not, it never will.

    Raises:
        UnavailableError: ``outcome-unknown``; that could not be found out.
    """
    database.drop()
    deadline = time.monotonic() + SETTLE_SECONDS
    while told and time.monotonic() < deadline:
        try:
            database.connect()
            if is_over():
                return _is_stored(database, told[0].entry_id)
        except (peewee.PeeweeException, MaxConnectionsExceeded):
            database.drop()
        else:
            database.close()
        time.sleep(_POLL_SECONDS)
    raise UnavailableError(
        "The connection to the database was lost while it committed, and whether it did cannot be found out just now. "
        "Look before sending this again, or send it again with the same Idempotency-Key.",
        code=OUTCOME_UNKNOWN,
    ) from error


def _is_stored(database: ServerPool, entry_id: bytes) -> bool:
    table = AuditTable._meta.table_name  # noqa: SLF001  # peewee's documented place for a model's names
    statement = f"SELECT 1 FROM {table} WHERE entry_id = %s"  # noqa: S608  # our own name
    return database.execute_sql(statement, (entry_id,)).fetchone() is not None
