"""Every bit of every column of every MACed table counts: flip one, and the vault says so."""

from __future__ import annotations

import functools
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from tests.faults.small_vault import IS_GATE, TABLES, SmallVault, say
from vault import bootstrap
from vault.core import schema
from vault.core.documents import dump_json
from vault.core.errors import IntegrityError, MisconfiguredError
from vault.core.rows import Row
from vault.core.verification import Finding
from vault.storage import inspection
from vault.storage.statements import RowMapper

pytestmark = pytest.mark.sqlite_only("flips bits in SQLite's own file and tables")

FLIPS = 100_000 if IS_GATE else 10_000
PROCESSES = 2
SEED = 20261123
KEY_TABLES = {"keyring", "key_version", "stored_key"}


@dataclass(frozen=True, slots=True)
class Cell:
    table: str
    column: str
    row_id: int
    value: Any
    storage: str


@dataclass(frozen=True, slots=True)
class Change:
    """One tampered cell: ``expression`` is SQL with one parameter, so that text can be any bytes."""

    cell: Cell
    expression: str
    parameter: Any
    kind: str

    def __str__(self) -> str:
        return f"{self.cell.table}.{self.cell.column} #{self.cell.row_id} {self.kind}"


def cells_of(connection: sqlite3.Connection) -> list[Cell]:
    cells = []
    for table in TABLES:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "id"]
        for column in columns:
            query = f"SELECT id, CAST({column} AS BLOB), {column}, typeof({column}) FROM {table} ORDER BY id"  # noqa: S608  # our own names
            for row_id, raw, value, storage in connection.execute(query):
                cells.append(Cell(table, column, row_id, raw if storage == "text" else value, storage))
    return cells


