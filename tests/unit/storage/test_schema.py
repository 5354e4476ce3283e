from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vault.core.errors import MisconfiguredError
from vault.storage import schema
from vault.storage.sqlite import SqliteEngine
from vault.storage.tables import MODELS

STEPS = ["0001_first_tables", "0002_move_in", "0003_keys_at_work"]
UPGRADE = """
import sys
from pathlib import Path
from vault.storage import schema
from vault.storage.sqlite import SqliteEngine
engine = SqliteEngine(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
print(*schema.upgrade(engine))
"""
INDEXES = [(model._meta.table_name, columns) for model in MODELS for columns, _ in model._meta.indexes]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    engine = SqliteEngine(tmp_path / "vault.db")
    yield engine
    engine.close()


def execute(engine: SqliteEngine, statement: str, *values: Any) -> list[Any]:
    with engine.write() as database:
        found: list[Any] = database.execute_sql(statement, values).fetchall()
    return found


def test_an_upgrade_runs_once(engine: SqliteEngine) -> None:
    assert schema.pending(engine) == STEPS
    assert schema.upgrade(engine) == STEPS
    before = execute(engine, "SELECT name, sql FROM sqlite_master ORDER BY name")
    assert schema.upgrade(engine) == []
    assert schema.pending(engine) == []
    assert execute(engine, "SELECT name, sql FROM sqlite_master ORDER BY name") == before


def test_two_processes_at_once_upgrade_once(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", UPGRADE, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    assert sorted(out.strip() for out, _ in said) == ["", "", "", " ".join(STEPS)]


BROKEN = """
def up(migrator, db):
    db.execute_sql("CREATE TABLE half_made (x)")
    raise RuntimeError("the step failed")
"""


def test_an_upgrade_that_fails_leaves_nothing(
    engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    steps = tmp_path / "upgrades"
    shutil.copytree(schema.UPGRADES, steps, ignore=shutil.ignore_patterns("__pycache__"))
    (steps / "0002_broken.py").write_text(BROKEN)
    monkeypatch.setattr(schema, "UPGRADES", steps)
    with pytest.raises(RuntimeError, match=r"^the step failed$"):
        schema.upgrade(engine)
    tables = {name for (name,) in execute(engine, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert not tables & {"record", "keyring", "half_made"}
    (steps / "0002_broken.py").unlink()
    assert schema.upgrade(engine) == STEPS


@pytest.mark.parametrize("call", [schema.upgrade, schema.pending, schema.refuse_newer])
def test_a_newer_database_is_refused_and_left_alone(engine: SqliteEngine, call: Any) -> None:
    schema.upgrade(engine)
    (columns,) = [
        [name for _, name, *_ in execute(engine, "PRAGMA table_info('schema_history')")],
    ]
    known = execute(engine, "SELECT * FROM schema_history")[0]
    newer = {**dict(zip(columns, known, strict=True)), "name": "0999_of_the_future"}
    newer.pop("id", None)
    names, marks = ", ".join(newer), ", ".join("?" * len(newer))
    execute(engine, f"INSERT INTO schema_history ({names}) VALUES ({marks})", *newer.values())  # noqa: S608  # our names
    before = execute(engine, "SELECT * FROM schema_history")
    with pytest.raises(MisconfiguredError) as refused:
        call(engine)
    assert str(refused.value) == (
        f"The database {engine.path} was upgraded by a newer release of strongroom (step 0999_of_the_future). "
        "Install that release; this one does not touch the database."
    )
    assert execute(engine, "SELECT * FROM schema_history") == before


def index_name(engine: SqliteEngine, table: str, columns: tuple[str, ...]) -> str:
    for _, name, *_ in execute(engine, f"PRAGMA index_list('{table}')"):
        if tuple(column for _, _, column in execute(engine, f"PRAGMA index_info('{name}')")) == columns:
            return str(name)
    raise LookupError(columns)


@pytest.mark.parametrize(
    ("table", "columns"), INDEXES, ids=lambda part: part if isinstance(part, str) else "-".join(part)
)
def test_a_missing_index_stops_the_start(engine: SqliteEngine, table: str, columns: tuple[str, ...]) -> None:
    schema.upgrade(engine)
    schema.check_indexes(engine)
    execute(engine, f'DROP INDEX "{index_name(engine, table, columns)}"')
    with pytest.raises(
        MisconfiguredError, match=f"^The table {table} lacks its index over {', '.join(columns)}; "
    ):
        schema.check_indexes(engine)


def test_an_index_that_is_no_longer_unique_stops_the_start(engine: SqliteEngine) -> None:
    schema.upgrade(engine)
    columns = ("tenant", "collection", "field", "index_key_id", "normaliser", "tag", "slot")
    name = index_name(engine, "index_entry", columns)
    execute(engine, f'DROP INDEX "{name}"')
    execute(engine, f'CREATE INDEX "{name}" ON index_entry ({", ".join(columns)})')
    with pytest.raises(MisconfiguredError, match=r"^The table index_entry lacks its index over tenant, "):
        schema.check_indexes(engine)


def test_a_file_that_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    path.write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(MisconfiguredError, match=r" cannot be opened as a SQLite database: "):
        SqliteEngine(path)
