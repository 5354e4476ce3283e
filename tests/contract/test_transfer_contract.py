"""What a transfer owes every pair of engines: the same rows, no id given twice, and an end that any cut leaves possible."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.contract.store_engines import NOW, receipt
from tests.faults.small_vault import (
    ADA,
    BOB,
    SmallVault,
    change,
    make_small_vault,
    people_key,
    record_row,
    store,
)
from tests.servers.databases import ENGINES, SERVERS, configuration_file, new_database, server_of
from tests.servers.postgresql import PASSWORD
from vault import bootstrap
from vault.bootstrap import Watcher, transferring
from vault.bootstrap.databases import database_address
from vault.config import Configuration, load_configuration
from vault.core.errors import MisconfiguredError, UnavailableError
from vault.core.job_ports import ProcessRow
from vault.storage import copying
from vault.storage.opening import open_engine
from vault.storage.tables import IndexTable, JobLeaseTable, ProcessTable
from vault.storage.transfer import COPIED, Comparison

QUIET = Watcher(lambda _: None, lambda _: None, lambda _: None)
ROUND = ("sqlite", "postgresql", "mariadb", "sqlite")


class CutError(BaseException):
    """Ends a transfer as a kill does: nothing of ours handles it."""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> SmallVault:
    """A vault with something in every table, and gaps at the end of some."""
    made = make_small_vault(tmp_path_factory.mktemp("transfer") / "data")
    with made.opened() as vault:
        for number in range(3):
            change(vault, made.ada, ADA | {"note": f"again {number}"})
        vault.stores.processes.write(
            ProcessRow(
                boot_id=b"\1" * 16,
                host="old",
                pid=1,
                role="server",
                release="0",
                started_at=NOW,
                heartbeat_at=1,
            )
        )
        with vault.engine.write() as database:
            # As jobs leave them: the newest rows are gone, and their ids must not come back.
            database.execute_sql("UPDATE sqlite_sequence SET seq = seq + 5")
            row = receipt()
            columns = ("tenant", "request_hash", "position", "body_hash", "status", "code", "collection", "token",
                       "generation", "expires_at")  # fmt: skip
            marks = ", ".join("?" * len(columns))
            database.execute_sql(
                f"INSERT INTO idempotency_key ({', '.join(columns)}) VALUES ({marks})",  # noqa: S608
                [getattr(row, name) for name in columns],
            )
            database.execute_sql(
                "INSERT INTO refusal_tally (address, reason, minute, count) VALUES ('::1', 'none', 1, 2)"
            )
            database.execute_sql(
                "INSERT INTO job_lease (name, owner, epoch, expires_at) VALUES ('x', X'00', 3, 4)"
            )
            database.execute_sql(
                "INSERT INTO job (name, tenant, operation, state, position, done, failed, error, created_at, updated_at, "
                "revision) VALUES ('x', '*', 'expire', 'standing', 9, 9, 0, 'Zoë ☃ ', 1, 1, 1)"
            )
            database.execute_sql("UPDATE vault_epoch SET value = 41")
        vault.engine.scrub()
    return made


@pytest.fixture
def home(template: SmallVault, tmp_path: Path) -> SmallVault:
    return template.copy_to(tmp_path / "data")


@pytest.fixture
def at(
    request: pytest.FixtureRequest, home: SmallVault, tmp_path: Path
) -> Callable[[str, str], Configuration]:
    """Gives a configuration for a new database of an engine."""

    def make(engine: str, name: str) -> Configuration:
        folder = tmp_path / name
        folder.mkdir()
        database = new_database(request, engine, folder)
        file = configuration_file(folder, database, keys=home.folder / "keys.json")
        return load_configuration(file, None)

    return make


def content(configuration: Configuration, models: Any = COPIED) -> dict[str, list[Any]]:
    """Every row, past the code that copies."""
    engine = open_engine(database_address(configuration))
    try:
        left, right = engine.database.quote or '""'
        found = {}
        with engine.read() as database:
            for model in models:
                names = ", ".join(f"{left}{name}{right}" for name in model._meta.sorted_field_names)
                table = model._meta.table_name
                rows = database.execute_sql(f"SELECT {names} FROM {table} ORDER BY id").fetchall()  # noqa: S608
                found[table] = [tuple(row) for row in rows]
        return found
    finally:
        engine.close()


def assert_same(comparisons: list[Comparison]) -> None:
    assert [each.table for each in comparisons if not each.is_same] == []
    assert {each.table for each in comparisons if each.source.rows} >= {
        "record", "record_history", "index_entry", "idempotency_key", "refusal_tally", "job", "vault_epoch",
    }  # fmt: skip


def check_vault(configuration: Configuration, home: SmallVault) -> None:
    vault = bootstrap.open_vault(configuration)
    try:
        assert vault.verify(lambda: None).findings == []
        assert record_row(vault, home.ada).generation == 5
        assert vault.stores.records.find(people_key(home.cyd)).erased_at is not None  # type: ignore[union-attr]
    finally:
        vault.close()


def test_a_vault_goes_round_over_all_engines(home: SmallVault, at: Callable[..., Configuration]) -> None:
    places = [home.configuration, *(at(engine, f"to{number}") for number, engine in enumerate(ROUND[1:]))]
    before = content(places[0])
    digests = []
    for source, target in pairwise(places):
        comparisons = bootstrap.transfer(source, target, QUIET)
        assert_same(comparisons)
        digests.append([each.source for each in comparisons])
        assert content(target) == before
        assert content(target, (ProcessTable, JobLeaseTable)) == {"process": [], "job_lease": []}
        check_vault(target, home)
    assert digests[0] == digests[1] == digests[2]
    assert content(places[0]) == before


@pytest.mark.parametrize("engine", ENGINES)
def test_no_id_comes_back_that_the_source_had_given(
    home: SmallVault, at: Callable[..., Configuration], engine: str
) -> None:
    # By way of another engine, so that its counter is both read and set.
    through = at(engine, "through")
    back = at("sqlite", "back")
    bootstrap.transfer(home.configuration, through, QUIET)
    bootstrap.transfer(through, back, QUIET)
    with home.tampering() as connection:
        given = dict(connection.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
        highest = connection.execute("SELECT max(id) FROM record").fetchone()[0]
    assert given["record"] > highest
    for place in (through, back):
        vault = bootstrap.open_vault(place)
        try:
            made = store(vault, BOB | {"email": "new@example.org"})
            assert record_row(vault, made.token).id == given["record"] + 1
            new_rows = [row for row in content(place, (IndexTable,))["index_entry"] if made.token in row]
            assert min(row[0] for row in new_rows) == given["index_entry"] + 1
        finally:
            vault.close()


@contextmanager
def cut_at(target: Configuration, step: int) -> Iterator[list[int]]:
    """End the process's work, as far as it can be seen, before the target's statement number ``step``."""
    opened = transferring.open_database
    count = [0]

    def open_watched(configuration: Configuration) -> Any:
        engine = opened(configuration)
        if configuration is not target:
            return engine
        kind = type(engine.database)
        execute, commit = kind.execute_sql, kind.commit

        def stepping(work: Callable[..., Any]) -> Callable[..., Any]:
            def run(*arguments: Any, **options: Any) -> Any:
                count[0] += 1
                if count[0] == step:
                    raise CutError
                return work(engine.database, *arguments, **options)

            return run

        engine.database.execute_sql = stepping(execute)
        engine.database.commit = stepping(commit)
        return engine

    with mock.patch.object(transferring, "open_database", open_watched):
        yield count


@pytest.mark.parametrize("engine", ENGINES)
def test_a_transfer_goes_on_after_a_cut_at_any_statement(
    home: SmallVault, at: Callable[..., Configuration], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Batches of a few rows, so that there are many ends of batches.
    monkeypatch.setattr(copying, "_BATCH_ROWS", 2)
    source = home.configuration
    whole = at(engine, "whole")
    with cut_at(whole, 0) as count:
        assert_same(bootstrap.transfer(source, whole, QUIET))
    total = count[0]
    assert total > 100
    refused = 0
    steps = range(1, total + 1, 11 if engine in SERVERS else 5)
    for step in steps:
        target = at(engine, f"cut{step}")
        with cut_at(target, step), pytest.raises(CutError):
            bootstrap.transfer(source, target, QUIET)
        refused += is_refused(target)
        assert_same_in_the_end(source, target)
        check_vault(target, home)
    assert refused > len(steps) / 4


def is_refused(target: Configuration) -> bool:
    try:
        bootstrap.open_vault(target).close()
    except MisconfiguredError as error:
        if "strongroom transfer" in str(error):
            with pytest.raises(MisconfiguredError):
                bootstrap.create_vault(target)
            return True
        assert "There is no vault" in str(error) or "needs the upgrade" in str(error)  # noqa: PT017
    return False


def assert_same_in_the_end(source: Configuration, target: Configuration) -> None:
    try:
        assert_same(bootstrap.transfer(source, target, QUIET))
    except MisconfiguredError as error:
        # The cut came after the last commit.
        assert "it is whole" in str(error)  # noqa: PT017
    assert content(target) == content(source)


@pytest.mark.parametrize("engine", SERVERS)
def test_a_source_whose_rows_differ_is_told_from_the_copy(
    home: SmallVault, at: Callable[..., Configuration], engine: str
) -> None:
    target = at(engine, "to")

    total, done = [0], [0]

    def tamper(rows: int) -> None:
        done[0] += rows
        if done[0] == total[0] and rows:
            other = open_engine(database_address(target))
            with other.write() as database:
                database.execute_sql("UPDATE record SET generation = generation + 1 WHERE id = 2")
            other.close()

    watcher = Watcher(lambda rows: total.__setitem__(0, rows), tamper, lambda _: None)
    comparisons = bootstrap.transfer(home.configuration, target, watcher)
    different = [(each.table, each.first_difference) for each in comparisons if not each.is_same]
    assert different == [("record", 2)]
    assert is_refused(target)


@pytest.mark.parametrize("engine", SERVERS)
def test_a_missing_privilege_is_said_of_the_side_that_lacks_it(
    request: pytest.FixtureRequest, home: SmallVault, tmp_path: Path, engine: str
) -> None:
    server = server_of(request, engine)
    address = server.new_database()
    if engine == "postgresql":
        server.execute(f"CREATE ROLE poor LOGIN PASSWORD '{PASSWORD}'")
    else:
        server.execute(f"CREATE USER 'poor'@'%' IDENTIFIED BY '{PASSWORD}'")
        server.execute(f"GRANT SELECT ON {address.database}.* TO 'poor'@'%'")
    file = configuration_file(
        tmp_path / "poor", replace(address, user="poor"), keys=home.folder / "keys.json"
    )
    with pytest.raises(UnavailableError, match="lacks a privilege") as caught:
        bootstrap.transfer(home.configuration, load_configuration(file, None), QUIET)
    assert str(caught.value).startswith(address.place)
