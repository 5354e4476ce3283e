"""A fault at every single statement of every operation: the outcome is whole or absent, never between."""

from __future__ import annotations

import os
import shutil
import zlib
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.faults.small_vault import IS_GATE, SmallVault, configuration_of, say
from tests.faults.statement_steps import (
    EXIT_CODE,
    MOST_STEPS,
    Fault,
    Steps,
    dump,
    exit_now,
    lose_answer,
    lose_question,
    raise_now,
)
from tests.faults.vault_operations import OPERATIONS, Operation, never
from tests.forked_child import run_in_child
from tests.servers.database_homes import chosen_home
from vault import bootstrap
from vault.bootstrap import Vault, founding
from vault.config import Configuration
from vault.core.errors import OUTCOME_UNKNOWN, UnavailableError, VaultError
from vault.core.rows import RecordRow

SERVER_STRIDE = 12
OFFSETS = 3


@pytest.fixture
def stride(request: pytest.FixtureRequest) -> int:
    """Every step, or on a server in everyday runs some of them."""
    return 1 if IS_GATE or request.config.getoption("--database") == "sqlite" else SERVER_STRIDE


def first_step(name: str, stride: int) -> int:
    """Where to begin: not every operation with the same step."""
    return 1 + zlib.crc32(name.encode()) % min(stride, OFFSETS)


def fresh(template: SmallVault, folder: Path, operation: Operation) -> SmallVault:
    shutil.rmtree(folder, ignore_errors=True)
    chosen_home().forget(folder)
    made = template.copy_to(folder)
    with made.opened() as vault:
        operation.prepare(vault, made)
    return made


def check_after(made: SmallVault, operation: Operation, before: dict[str, list[Any]], context: str) -> bool:
    """Whole or absent; return whether it is whole."""
    after = dump(made)
    assert made.findings() == [], context
    with made.opened() as vault:
        is_done = operation.is_done(vault, made)
    if operation.is_done is not never and not is_done:
        assert after == before, context
    if operation.shows_data:
        changed = {table for table in after if after[table] != before[table]}
        assert changed <= {"audit_entry"}, context
    return is_done


def attempt(operation: Operation, vault: Vault, made: SmallVault) -> tuple[Any, UnavailableError | None]:
    try:
        return operation.run(vault, made), None
    except UnavailableError as error:
        return None, error


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_statement_fails(
    small_vault_template: SmallVault, tmp_path: Path, name: str, stride: int
) -> None:
    operation = OPERATIONS[name]
    for k in range(first_step(name, stride), MOST_STEPS, stride):
        made = fresh(small_vault_template, tmp_path / "data", operation)
        before = dump(made)
        with made.opened() as vault:
            with Steps(k, raise_now).watching() as steps:
                shown, error = attempt(operation, vault, made)
            if not steps.has_failed:
                assert error is None
                assert shown or not operation.shows_data or name == "look up in vain"
                break
            if steps.is_setting and error is None:
                # Nothing that is stored depends on it.
                check_after(made, operation, before, f"{name} step {k}")
                continue
            assert error is not None, f"{name} goes on in spite of a failure at step {k}"
            assert error.code == "store-unavailable"
            # Nothing is written, no entry either, and nothing was shown.
            assert dump(made) == before, f"{name} said no at step {k} and did it"
            # The same connection goes on: nothing of the failed attempt is left in it.
            operation.run(vault, made)
            assert operation.is_done is never or operation.is_done(vault, made)
            assert vault.verify(lambda: None).findings == []
    else:
        pytest.fail("the sweep has no end")
    assert k > 3
    say(f"{name}: {k - 1} steps")


@pytest.mark.servers_only("no connection of SQLite is ever lost")
@pytest.mark.parametrize("fault", [lose_question, lose_answer])
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_connection_is_lost_at_each_statement(
    small_vault_template: SmallVault, tmp_path: Path, name: str, fault: Fault, stride: int
) -> None:
    """What is lost is done again and what may have committed is settled: all is written and told, or nothing is."""
    operation = OPERATIONS[name]
    outcomes: Counter[str] = Counter()
    for k in range(first_step(name, stride), MOST_STEPS, stride):
        context = f"{name} step {k}"
        made = fresh(small_vault_template, tmp_path / "data", operation)
        before = dump(made)
        with made.opened() as vault:
            with Steps(k, fault).watching() as steps:
                shown, error = attempt(operation, vault, made)
            if not steps.has_failed:
                break
            if error is None:
                assert shown or not operation.shows_data or name == "look up in vain", context
                assert check_after(made, operation, before, context) or operation.is_done is never, context
                outcomes["done"] += 1
            elif error.code == OUTCOME_UNKNOWN:
                check_after(made, operation, before, context)
                outcomes["unknown"] += 1
            else:
                assert error.code == "store-unavailable", context
                assert dump(made) == before, f"{name} said no at step {k} and did it"
                outcomes["refused"] += 1
                operation.run(vault, made)
            # The same pool goes on.
            assert vault.verify(lambda: None).findings == [], context
    else:
        pytest.fail("the sweep has no end")
    say(f"{name}, {fault.__name__}: {k - 1} steps, {dict(outcomes)}")
    # The server can be reached again at once: whatever has an audit entry is settled. A job writes its place without.
    assert outcomes["unknown"] == 0 or operation.is_job


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_process_ends_at_each_statement(
    small_vault_template: SmallVault, tmp_path: Path, name: str, stride: int
) -> None:
    operation = OPERATIONS[name]
    outcomes = []
    for k in range(first_step(name, stride), MOST_STEPS, stride):
        made = fresh(small_vault_template, tmp_path / "data", operation)
        before = dump(made)
        code = run_in_child(lambda made=made, k=k: run_and_end(made, operation, k))  # type: ignore[misc]
        assert code in {0, EXIT_CODE}, f"{name} step {k}"
        outcomes.append(check_after(made, operation, before, f"{name} step {k}"))
        if code == 0:
            break
    else:
        pytest.fail("the sweep has no end")
    if operation.is_done is not never:
        # Absent up to one step, the commit, and whole from there on.
        assert outcomes == sorted(outcomes)
        assert outcomes[-1] is True
        if stride == 1:
            assert outcomes[0] is False
            assert outcomes[-2] is True


