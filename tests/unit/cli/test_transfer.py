"""What ``strongroom transfer`` says to bad input, and that it changes nothing then."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vault import bootstrap
from vault.bootstrap import only_server, transferring
from vault.cli import main
from vault.config import load_configuration
from vault.core.clock import system_clock

PROCESS = (
    "INSERT INTO process (boot_id, host, pid, role, release, started_at, heartbeat_at) "
    "VALUES (X'00', 'db-host', 4711, 'worker', '0', 1, {heartbeat})"
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("template") / "data"
    configuration = load_configuration(None, folder)
    bootstrap.create_vault(configuration)
    bootstrap.scrub(configuration)
    return configuration.database_path.read_bytes()


@pytest.fixture
def vault(template: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "vault.db"
    path.write_bytes(template)
    return path


@pytest.fixture
def run(vault: Path) -> Callable[..., Result]:
    def call(target: object, *options: str, source: object = None) -> Result:
        source = f"sqlite:{vault}" if source is None else source
        return CliRunner().invoke(main, ["transfer", "--from", str(source), "--to", str(target), *options])

    return call


def execute(path: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return connection.execute(statement).fetchall()


def test_it_says_what_it_did_in_json(run: Callable[..., Result], tmp_path: Path) -> None:
    done = run(f"sqlite:{tmp_path}/new/folder/to.db", "--json")
    assert done.exit_code == 0, done.output
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0] == {"event": "progress", "copied": 0, "compared": 0, "total": 12}
    tables = {each["table"]: each for each in events if each["event"] == "table"}
    assert (tables["audit_entry"]["rows"], tables["audit_entry"]["target_rows"]) == (3, 3)
    assert all(each["same"] and each["sha256"] == each["target_sha256"] for each in tables.values())
    assert events[-1] == {"event": "done", "rows": 12}
    assert not {"process", "job_lease"} & tables.keys()


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("oracle://u@h/n", "no known scheme"),
        ("postgresql://u:hidden@h/n", "password does not stand"),
        ("postgresql://h/n", "USER@HOST:PORT/NAME is needed"),
    ],
)
def test_a_wrong_url_is_wrong_usage(run: Callable[..., Result], target: str, words: str) -> None:
    refused = run(target)
    assert refused.exit_code == 2
    assert words in refused.stderr
    assert "hidden" not in refused.output


def test_the_same_database_is_refused_under_another_name(run: Callable[..., Result], vault: Path) -> None:
    link = vault.with_name("link.db")
    link.symlink_to(vault)
    for name in (f"sqlite:{vault.parent}/../{vault.parent.name}/vault.db", f"sqlite:{link}"):
        refused = run(name)
        assert refused.exit_code == 2
        assert "the same database" in refused.stderr
    server = run("mysql://other@h:3306/n", source="mariadb://user@h/n")
    assert (server.exit_code, "the same database" in server.stderr) == (2, True)


def test_the_environment_cannot_name_both_sides(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRONGROOM_DATABASE__URL", f"sqlite:{tmp_path}/third.db")
    refused = run(f"sqlite:{tmp_path}/to.db")
    assert refused.exit_code == 2
    assert "STRONGROOM_DATABASE__URL" in refused.stderr


def test_a_file_names_its_own_password(run: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "strongroom.toml"
    file.write_text('[database]\nurl = "sqlite:to.db"\n')
    refused = run(file, "--to-password", "secret")
    assert refused.exit_code == 2
    assert "--to-password" in refused.stderr
    assert run(file).exit_code == 0
    assert (tmp_path / "to.db").exists()


def refused_for(run: Callable[..., Result], target: Path, *words: str) -> None:
    existed = target.exists()
    refused = run(f"sqlite:{target}")
    assert refused.exit_code == 1, refused.output
    assert all(word in refused.stderr for word in words), refused.stderr
    assert target.exists() == existed


def test_without_a_vault_nothing_is_made(run: Callable[..., Result], vault: Path, tmp_path: Path) -> None:
    vault.unlink()
    refused_for(run, tmp_path / "to.db", "There is no vault")
    assert not vault.exists()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM schema_history WHERE name = '0003_keys_at_work'", "upgrade 0003_keys_at_work"),
        ("INSERT INTO schema_history (name, applied) VALUES ('9999_future', '2030-01-01')", "newer release"),
        (
            "INSERT INTO schema_history (name, applied) VALUES ('unfinished_transfer_3', '2030-01-01')",
            "has not ended",
        ),
        ("DELETE FROM keyring", "no vault in"),
    ],
)
def test_a_source_that_cannot_be_copied_is_refused(
    run: Callable[..., Result], vault: Path, tmp_path: Path, statement: str, words: str
) -> None:
    execute(vault, statement)
    if words == "no vault in":
        # A file with tables and no keys: made by somebody else than us.
        execute(vault, "DELETE FROM stored_key")
    refused_for(run, tmp_path / "to.db", words)


def test_a_process_at_work_is_named_and_a_dead_one_is_none(
    run: Callable[..., Result], vault: Path, tmp_path: Path
) -> None:
    execute(vault, PROCESS.format(heartbeat=system_clock()))
    refused_for(run, tmp_path / "to.db", "worker", "process 4711 on db-host", "Stop it")
    execute(vault, f"UPDATE process SET heartbeat_at = {system_clock() - 31_000_000}")  # noqa: S608
    assert run(f"sqlite:{tmp_path}/to.db").exit_code == 0


def test_a_server_on_either_side_is_refused(run: Callable[..., Result], vault: Path, tmp_path: Path) -> None:
    for path in (vault, tmp_path / "to.db"):
        file = tmp_path / "held.toml"
        file.write_text(f'[database]\nurl = "sqlite:{path}"\n')
        with only_server(load_configuration(file, None)):
            refused_for(run, tmp_path / "to.db", "Another strongroom server", path.name)


def test_nobody_writes_to_the_source_meanwhile(
    run: Callable[..., Result], vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish, seen = transferring.Transfer.finish, []

    def look(whole: Any, now: int) -> None:
        with closing(sqlite3.connect(vault, timeout=0)) as connection:
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                connection.execute("DELETE FROM record")
            seen.append(now)
        finish(whole, now)

    monkeypatch.setattr(transferring.Transfer, "finish", look)
    assert run(f"sqlite:{tmp_path}/to.db").exit_code == 0
    assert seen


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("CREATE TABLE shop (id INTEGER)", "has a table shop"),
        ("DELETE FROM keyring", "not empty: there are rows in"),
        ("SELECT 1", "There is a vault in"),
        ("INSERT INTO schema_history (name, applied) VALUES ('9999_future', '2030-01-01')", "newer release"),
    ],
)
def test_a_target_that_is_not_empty_is_left_as_it_is(
    run: Callable[..., Result], template: bytes, tmp_path: Path, statement: str, words: str
) -> None:
    target = tmp_path / "to.db"
    target.write_bytes(template)
    execute(target, statement)
    before = list(sqlite3.connect(target).iterdump())
    refused_for(run, target, words)
    assert list(sqlite3.connect(target).iterdump()) == before


@pytest.fixture
def half(run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A target whose transfer ended before its comparison."""

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(transferring.Transfer, "compare", stop)
        assert run(f"sqlite:{tmp_path}/to.db").exit_code == 1
    return tmp_path / "to.db"


