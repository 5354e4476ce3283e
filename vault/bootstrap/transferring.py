"""Moving a vault from one database to another: both are opened and kept from others, and the copy is made and compared."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vault.bootstrap.databases import open_database
from vault.bootstrap.serving import only_server
from vault.config import Configuration
from vault.core.clock import system_clock
from vault.core.errors import MisconfiguredError
from vault.storage.engine import Engine
from vault.storage.transfer import Comparison, Transfer, check_source

_SAME_SCHEME = {"mysql": "mariadb"}


@dataclass(frozen=True, slots=True)
class Watcher:
    """Who is told how far it is.

    Attributes:
        begins: how many rows there are, before the first is copied.
        copied: how many more rows are in the target.
        compared: how many more rows were compared.
    """

    begins: Callable[[int], object]
    copied: Callable[[int], object]
    compared: Callable[[int], object]


def is_same_database(one: Configuration, other: Configuration) -> bool:
    """Whether two configurations name the same database, as far as their words say."""
    return _identity(one) == _identity(other)


def transfer(source: Configuration, target: Configuration, watcher: Watcher) -> list[Comparison]:
    """Copy a vault, or go on with that, and open the target for servers if both sides are the same in the end.

    Args:
        source: where the vault is; nothing changes there.
        target: where it goes.
        watcher: is told how far it is.

    Returns:
        Each table on both sides. If one differs, the target stays closed.

    Raises:
        MisconfiguredError: a sentence that says what is in the way and what to do.
        UnavailableError: a database cannot go on just now; the same transfer goes on later.
        IntegrityError: a row of the source holds what no vault writes.
    """
    if not source.has_database_server and not source.database_path.is_file():
        raise MisconfiguredError(f"There is no vault at {source.database_place}.")
    with _opened(source) as source_engine:
        # Before anything is made: whatever is wrong with the source leaves no trace of the target.
        check_source(source_engine, system_clock())
        if not target.has_database_server:
            target.database_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _opened(target) as target_engine:
            return _carry_out(Transfer(source_engine, target_engine), source_engine, target_engine, watcher)


def _carry_out(whole: Transfer, source: Engine, target: Engine, watcher: Watcher) -> list[Comparison]:
    whole.check_target()
    # For SQLite this is the turn of its writers: nobody can write to it. On servers others are only seen.
    with source.alone(), target.reserved():
        whole.check_target()
        watcher.begins(whole.count())
        whole.copy(watcher.copied)
        comparisons = list(whole.compare(watcher.compared))
        if all(each.is_same for each in comparisons):
            whole.finish(system_clock())
    return comparisons


@contextmanager
def _opened(configuration: Configuration) -> Iterator[Engine]:
    with only_server(configuration):
        engine = open_database(configuration)
        try:
            yield engine
        finally:
            engine.close()


def _identity(configuration: Configuration) -> object:
    database = configuration.settings.database
    if not database.is_server:
        return os.path.realpath(configuration.database_path)
    scheme = _SAME_SCHEME.get(database.scheme, database.scheme)
    return scheme, database.hosts, database.socket, database.name