@pytest.mark.parametrize("name", ["create with a key", "batch with a key"])
def test_whoever_ended_at_a_statement_is_answered_when_it_asks_again(
    small_vault_template: SmallVault, tmp_path: Path, name: str
) -> None:
    """No answer came, and the same request is sent again: it is carried out once, whenever the end came."""
    operation = OPERATIONS[name]
    replays = []
    for k in range(1, MOST_STEPS, 1 if IS_GATE else 3):
        made = fresh(small_vault_template, tmp_path / "data", operation)
        code = run_in_child(lambda made=made, k=k: run_and_end(made, operation, k))  # type: ignore[misc]
        with made.opened() as vault:
            tokens = [row.token for row in vault.stores.inspector.rows(RecordRow)]
            operation.run(vault, made)
            after = [row.token for row in vault.stores.inspector.rows(RecordRow)]
            assert operation.is_done(vault, made)
            assert vault.verify(lambda: None).findings == []
        assert after[: len(tokens)] == tokens
        replays.append(after == tokens)
        assert len(after) == (4 if name.startswith("create") else 5)
        if code == 0:
            break
    else:
        pytest.fail("the sweep has no end")
    # Carried out anew up to one step, the commit, and answered from there on.
    assert replays == sorted(replays)
    assert (replays[0], replays[-1]) == (False, True)


def run_and_end(made: SmallVault, operation: Operation, k: int) -> None:
    vault = bootstrap.open_vault(made.configuration)
    with Steps(k, exit_now).watching():
        operation.run(vault, made)


def steps_of_init(folder: Path) -> int:
    with Steps().watching() as steps:
        bootstrap.create_vault(configuration_of(folder))
    return steps.count


def check_init_again(folder: Path, context: str) -> None:
    configuration = configuration_of(folder)
    if bootstrap.vault_exists(configuration):
        # Killed after the rename: the vault is whole, and its credential can be replaced.
        vault = bootstrap.open_vault(configuration)
        credential = vault.administrators.replace()
        vault.close()
    else:
        with pytest.raises(VaultError, match="There is no vault"):
            bootstrap.open_vault(configuration)
        credential = bootstrap.create_vault(configuration)
    vault = bootstrap.open_vault(configuration)
    try:
        assert vault.verify(lambda: None).findings == [], context
        vault.services.authentication.authenticate(credential.text)
        assert vault.services.collections.current("default", "users").version == 1
    finally:
        vault.close()
    # An empty lock file may stay; nothing that holds a byte.
    assert [path.name for path in folder.glob("*.new*") if path.stat().st_size] == [], context


@pytest.mark.usefixtures("database_home")
def test_init_fails_or_is_killed_at_each_statement(tmp_path: Path, stride: int) -> None:
    total = steps_of_init(tmp_path / "counted")
    assert total > 30
    for k in range(1, total + 1, 1 if IS_GATE else 4 * stride):
        failing = tmp_path / f"raise{k}"
        with Steps(k, raise_now).watching(), pytest.raises(VaultError):
            bootstrap.create_vault(configuration_of(failing))
        check_init_again(failing, f"init fails at step {k}")

        killed = tmp_path / f"exit{k}"
        # Here, and not in the child: a server's database is made when its configuration is asked for.
        configuration = configuration_of(killed)
        code = run_in_child(lambda k=k, made=configuration: init_and_end(made, k))  # type: ignore[misc]
        assert code == EXIT_CODE
        check_init_again(killed, f"init ends at step {k}")
        for folder in (failing, killed):
            shutil.rmtree(folder)
            chosen_home().forget(folder)
    say(f"init: {total} steps")


def init_and_end(configuration: Configuration, k: int) -> None:
    with Steps(k, exit_now).watching():
        bootstrap.create_vault(configuration)


ITS_FILE = pytest.mark.sqlite_only("makes a file beside its final name")


@pytest.mark.parametrize(
    "place", [pytest.param("_fill", marks=ITS_FILE), pytest.param("_sync_folder", marks=ITS_FILE), "_found"]
)
@pytest.mark.usefixtures("database_home")
def test_init_is_killed_between_its_files(tmp_path: Path, place: str) -> None:
    """After the key file and before the database or its rows; after the rename and before the folder is synced."""
    configuration = configuration_of(tmp_path / "data")

    def end() -> None:
        with mock.patch.object(founding, place, side_effect=lambda *_: os._exit(EXIT_CODE)):
            bootstrap.create_vault(configuration)

    assert run_in_child(end) == EXIT_CODE
    check_init_again(tmp_path / "data", place)


@ITS_FILE
def test_init_is_killed_before_the_rename(tmp_path: Path) -> None:
    def end() -> None:
        with mock.patch.object(Path, "rename", side_effect=lambda *_: os._exit(EXIT_CODE)):
            bootstrap.create_vault(configuration_of(tmp_path / "data"))

    folder = tmp_path / "data"
    assert run_in_child(end) == EXIT_CODE
    assert not bootstrap.vault_exists(configuration_of(folder))
    check_init_again(folder, "rename")
