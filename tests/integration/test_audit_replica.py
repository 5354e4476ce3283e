"""Searches of the access log on a real streaming replica: asked there, and of the database itself while it is away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from tests.contract.store_engines import entry
from tests.servers.postgresql import Postgresql, postgresql
from tests.servers.postgresql_standby import Standby, standby_of
from vault.core.audit_ports import AuditCriteria
from vault.core.ports import Page
from vault.storage import schema
from vault.storage.address import ServerAddress
from vault.storage.engine import Engine
from vault.storage.opening import open_engine
from vault.storage.replica import Replica
from vault.storage.stores import Stores, open_stores

__all__ = ["postgresql"]

ALL = AuditCriteria(tenant="default")
PAGE = Page(limit=100, after=0)


@pytest.fixture(scope="module")
def standby(postgresql: Postgresql, free_port: Callable[[], int]) -> Iterator[Standby]:
    with standby_of(postgresql, free_port) as made:
        yield made


@pytest.fixture
def address(postgresql: Postgresql) -> ServerAddress:
    return postgresql.new_database()


@pytest.fixture
def replica(standby: Standby, address: ServerAddress) -> Iterator[Replica]:
    there = replace(address, hosts=(("127.0.0.1", standby.port),), target_session_attrs="any")
    made = Replica(lambda: open_engine(there))
    yield made
    made.close()


@pytest.fixture
def engine(address: ServerAddress) -> Iterator[Engine]:
    made = open_engine(address)
    schema.upgrade(made)
    yield made
    made.close()


@pytest.fixture
def stores(engine: Engine, replica: Replica) -> Stores:
    return open_stores(engine, replica)


def found(stores: Stores) -> list[str]:
    return [row.action for row in stores.audit.search(ALL, page=PAGE, entry=entry(action="audit.search"))]


def test_a_search_sees_what_the_replica_has_and_leaves_its_entry_in_the_database(
    stores: Stores, standby: Standby
) -> None:
    stores.audit.append([entry(action="record.create")])
    standby.catch_up()
    with standby._connection() as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
    try:
        stores.audit.append([entry(action="record.read")])
        # The database itself would know of the reading, too.
        assert found(stores) == ["record.create"]
    finally:
        with standby._connection() as connection:
            connection.execute("SELECT pg_wal_replay_resume()")
    standby.catch_up()
    assert found(stores) == ["audit.search", "record.read", "record.create"]
    assert [row.action for row in open_stores(stores.audit._engine).audit.search(
        ALL, page=PAGE, entry=entry(action="audit.search")
    )][:2] == ["audit.search", "audit.search"]  # fmt: skip


def test_while_it_is_away_the_database_answers(
    stores: Stores, standby: Standby, caplog: pytest.LogCaptureFixture
) -> None:
    stores.audit.append([entry(action="record.create")])
    standby.catch_up()
    assert found(stores) == ["record.create"]
    standby.stop()
    try:
        stores.audit.append([entry(action="record.read")])
        assert found(stores) == ["record.read", "audit.search", "record.create"]
        assert "replica-away" in caplog.text
        caplog.clear()
        assert found(stores)[0] == "audit.search"
        assert "replica-away" not in caplog.text  # it is not asked again at once
    finally:
        standby.server.start()
    stores.audit._replica._away_until = 0.0  # type: ignore[union-attr]
    standby.catch_up()
    assert stores.audit._replica.read(lambda _database: "asked") == "asked"  # type: ignore[union-attr]
    assert "record.read" in found(stores)
