"""Row types, tables and a database made by the upgrades alone agree in every name, type, null and index."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

import pytest

from vault.core import rows
from vault.core.rows import Row
from vault.storage import schema
from vault.storage.sqlite import SqliteEngine
from vault.storage.statements import RowMapper
from vault.storage.tables import MODELS, TABLE_OF

ROW_TYPES = sorted(TABLE_OF, key=lambda row_type: row_type.TABLE)
SQL_TYPE = {int: "INTEGER", str: "TEXT", bytes: "BLOB"}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    engine = SqliteEngine(tmp_path_factory.mktemp("upgraded") / "vault.db")
    assert schema.upgrade(engine) == ["0001_first_tables", "0002_move_in", "0003_keys_at_work"]
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def of_models(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A database made by the models of this release, without any upgrade."""
    engine = SqliteEngine(tmp_path_factory.mktemp("models") / "vault.db")
    with engine.database.bind_ctx(MODELS, bind_refs=False, bind_backrefs=False):
        engine.database.create_tables(MODELS)
    yield engine
    engine.close()


def rows_of(engine: SqliteEngine, statement: str) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = engine.database.execute_sql(statement).fetchall()
    return found


def shape(engine: SqliteEngine, table: str) -> dict[str, Any]:
    """Columns by name as (type, NOT NULL, default, primary key), and indexes as (columns, unique)."""
    columns = rows_of(engine, f"PRAGMA table_info('{table}')")
    indexes = {
        (
            tuple(column for _, _, column in rows_of(engine, f"PRAGMA index_info('{name}')")),
            bool(unique),
            bool(partial),
        )
        for _, name, unique, _, partial in rows_of(engine, f"PRAGMA index_list('{table}')")
    }
    return {
        "columns": {name: tuple(rest) for _, name, *rest in columns},
        "indexes": indexes,
        "autoincrement": "AUTOINCREMENT"
        in rows_of(engine, f"SELECT sql FROM sqlite_master WHERE name = '{table}'")[0][0],  # noqa: S608  # our names
    }


def test_every_row_type_has_one_table() -> None:
    row_types = [each for each in vars(rows).values() if isinstance(each, type) and issubclass(each, Row)]
    assert len(row_types) > 10
    assert set(row_types) - {Row} == TABLE_OF.keys()
    assert len(set(TABLE_OF.values())) == len(TABLE_OF)


@pytest.mark.parametrize("row_type", ROW_TYPES, ids=lambda row_type: row_type.TABLE)
def test_a_row_type_is_its_table(engine: SqliteEngine, row_type: type[Row]) -> None:
    fields = {field.name for field in dataclasses.fields(row_type)}
    model = TABLE_OF[row_type]
    assert model._meta.table_name == row_type.TABLE
    assert set(model._meta.fields) == fields
    mapper = RowMapper(row_type)
    assert set(mapper.read_names) == fields
    assert set(mapper.write_names) == fields - {"id"}
    columns = shape(engine, row_type.TABLE)["columns"]
    assert columns.keys() == fields
    hints = get_type_hints(row_type)
    for name, (sql_type, is_not_null, default, is_primary) in columns.items():
        assert default is None
        if name == "id":
            assert (sql_type, bool(is_primary)) == ("INTEGER", True)
            continue
        kinds = set(getattr(hints[name], "__args__", (hints[name],)))
        assert bool(is_not_null) == (type(None) not in kinds), name
        (kind,) = kinds - {type(None)}
        assert sql_type in {SQL_TYPE[kind], "BIGINT" if kind is int else SQL_TYPE[kind]}, name
        assert not is_primary


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.table_name)
def test_the_upgrades_make_what_the_models_say(
    engine: SqliteEngine, of_models: SqliteEngine, model: Any
) -> None:
    table = model._meta.table_name
    made, expected = shape(engine, table), shape(of_models, table)
    assert made == expected
    assert {(tuple(columns), unique) for columns, unique in model._meta.indexes} == {
        (columns, unique) for columns, unique, _ in made["indexes"]
    }


def test_the_upgrades_make_nothing_else(engine: SqliteEngine) -> None:
    tables = {name for (name,) in rows_of(engine, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    ours = {model._meta.table_name for model in MODELS}
    assert tables - {"sqlite_sequence", "schema_history"} == ours
    assert rows_of(engine, "SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view')") == []


@pytest.mark.parametrize("row_type", ROW_TYPES, ids=lambda row_type: row_type.TABLE)
def test_an_id_is_never_used_twice(engine: SqliteEngine, row_type: type[Row]) -> None:
    # A job's cursor walks by id: a new row must not appear behind it.
    assert shape(engine, row_type.TABLE)["autoincrement"]


@pytest.mark.parametrize("row_type", ROW_TYPES, ids=lambda row_type: row_type.TABLE)
def test_a_row_survives_its_table(of_models: SqliteEngine, row_type: type[Row]) -> None:
    hints = get_type_hints(row_type)
    most: dict[type, Any] = {int: 2**63 - 1, str: "Ж\U0001f511'\"\n", bytes: bytes(range(256))}
    least: dict[type, Any] = {int: -(2**63), str: "", bytes: b""}
    with of_models.database.bind_ctx(MODELS, bind_refs=False, bind_backrefs=False):
        mapper = RowMapper(row_type)
        insert, select = mapper.insert(), mapper.select(order_by=mapper.table.id)
    given = []
    for values, with_null in ((most, False), (least, False), (least, True)):
        columns = {}
        for name in mapper.write_names:
            kinds = set(getattr(hints[name], "__args__", (hints[name],)))
            (kind,) = kinds - {type(None)}
            columns[name] = None if with_null and len(kinds) > 1 else values[kind]
        given.append(row_type(**columns))
    with of_models.write() as database:
        for row in given[:2]:
            insert.run(database, mapper.values(row))
        stored = mapper.all(select.run(database, {}))
        database.execute_sql(f"DELETE FROM {row_type.TABLE}")  # noqa: S608  # a table of ours
        insert.run(database, mapper.values(given[2]))
        (with_nulls,) = mapper.all(select.run(database, {}))
        database.execute_sql(f"DELETE FROM {row_type.TABLE}")  # noqa: S608  # a table of ours
    assert [dataclasses.replace(row, id=None) for row in stored] == given[:2]
    assert dataclasses.replace(with_nulls, id=None) == given[2]
