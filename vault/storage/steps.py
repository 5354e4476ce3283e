"""What upgrade steps are made of: each makes only what is not there.

MariaDB and MySQL commit with every change of a table, so a step that is cut off stays half done; the next run goes
through all of it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peewee import Database, sort_models
from playhouse.migrate import SchemaMigrator, migrate


def make_tables(database: Database, models: Sequence[Any]) -> None:
    """Make tables with their indexes, as the models say."""
    for model in sort_models(models):
        model._schema.create_table(safe=True)  # noqa: SLF001  # peewee's way to make a table without its indexes
        for index in model._meta.fields_to_index():  # noqa: SLF001  # the same
            make_index(database, model, index)


def make_index(database: Database, model: Any, index: Any) -> None:
    """Make one index."""
    columns = tuple(field.column_name for field in index._expressions)  # noqa: SLF001  # it has no public name
    there = {tuple(found.columns) for found in database.get_indexes(model._meta.table_name)}  # noqa: SLF001  # the same
    if columns not in there:
        database.execute(model._schema._create_index(index))  # noqa: SLF001  # the same


def add_columns(migrator: SchemaMigrator, table: str, columns: Mapping[str, Any]) -> None:
    """Add columns; in rows that are there they are NULL.

    Args:
        migrator: of the step.
        table: which table.
        columns: the type of each by name.
    """
    there = {column.name for column in migrator.database.get_columns(table)}
    for name, field in columns.items():
        if name not in there:
            migrate(migrator.add_column(table, name, field(null=True)))