@pytest.mark.usefixtures("kept_hooks")
def test_a_half_filled_target_is_refused_and_goes_on(run: Callable[..., Result], half: Path) -> None:
    file = half.with_name("half.toml")
    file.write_text(f'[database]\nurl = "sqlite:{half}"\n')
    for command in ("serve", "verify"):
        refused = CliRunner().invoke(main, [command, "--config", str(file)])
        assert refused.exit_code == 1
        assert "has not ended. Run the same `strongroom transfer` again" in refused.stderr
    assert run(f"sqlite:{half}").exit_code == 0


@pytest.mark.parametrize(
    ("place", "statement", "words"),
    [
        ("vault", "UPDATE audit_entry SET id = 9 WHERE id = 3", "ends with entry 9, and ended with 3"),
        ("vault", "UPDATE principal SET mac = X'00'", "principal #1 differs"),
        ("half", "DELETE FROM schema_history WHERE name = '0003_keys_at_work'", "another release began"),
    ],
)
def test_a_half_filled_target_goes_on_with_its_own_source_only(
    run: Callable[..., Result], vault: Path, half: Path, place: str, statement: str, words: str
) -> None:
    execute(vault if place == "vault" else half, statement)
    refused_for(run, half, words)


def test_copies_that_differ_are_exit_3_and_stay_closed(run: Callable[..., Result], half: Path) -> None:
    execute(half, "UPDATE audit_entry SET canonical = X'00' WHERE id = 2")
    for options in ((), ("--json",)):
        different = run(f"sqlite:{half}", *options)
        assert different.exit_code == 3
        assert "audit_entry: 3 rows and 3, first different at #2" in different.stderr
    assert json.loads(different.stdout.splitlines()[-1])["event"] == "different"
    assert execute(half, "SELECT count(*) FROM schema_history WHERE name LIKE 'unfinished%'") == [(1,)]


@pytest.mark.parametrize("value", ["CAST(X'ff41' AS TEXT)", "'a' || char(0)", "1.5"])
def test_what_only_sqlite_keeps_is_named(
    run: Callable[..., Result], vault: Path, tmp_path: Path, value: str
) -> None:
    column = "time" if value == "1.5" else "purpose"
    execute(vault, f"UPDATE audit_entry SET {column} = {value} WHERE id = 2")  # noqa: S608
    refused = run(f"sqlite:{tmp_path}/to.db")
    assert refused.exit_code == 1
    assert "row-not-movable: audit_entry #2" in refused.stderr
    assert "strongroom verify" in refused.stderr