def flipped(cell: Cell, bit: int) -> Change | None:
    """Flip one bit of a value, keeping its storage class."""
    if cell.storage == "integer":
        bit %= 64
        unsigned = (cell.value % 2**64) ^ (1 << bit)
        return Change(cell, "?", unsigned - 2**64 if unsigned >= 2**63 else unsigned, f"bit {bit}")
    if cell.storage == "null" or not cell.value:
        return None
    bit %= len(cell.value) * 8
    changed = bytearray(cell.value)
    changed[bit // 8] ^= 1 << bit % 8
    expression = "CAST(? AS TEXT)" if cell.storage == "text" else "?"
    return Change(cell, expression, bytes(changed), f"bit {bit}")


def other_shapes(cell: Cell) -> Iterator[Change]:
    """The same cell as NULL, in another storage class, longer or shorter."""
    if cell.storage == "null":
        for parameter in (0, 1, -1, "", "x", b"", b"x", 1.5):
            yield Change(cell, "?", parameter, f"NULL becomes {parameter!r}")
        return
    yield Change(cell, "?", None, "becomes NULL")
    if cell.storage == "integer":
        yield Change(cell, "?", str(cell.value).encode(), "digits as bytes")
        yield Change(cell, "?", f"{cell.value}x", "becomes text")
        yield Change(cell, "?", 0.5, "becomes a float")
    else:
        twin = "?" if cell.storage == "text" else "CAST(? AS TEXT)"
        same = "CAST(? AS TEXT)" if cell.storage == "text" else "?"
        yield Change(cell, twin, cell.value, "same bytes, text and bytes exchanged")
        yield Change(cell, same, cell.value + b"\0", "one byte longer")
        if cell.value:
            yield Change(cell, same, cell.value[:-1], "one byte shorter")
        yield Change(cell, "?", 7, "becomes a number")
        yield Change(cell, "?", 0.5, "becomes a float")


def random_flips(cells: list[Cell], count: int) -> list[Change]:
    """Flips spread evenly over the columns, then over rows and bits."""
    rng = random.Random(SEED)
    columns: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell.storage == "integer" or cell.value:
            columns.setdefault((cell.table, cell.column), []).append(cell)
    changes: list[Change] = []
    while len(changes) < count:
        for choices in columns.values():
            change = flipped(rng.choice(choices), rng.getrandbits(24))
            if change is not None:
                changes.append(change)
    return changes[:count]


def drop_not_null(connection: sqlite3.Connection) -> None:
    """Take away the NOT NULL constraints, as anybody can who can write to the file."""
    connection.execute("PRAGMA writable_schema = on")
    connection.execute("UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE type = 'table'")
    connection.execute("PRAGMA writable_schema = reset")


def detect(vault: bootstrap.Vault) -> list[Finding]:
    """What opening (from the rows on) and verification say; any other error passes through."""
    try:
        fresh = bootstrap.assemble(vault.engine, vault.stores, vault.keyrings._providers)
        return fresh.verify(lambda: None).findings
    except IntegrityError as error:
        return [Finding(error.finding, error.where)]
    except MisconfiguredError as error:
        return [Finding("misconfigured", error.detail)]


def complaint_about(change: Change, findings: list[Finding]) -> str | None:
    """Why these findings are not good enough for this change, or None."""
    table = change.cell.table
    if not findings:
        return "undetected"
    if table in KEY_TABLES:
        return None
    named = [finding for finding in findings if finding.where.startswith(f"{table} ")]
    expected = "unknown-keyring" if change.cell.column == "tenant" else "row-mac"
    if not any(finding.code == expected for finding in named):
        return f"not named: {findings[:3]}"
    return None


@functools.cache
def ready_mapper(row_type: type[Row]) -> Any:
    mapper: Any = RowMapper(row_type)
    statements: dict[int, Any] = {}
    select = mapper.select

    def select_once(*conditions: Any, **options: Any) -> Any:
        # The first page has no condition, all others the same one.
        if len(conditions) not in statements:
            statements[len(conditions)] = select(*conditions, **options)
        return statements[len(conditions)]

    mapper.select = select_once
    return mapper


def remember_slow_steps() -> None:
    """Let this process repeat neither the check of an equal JSON Schema nor the building of equal SQL text.

    Half of a verification of so small a vault is spent there, and no stored byte is looked at in it.
    """
    seen: set[bytes] = set()
    check_meta_schema = schema._check_meta_schema

    def check_once(source: dict[str, Any]) -> None:
        text = dump_json(source)
        if text not in seen:
            check_meta_schema(source)
            seen.add(text)

    schema._check_meta_schema = check_once
    inspection.RowMapper = ready_mapper


def try_changes(template: Path, changes: list[Change]) -> tuple[Counter[str], list[str]]:
    """Make each change, look, and put the cell back; return counts by column and complaints."""
    counts: Counter[str] = Counter()
    complaints: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = SmallVault(Path(folder) / "data", "", b"", b"", b"")
        shutil.copytree(template, copy.folder)
        with copy.tampering() as connection, copy.opened() as vault:
            drop_not_null(connection)
            assert detect(vault) == []
            for change in changes:
                cell = change.cell
                update = f"UPDATE {cell.table} SET {cell.column} = {{}} WHERE id = ?"  # noqa: S608  # our own names
                try:
                    connection.execute(update.format(change.expression), (change.parameter, cell.row_id))
                except sqlite3.IntegrityError:
                    # A unique index of the database refused it already; that, too, is no undetected change.
                    counts["refused by the database"] += 1
                    continue
                try:
                    complaint = complaint_about(change, detect(vault))
                except Exception as error:  # noqa: BLE001  # whatever it is, it is the finding of this test
                    complaint = f"not a named error: {type(error).__name__}: {error}"
                if complaint:
                    complaints.append(f"{change}: {complaint}")
                back = "CAST(? AS TEXT)" if cell.storage == "text" else "?"
                connection.execute(update.format(back), (cell.value, cell.row_id))
                counts[f"{cell.table}.{cell.column}"] += 1
            assert detect(vault) == []
    return counts, complaints


def try_all(template: SmallVault, changes: list[Change]) -> tuple[Counter[str], list[str]]:
    shares = [changes[start::PROCESSES] for start in range(PROCESSES)]
    counts: Counter[str] = Counter()
    complaints: list[str] = []
    context = get_context("fork")
    with ProcessPoolExecutor(PROCESSES, mp_context=context, initializer=remember_slow_steps) as pool:
        for share_counts, share_complaints in pool.map(try_changes, [template.folder] * PROCESSES, shares):
            counts += share_counts
            complaints += share_complaints
    return counts, complaints


def cells_in(template: SmallVault) -> list[Cell]:
    with closing(sqlite3.connect(template.database)) as connection:
        return cells_of(connection)


def report(counts: Counter[str], what: str) -> None:
    tables = Counter(dict.fromkeys(TABLES, 0))
    for name, count in counts.items():
        tables[name.partition(".")[0]] += count
    say(f"{what}: {sum(counts.values()):,}; " + ", ".join(f"{table} {n:,}" for table, n in tables.items()))


def test_each_flipped_bit_is_found(small_vault_template: SmallVault) -> None:
    cells = cells_in(small_vault_template)
    changes = random_flips(cells, FLIPS)

    counts, complaints = try_all(small_vault_template, changes)

    report(counts, "single-bit flips")
    with_bits = {f"{cell.table}.{cell.column}" for cell in cells if cell.storage == "integer" or cell.value}
    assert {name for name, count in counts.items() if count >= FLIPS // 200} >= with_bits
    assert counts["refused by the database"] < FLIPS // 100
    assert sum(counts.values()) == FLIPS
    assert complaints == []


def test_each_changed_shape_is_found(small_vault_template: SmallVault) -> None:
    cells = cells_in(small_vault_template)
    changes = [change for cell in cells for change in other_shapes(cell)]

    counts, complaints = try_all(small_vault_template, changes)

    report(counts, "NULLs and storage classes")
    assert {name for name in counts if "." in name} == {f"{cell.table}.{cell.column}" for cell in cells}
    assert complaints == []


def run_verify(vault: SmallVault) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "vault.cli", "verify", "--data", str(vault.folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_is_content_with_a_sound_vault(small_vault: SmallVault) -> None:
    done = run_verify(small_vault)

    assert (done.returncode, done.stderr) == (0, "")
    assert "All is as the vault wrote it." in done.stdout


@pytest.mark.parametrize(
    ("table", "column", "bit", "exit_code"),
    [
        ("record", "sealed_document", 333, 3),
        ("record", "token", 33, 3),
        ("record_history", "wrapped_dek", 3, 3),
        # Not UTF-8 any more: the report itself must survive naming it.
        ("index_entry", "field", 7, 3),
        ("audit_entry", "canonical", 500, 3),
        ("key_version", "created_at", 0, 3),
        ("stored_key", "sealed_key", 222, 3),
        # A tampered wrapped key and a wrong key file cannot be told apart: that is a sentence and exit 1.
        ("stored_key", "wrapped_dek", 111, 1),
        ("key_version", "provider_key", 1, 1),
    ],
)
def test_the_command_names_a_flipped_bit(
    small_vault: SmallVault, table: str, column: str, bit: int, exit_code: int
) -> None:
    cell = next(
        cell
        for cell in cells_in(small_vault)
        if (cell.table, cell.column) == (table, column) and cell.value is not None
    )
    change = flipped(cell, bit)
    assert change is not None
    with small_vault.tampering() as connection:
        connection.execute(
            f"UPDATE {table} SET {column} = {change.expression} WHERE id = ?",  # noqa: S608  # our own names
            (change.parameter, cell.row_id),
        )

    done = run_verify(small_vault)

    assert done.returncode == exit_code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    if exit_code == 3:
        assert f": {table} " in done.stdout
    else:
        assert "does not open this vault's keys" in done.stderr
