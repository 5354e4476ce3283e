"""What engines on a server owe the stores beyond SQLite: work side by side, and connections that end at any time."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import peewee
import pytest

from tests.contract.store_engines import (
    TENANT,
    Bench,
    collection,
    definition,
    empty,
    entry,
    index,
    key_of,
    keyring,
    new_write,
    principal,
    record,
    tombstone,
)
from tests.servers.databases import SERVERS, server_of
from tests.servers.tcp_proxy import TcpProxy
from vault.core.errors import OUTCOME_UNKNOWN, MisconfiguredError, UnavailableError
from vault.core.ports import StaleWriteError
from vault.core.rows import AuditRow, RecordRow
from vault.storage import schema
from vault.storage.address import ServerAddress
from vault.storage.engine import TransactionLostError
from vault.storage.opening import open_engine
from vault.storage.record_transaction import RecordTransaction
from vault.storage.server_engine import ServerEngine
from vault.storage.stores import Stores, open_stores
from vault.storage.tables import MODELS

_addresses: dict[str, ServerAddress] = {}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Any:
    return server_of(request, request.param)


@pytest.fixture
def address(server: Any) -> ServerAddress:
    """A database with tables, a keyring and the collection ``people``."""
    made = _addresses.setdefault(server.scheme, server.new_database())
    engine = open_engine(made)
    if not schema.upgrade(engine):
        empty(engine)
    bench = Bench(open_stores(engine), lambda: None)  # type: ignore[arg-type, return-value]
    keyring().create(bench)
    bench.stores.collections.define(
        collection(), definition(), previous=None, entry=entry(), only_if_empty=False
    )
    engine.close()
    return made


@pytest.fixture
def opened() -> Iterator[Callable[..., ServerEngine]]:
    """Opens an engine, and closes it after the test."""
    engines: list[ServerEngine] = []

    def open_one(address: ServerAddress, **options: Any) -> ServerEngine:
        engine = open_engine(dataclasses.replace(address, **options))
        assert isinstance(engine, ServerEngine)
        engines.append(engine)
        return engine

    yield open_one
    for engine in engines:
        engine.close()


@pytest.fixture
def engine(address: ServerAddress, opened: Callable[..., ServerEngine]) -> ServerEngine:
    return opened(address)


@pytest.fixture
def stores(engine: ServerEngine) -> Stores:
    return open_stores(engine)


def stored(stores: Stores) -> list[RecordRow]:
    return list(stores.inspector.rows(RecordRow))


def test_a_redefinition_waits_for_the_records_under_way(engine: ServerEngine, stores: Stores) -> None:
    inside = RecordTransaction()
    before = stores.collections.get(TENANT, "people")
    assert before is not None
    with ThreadPoolExecutor(1) as other:
        with engine.write() as database:
            inside.create(database, new_write(record()))
            redefined = other.submit(
                stores.collections.define,
                dataclasses.replace(before, schema_version=2, revision=2),
                definition(version=2),
                previous=before,
                entry=entry(),
                only_if_empty=True,
            )
            time.sleep(0.3)
            assert not redefined.done()
        with pytest.raises(StaleWriteError, match="schema"):
            redefined.result(10)
    assert len(stored(stores)) == 1


@pytest.mark.parametrize("table", ["key_version", "stored_key"])
def test_a_key_cannot_be_retired_under_a_write(engine: ServerEngine, stores: Stores, table: str) -> None:
    inside = RecordTransaction()
    row = record()

    def retire() -> None:
        with engine.write() as database:
            database.execute_sql(f"UPDATE {table} SET state = 'retired'")  # noqa: S608  # our own names

    with ThreadPoolExecutor(1) as other:
        with engine.write() as database:
            inside.create(database, new_write(row, index(row, "a")))
            retired = other.submit(retire)
            time.sleep(0.3)
            assert not retired.done()
        retired.result(10)
    late = record()
    with pytest.raises(StaleWriteError, match="keys"):
        stores.records.create(new_write(late, index(late, "b")))
    assert len(stored(stores)) == 1


def test_what_changed_between_look_and_entry_is_not_released(stores: Stores) -> None:
    row = record()
    stores.records.create(new_write(row))
    seen: list[int | None] = []

    def entry_for(current: RecordRow, _: RecordRow | None) -> AuditRow:
        if not seen:
            with ThreadPoolExecutor(1) as other:
                other.submit(
                    lambda: stores.records.erase(tombstone(current), previous=current, entry=entry())
                ).result(10)
        seen.append(current.erased_at)
        return entry(action="record.read", token=current.token)

    released = stores.records.read_for(key_of(row), generation=None, entry_for=entry_for)
    assert released is not None
    assert released.erased_at is not None
    assert seen == [None, released.erased_at]
    entries = [each for each in stores.inspector.rows(AuditRow) if each.action == "record.read"]
    assert len(entries) == 1


def both_ways(engine: ServerEngine) -> list[int]:
    """Two transactions that each want what the other has; how often each was tried."""
    meeting = threading.Barrier(2)
    tries = [0, 0]

    def change(first: str, second: str, who: int) -> None:
        tries[who] += 1
        with engine.write() as database:
            database.execute_sql("UPDATE collection SET revision = revision + 1 WHERE name = %s", [first])
            if tries[who] == 1:
                meeting.wait(10)
            database.execute_sql("UPDATE collection SET revision = revision + 1 WHERE name = %s", [second])

    with ThreadPoolExecutor(2) as threads:
        done = [
            threads.submit(engine.again, lambda: change("people", "pets", 0)),
            threads.submit(engine.again, lambda: change("pets", "people", 1)),
        ]
        for each in done:
            each.result(20)
    return tries


def test_a_deadlock_is_done_again(engine: ServerEngine, stores: Stores) -> None:
    stores.collections.define(
        collection("pets"), definition("pets"), previous=None, entry=entry(), only_if_empty=False
    )
    assert sorted(both_ways(engine)) == [1, 2]
    assert [row.revision for row in stores.collections.list_all(TENANT)] == [3, 3]


def lose(engine: ServerEngine) -> None:
    """Cut this thread's connection as a network does: neither side is told."""
    engine.database.line.cut()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_whose_answer_is_lost_is_settled(
    engine: ServerEngine, stores: Stores, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    commit, lost = engine.database.commit, []

    def cut_off() -> None:
        if not lost:
            lost.append(when)
            if when == "after":
                commit()
            lose(engine)
        commit()

    monkeypatch.setattr(engine.database, "commit", cut_off)
    monkeypatch.setattr(engine, "in_one", lambda _: False)
    row = record()
    written = new_write(row, index(row, "a"))
    stores.records.create(written)
    assert lost
    (found,) = stored(stores)
    assert (found.token, found.sealed_document) == (row.token, row.sealed_document)
    assert [each.entry_id for each in stores.inspector.rows(AuditRow)].count(written.entry.entry_id) == 1


def test_a_commit_that_cannot_be_settled_is_said_to_be_unknown(
    engine: ServerEngine, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off() -> None:
        lose(engine)
        raise peewee.OperationalError

    monkeypatch.setattr(engine.database, "commit", cut_off)
    monkeypatch.setattr(engine, "in_one", lambda _: False)
    monkeypatch.setattr(engine, "_is_over", lambda _: False)
    monkeypatch.setattr("vault.storage.settling.SETTLE_SECONDS", 0.3)
    with pytest.raises(UnavailableError) as caught:
        stores.records.create(new_write(record()))
    assert caught.value.code == OUTCOME_UNKNOWN
    assert not isinstance(caught.value, TransactionLostError)


def test_a_create_in_one_statement_is_all_or_nothing_and_settled(
    engine: ServerEngine, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = record(), record()
    steps = RecordTransaction().steps_of_create
    if not engine.in_one(lambda: steps(new_write(first, index(first, "a")))):
        return  # an engine that has no such statement says so, and does it step by step
    taken = new_write(second, index(second, "b", name="phone"), index(second, "a"))
    assert not engine.in_one(lambda: steps(taken))
    assert [row.token for row in stored(stores)] == [first.token]
    assert taken.entry.entry_id not in {each.entry_id for each in stores.inspector.rows(AuditRow)}
    execute, lost = engine.database.execute_sql, []

    def cut_off(sql: str, values: Any = None) -> Any:
        found = execute(sql, values)
        if sql.startswith("WITH") and not lost:
            lost.append(sql)
            lose(engine)
            return execute("SELECT 1")
        return found

    monkeypatch.setattr(engine.database, "execute_sql", cut_off)
    third = record()
    stores.records.create(new_write(third, index(third, "c")))
    assert lost
    assert [row.token for row in stored(stores)] == [first.token, third.token]


def test_dead_connections_are_replaced(server: Any, engine: ServerEngine, stores: Stores) -> None:
    stores.records.create(new_write(record()))
    if server.scheme == "postgresql":
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'strongroom%'"
        )
    else:
        for number, user in server.execute("SELECT id, user FROM information_schema.processlist"):
            if user == "strongroom":
                server.execute(f"KILL {number}")
    stores.records.create(new_write(record()))
    assert len(stored(stores)) == 2
    assert engine.database.is_closed()


def test_a_full_pool_says_how_many(address: ServerAddress, opened: Callable[..., ServerEngine]) -> None:
    engine = opened(address, pool_size=1, pool_wait_seconds=0.2)
    full = r"^All 1 database connections of this process are in use"
    with ThreadPoolExecutor(1) as other, engine.write(), pytest.raises(UnavailableError, match=full):
        other.submit(open_stores(engine).collections.list_all, TENANT).result(10)
    assert open_stores(engine).collections.list_all(TENANT)


@pytest.mark.parametrize("how", ["read", "write"])
def test_a_server_that_hangs_is_left_in_time(
    address: ServerAddress, opened: Callable[..., ServerEngine], how: str
) -> None:
    ((host, port),) = address.hosts
    with contextlib.closing(TcpProxy((host, port))) as proxy:
        engine = opened(address, hosts=((host, proxy.port),), statement_seconds=1.0, connect_seconds=2.0)
        stores = open_stores(engine)
        assert stores.collections.list_all(TENANT)
        proxy.hang()
        began = time.monotonic()
        ask = stores.collections.list_all if how == "read" else lambda _: stores.audit.append([entry()])
        with pytest.raises(UnavailableError):
            ask(TENANT)
        assert time.monotonic() - began < 8.0


def test_a_server_that_takes_no_writes_is_unavailable(
    server: Any, address: ServerAddress, opened: Any
) -> None:
    if server.scheme == "postgresql":
        turn = f"ALTER DATABASE {address.database} SET default_transaction_read_only = {{}}"
    else:
        turn = "SET GLOBAL read_only = {}"
    server.execute(turn.format("on"))
    try:
        engine = opened(address)
        stores = open_stores(engine)
        assert stores.collections.list_all(TENANT)
        with pytest.raises(UnavailableError, match="takes no writes just now; nothing was written"):
            stores.records.create(new_write(record()))
    finally:
        server.execute(turn.format("off"))
    stores = open_stores(opened(address))
    stores.records.create(new_write(record()))
    assert len(stored(stores)) == 1


def test_others_have_the_turn_while_the_database_is_waited_for(address: ServerAddress) -> None:
    inside: list[int] = []

    @contextlib.contextmanager
    def waiting() -> Iterator[None]:
        inside.append(1)
        yield
        inside.pop()

    engine = open_engine(address, None, waiting)
    try:
        with engine.read():
            assert inside == [1]
        with engine.write(), engine.write(), engine.read():
            assert inside == [1]
        assert inside == []
    finally:
        engine.close()


def test_one_request_for_a_key_version_at_a_time(stores: Stores) -> None:
    from vault.core.job_ports import JobRow, JobState
    from vault.core.key_requests import ROTATE

    def request(number: int) -> str:
        job = JobRow(
            name=f"rotate-{number}",
            tenant=TENANT,
            operation=ROTATE,
            state=JobState.WAITING.value,
            created_at=1,
            updated_at=1,
            keyring="default",
            requested_by="admin",
        )
        return stores.rotations.request(job, entry()).name

    with ThreadPoolExecutor(6) as threads:
        names = set(threads.map(request, range(6)))
    assert len(names) == 1
    assert len(stores.rotations.open_requests()) == 1


def test_two_that_take_one_lease_do_not_both_have_it(stores: Stores) -> None:
    from vault.core.job_ports import JobRow

    job = JobRow(name="expire", tenant="", operation="expire", state="running", created_at=1, updated_at=1)
    with ThreadPoolExecutor(6) as threads:
        turns = list(
            threads.map(lambda n: stores.jobs.take(job, owner=bytes([n]) * 16, now=1, until=100), range(6))
        )
    assert sum(turn is not None for turn in turns) == 1


def test_names_are_exact(stores: Stores) -> None:
    from tests.contract.store_engines import credential

    for name in ("admin", "Admin", "admin ", "ädmin"):
        stores.credentials.create(principal(name), credential(name), entry())
    from vault.core.rows import PrincipalRow

    assert [row.name for row in stores.inspector.rows(PrincipalRow)] == ["admin", "Admin", "admin ", "ädmin"]


@pytest.mark.parametrize("size", [0, 65_535, 65_536, 1 << 20, 2 << 20])
def test_documents_of_any_size_come_back_whole(stores: Stores, size: int) -> None:
    row = record(sealed_document=bytes(range(256)) * (size // 256) + b"\\'" * (size % 256))
    stores.records.create(new_write(row))
    found = stores.records.find(key_of(row))
    assert found is not None
    assert found.sealed_document == row.sealed_document


def test_a_long_name_is_kept_whole_or_refused(stores: Stores) -> None:
    long = "x" * 200
    with contextlib.suppress(UnavailableError):
        stores.collections.define(
            collection(long), definition(long), previous=None, entry=entry(), only_if_empty=False
        )
    assert {row.name for row in stores.collections.list_all(TENANT)} <= {"people", long}


@pytest.mark.parametrize("cut_at", range(1, 60, 7))
def test_an_upgrade_that_is_cut_off_is_finished_by_the_next(
    server: Any, opened: Callable[..., ServerEngine], monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    engine = opened(server.new_database())
    execute, changes = engine.database.execute_sql, []

    def count(sql: str, values: Any = None) -> Any:
        if sql.startswith(("CREATE", "ALTER", "INSERT")):
            changes.append(sql)
            if len(changes) == cut_at:
                lose(engine)
        return execute(sql, values)

    monkeypatch.setattr(engine.database, "execute_sql", count)
    with contextlib.suppress(UnavailableError):
        schema.upgrade(engine)
    monkeypatch.undo()
    schema.upgrade(engine)
    assert schema.pending(engine) == []
    open_stores(engine)
    schema.check_indexes(engine)
    engine.check_tables()
    assert open_stores(engine).epoch.current() == 1


def test_two_that_upgrade_at_once_do_it_once(server: Any, opened: Callable[..., ServerEngine]) -> None:
    address = server.new_database()
    engines = [opened(address) for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        steps = list(threads.map(schema.upgrade, engines))
    assert sorted(steps) == [[], [], ["0001_first_tables", "0002_move_in", "0003_keys_at_work"]]


def test_a_missing_unique_index_stops_the_start(server: Any, opened: Callable[..., ServerEngine]) -> None:
    address = server.new_database()
    engine = opened(address)
    schema.upgrade(engine)
    open_stores(engine)
    with engine.read() as database:
        (name,) = [each.name for each in database.get_indexes("audit_entry") if each.columns == ["entry_id"]]
    server.execute(
        f"DROP INDEX {name}" + ("" if server.scheme == "postgresql" else " ON audit_entry"), address.database
    )
    with pytest.raises(MisconfiguredError, match=r"^The table audit_entry lacks its index over entry_id; "):
        schema.check_indexes(engine)


def test_a_server_or_database_that_cannot_hold_a_vault_is_refused(
    server: Any, opened: Callable[..., ServerEngine]
) -> None:
    if server.scheme == "postgresql":
        address = server.new_database(how="ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        with pytest.raises(MisconfiguredError, match="has the encoding LATIN1"):
            opened(address)
        return
    address = server.new_database(how="CHARACTER SET latin1")
    engine = opened(address)
    schema.upgrade(engine)
    engine.check_tables()
    with engine.read() as database:
        ((mode, zone),) = database.execute_sql("SELECT @@sql_mode, @@time_zone").fetchall()
    assert "STRICT_ALL_TABLES" in mode
    assert zone == "+00:00"
    server.execute(
        "ALTER TABLE collection MODIFY name VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL",
        address.database,
    )
    with pytest.raises(
        MisconfiguredError, match=r"^The column collection\.name has the collation utf8mb4_general_ci"
    ):
        engine.check_tables()


def refused(opened: Callable[..., ServerEngine], address: ServerAddress, **options: Any) -> str:
    with pytest.raises(MisconfiguredError) as caught:
        opened(address, **options)
    sentence = caught.value.detail
    assert "p@ss" not in sentence
    return sentence


def test_who_cannot_log_in_hears_why(
    address: ServerAddress, opened: Callable[..., ServerEngine], tmp_path: Path
) -> None:
    assert "The password or the user is wrong" in refused(opened, address, password=b"another")
    assert "The password or the user is wrong" in refused(opened, address, user="nobody")
    unknown = refused(opened, address, database="elsewhere")
    assert "There is no such database" in unknown or "The user may not use this database" in unknown
    ca = tmp_path / "ca.pem"
    ca.write_text("nothing")
    assert "[database] " in refused(opened, address, is_encrypted=True, ca=ca)
    with pytest.raises(UnavailableError, match="cannot be reached just now") as away:
        opened(address, hosts=(("127.0.0.1", 1),))
    assert "127.0.0.1" not in away.value.detail


def test_a_missing_privilege_is_named(server: Any, address: ServerAddress, opened: Any) -> None:
    if server.scheme == "postgresql":
        server.execute("REVOKE INSERT ON audit_entry FROM strongroom", address.database)
    else:
        server.execute("CREATE USER IF NOT EXISTS 'reader'@'%' IDENTIFIED BY 'p@ss'")
        server.execute(f"GRANT SELECT ON {address.database}.* TO 'reader'@'%'")
        address = dataclasses.replace(address, user="reader", password=b"p@ss")
    try:
        with pytest.raises(
            UnavailableError, match=r"lacks a privilege for this; docs/operations/databases\.md"
        ):
            open_stores(opened(address)).audit.append([entry()])
    finally:
        if server.scheme == "postgresql":
            server.execute("GRANT INSERT ON audit_entry TO strongroom", address.database)


def statements(heading: str) -> list[str]:
    """The statements below a comment of docs/operations/databases.md."""
    page = (Path(__file__).parents[2] / "docs/operations/databases.md").read_text()
    (block,) = re.findall(rf"<!-- {heading} -->\n```sql\n(.*?)```", page, flags=re.DOTALL)
    return [each.strip() for each in block.split(";") if each.strip()]


def test_the_rights_in_the_document_are_enough_and_not_too_many(
    server: Any, opened: Callable[..., ServerEngine]
) -> None:
    for statement in statements(f"{server.scheme}: as administrator"):
        server.execute(statement)
    address = server.address("strongroom", user="strongroom_owner", password=b"choose one")
    owner = opened(address)
    schema.upgrade(owner)
    bench = Bench(open_stores(owner), lambda: None)  # type: ignore[arg-type, return-value]
    keyring().create(bench)
    bench.stores.collections.define(
        collection(), definition(), previous=None, entry=entry(), only_if_empty=False
    )
    for statement in statements(f"{server.scheme}: after init"):
        server.execute(statement, "strongroom")
    engine = opened(dataclasses.replace(address, user="strongroom_server", password=b"choose another"))
    stores = open_stores(engine)
    assert schema.holds_vault(engine)
    assert schema.pending(engine) == []
    schema.check_indexes(engine)
    engine.check_tables()
    row = record()
    stores.records.create(new_write(row, index(row, "a")))
    read = stores.records.read_for(key_of(row), generation=None, entry_for=lambda *_: entry())
    assert read is not None
    stores.records.erase(tombstone(read), previous=read, entry=entry())
    for change in (
        "UPDATE audit_entry SET action = 'x'",
        "DELETE FROM audit_entry",
        "DELETE FROM schema_history",
    ):
        with pytest.raises(UnavailableError, match="lacks a privilege"), engine.write() as database:
            database.execute_sql(change)
    with engine.write() as database:
        for model in MODELS:
            name = model._meta.table_name
            if name != "audit_entry":
                database.execute_sql(f"DELETE FROM {name}")  # noqa: S608  # our own names


def test_what_a_transaction_told_is_no_proof_of_the_next_that_is_alone(
    address: ServerAddress, opened: Callable[..., ServerEngine]
) -> None:
    engine = opened(address)
    with engine.write() as database:
        database.told.append(("INSERT INTO x", "of the transaction before"))
    with engine.alone() as database:
        assert not (engine.changes_tables_in_transactions and database.told)
