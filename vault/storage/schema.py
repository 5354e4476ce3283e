"""Schema upgrades: peewee's runner over the numbered files in ``upgrades/``, under our lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playhouse.migrations import Runner

from vault.core import rows
from vault.core.errors import MisconfiguredError
from vault.storage.engine import Engine
from vault.storage.tables import MODELS

UPGRADES = Path(__file__).parent / "upgrades"
HISTORY_TABLE = "schema_history"
UNFINISHED = "unfinished_transfer_"
"""Begins the name of a step that no release knows, so that none opens a database that a transfer has not filled yet."""


def upgrade(engine: Engine) -> list[str]:
    """Bring the database to this release's schema; return the names of the steps that ran.

    Raises:
        MisconfiguredError: the database is newer than this release.
    """
    # peewee's runner has no lock of its own: two of them at once would both run the same step.
    with engine.alone():
        refuse_newer(engine)
        steps: list[str] = _runner(engine).up()
    return steps


def pending(engine: Engine) -> list[str]:
    """Name the steps that have not run yet.

    Raises:
        MisconfiguredError: the database is newer than this release.
    """
    with engine.read():
        refuse_newer(engine)
        return steps_missing(engine)


def steps_missing(engine: Engine) -> list[str]:
    """Name the steps of this release that have not run, whatever else the database has seen."""
    with engine.read():
        return [step.name for step in _runner(engine).status() if not step.applied]


def refuse_newer(engine: Engine) -> None:
    """Stop if the database has seen an upgrade that this release does not know.

    Raises:
        MisconfiguredError: names the step and says what to do.
    """
    unknown = [step.name for step in _runner(engine).status() if step.path is None]
    if any(name.startswith(UNFINISHED) for name in unknown):
        raise _half_there(engine)
    if unknown:
        raise MisconfiguredError(
            f"The database {engine.place} was upgraded by a newer release of strongroom (step {unknown[-1]}). "
            "Install that release; this one does not touch the database."
        )


def unfinished_transfer(engine: Engine) -> int | None:
    """How many entries of the access log the source had, of a transfer into here that has not ended; None without one."""
    with engine.read():
        names = [step.name for step in _runner(engine).status() if step.name.startswith(UNFINISHED)]
    return int(names[0].removeprefix(UNFINISHED)) if names else None


def begin_transfer(engine: Engine, source_entries: int) -> None:
    """Mark the database as one that a transfer fills; inside of a transaction."""
    _runner(engine).History.create(name=f"{UNFINISHED}{source_entries}")


def end_transfer(engine: Engine) -> None:
    """Take the mark away: the database holds a vault."""
    history = _runner(engine).History
    with engine.write():
        history.delete().where(history.name.startswith(UNFINISHED)).execute()


def _half_there(engine: Engine) -> MisconfiguredError:
    return MisconfiguredError(
        f"{engine.place} is filled by a transfer that has not ended. Run the same `strongroom transfer` again, which goes "
        "on where it was; or empty the database."
    )


def holds_vault(engine: Engine) -> bool:
    """Whether a database holds a vault that was made to its end: the last thing that making one commits is its keys.

    Raises:
        MisconfiguredError: a transfer into it has not ended.
    """
    table = rows.KeyringRow.TABLE
    with engine.read() as database:
        if table not in database.get_tables():
            return False
        if unfinished_transfer(engine) is not None:
            raise _half_there(engine)
        return database.execute_sql(f"SELECT 1 FROM {table} LIMIT 1").fetchone() is not None  # noqa: S608  # our own name


def check_indexes(engine: Engine) -> None:
    """Compare the indexes that exist with those that this release counts on.

    Raises:
        MisconfiguredError: a unique index is missing, so that duplicates could get in unnoticed.
    """
    with engine.read() as database:
        for model in MODELS:
            name: Any = model._meta.table_name  # noqa: SLF001  # peewee's documented place for a model's names
            present = {(tuple(index.columns), index.unique) for index in database.get_indexes(name)}
            for columns, unique in model._meta.indexes:  # noqa: SLF001  # the same
                if (tuple(columns), unique) not in present:
                    raise MisconfiguredError(
                        f"The table {name} lacks its index over {', '.join(columns)}; "
                        "restore the database from a backup or run: strongroom database upgrade --apply"
                    )


def _runner(engine: Engine) -> Runner:
    return Runner(engine.database, directory=str(UPGRADES), table_name=HISTORY_TABLE)
