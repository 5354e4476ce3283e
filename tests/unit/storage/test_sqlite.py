from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vault.core.errors import IntegrityError, UnavailableError
from vault.storage import sqlite
from vault.storage.sqlite import SqliteEngine

HOLD = """
import sys
from pathlib import Path
from vault.storage.sqlite import SqliteEngine
with SqliteEngine(Path(sys.argv[1])).write():
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SqliteEngine]:
    engine = SqliteEngine(tmp_path / "vault.db")
    with engine.write() as database:
        database.execute_sql("CREATE TABLE t (x)")
    yield engine
    engine.close()


def rows(engine: SqliteEngine) -> list[tuple[object, ...]]:
    with engine.read() as database:
        found: list[tuple[object, ...]] = database.execute_sql("SELECT x FROM t ORDER BY x").fetchall()
    return found


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("secure_delete", 1),
        ("foreign_keys", 1),
        ("temp_store", 2),
        ("trusted_schema", 0),
    ],
)
def test_pragmas_hold_in_every_thread(engine: SqliteEngine, pragma: str, value: object) -> None:
    found: list[object] = []

    def ask() -> None:
        with engine.read() as database:
            found.append(database.execute_sql(f"PRAGMA {pragma}").fetchone()[0])

    ask()
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [value, value]


def test_leaving_by_an_exception_rolls_back(engine: SqliteEngine) -> None:
    def fail() -> None:
        with engine.write() as database:
            database.execute_sql("INSERT INTO t VALUES (1)")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert rows(engine) == []
    with engine.write() as database:
        database.execute_sql("INSERT INTO t VALUES (2)")
    assert rows(engine) == [(2,)]


def test_a_writer_of_another_process_is_waited_for_and_then_given_up(
    engine: SqliteEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOCK_DEADLINE_SECONDS", 0.2)
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOLD, engine.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UnavailableError) as refused, engine.write():
            pytest.fail("two writers at once")
        assert refused.value.code == "store-unavailable"
        assert rows(engine) == []  # readers never wait
        holder.communicate("\n")
    with engine.write() as database:
        database.execute_sql("INSERT INTO t VALUES (1)")
    assert rows(engine) == [(1,)]


def test_threads_write_one_after_another(engine: SqliteEngine) -> None:
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            with engine.write() as database:
                inside.append(number)
                most.append(len(inside))
                database.execute_sql("INSERT INTO t VALUES (?)", (number,))
                inside.pop()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(rows(engine)) == 160
    assert set(most) == {1}


def test_text_that_is_no_utf8_is_read_for_its_mac_to_judge(engine: SqliteEngine) -> None:
    with engine.write() as database:
        database.execute_sql("INSERT INTO t VALUES (CAST(x'ed61' AS TEXT))")
    assert rows(engine) == [("\udceda",)]


def test_a_missing_table_is_503_without_its_statement(engine: SqliteEngine) -> None:
    with pytest.raises(UnavailableError) as refused, engine.read() as database:
        database.execute_sql("SELECT secret FROM nowhere")
    assert refused.value.code == "store-unavailable"
    assert "secret" not in refused.value.detail


def test_a_damaged_file_is_an_alarm(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    engine = SqliteEngine(path)
    with engine.write() as database:
        database.execute_sql("CREATE TABLE t (x)")
        for number in range(500):
            database.execute_sql("INSERT INTO t VALUES (?)", (f"{number}" * 100,))
    engine.scrub()
    engine.close()
    content = bytearray(path.read_bytes())
    content[4096 + 8 : -100] = b"\xff" * (len(content) - 4096 - 108)
    path.write_bytes(content)
    engine = SqliteEngine(path)
    with (
        pytest.raises(IntegrityError, match=r"^database-malformed: the SQLite file$"),
        engine.read() as database,
    ):
        database.execute_sql("SELECT * FROM t").fetchall()
    engine.close()


def test_scrubbing_empties_the_write_ahead_log(engine: SqliteEngine) -> None:
    wal = engine.path.with_name("vault.db-wal")
    with engine.write() as database:
        database.execute_sql("INSERT INTO t VALUES ('a canary that must go')")
    with engine.write() as database:
        database.execute_sql("DELETE FROM t")
    assert b"a canary that must go" in wal.read_bytes()
    assert engine.scrub()
    assert wal.stat().st_size == 0
    assert b"a canary that must go" not in engine.path.read_bytes()
