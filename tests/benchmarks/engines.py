"""Creates and reads of the stores on each engine, against the engine's own driver writing the same rows, in one run.

    .venv/bin/python -m tests.benchmarks.engines [SECONDS]

Servers are started for it, with the settings of the tests (nothing is synced to disk, SQLite neither): this compares
statements and round trips, not disks.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from tests.conftest import find_free_port
from tests.contract.store_engines import (
    Bench,
    bench_over,
    collection,
    definition,
    entry,
    index,
    key_of,
    keyring,
    new_write,
    record,
)
from tests.servers.databases import ENGINES
from tests.servers.mariadb import running_mariadb
from tests.servers.postgresql import running_postgresql
from vault.storage.address import ServerAddress
from vault.storage.postgresql import _numbered
from vault.storage.record_transaction import RecordTransaction

FIELDS = ("email", "phone", "login")


def missing(what: str) -> NoReturn:
    raise SystemExit(f"{what} is missing")


@contextlib.contextmanager
def database(engine: str) -> Iterator[Path | ServerAddress]:
    if engine == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / "vault.db"
        return
    running: Any = {"postgresql": running_postgresql, "mariadb": running_mariadb}[engine]
    with running(find_free_port, missing) as server:
        yield server.new_database()


def write() -> Any:
    row = record()
    return new_write(row, *(index(row, row.token.hex()[:30], name=name) for name in FIELDS))


def rate(work: Callable[[], Any], seconds: float, threads: int) -> float:
    end = time.perf_counter() + seconds

    def loop(_: int) -> int:
        done = 0
        while time.perf_counter() < end:
            work()
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(loop, range(threads))) / seconds


def raw_create(bench: Bench) -> Callable[[], None]:
    """The same rows with the driver alone, in one ordinary transaction."""
    engine: Any = bench.stores.records._engine
    inside = RecordTransaction()

    def run() -> None:
        steps = [(text.sql, text.bind(values)) for text, values in inside.steps_of_create(write())]
        with engine.read() as opened:
            cursor = opened.connection().cursor()
            cursor.execute("BEGIN")
            for sql, values in steps:
                cursor.execute(sql if engine.place.startswith("mariadb") else _numbered(sql), values)
            cursor.execute("COMMIT")

    return run


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    for name in ENGINES:
        with database(name) as address, bench_over(address) as bench:
            if isinstance(address, Path):
                engine: Any = bench.stores.records._engine
                engine.database.execute_sql("PRAGMA synchronous = off")
            keyring().create(bench)
            bench.stores.collections.define(
                collection(), definition(), previous=None, entry=entry(), only_if_empty=False
            )
            store = bench.stores.records
            known = write()
            store.create(known)
            key = key_of(known.record)
            kinds: dict[str, Callable[[], Any]] = {
                "create": lambda store=store: store.create(write()),  # type: ignore[misc]
                "raw create": raw_create(bench),
                "read": lambda store=store, key=key: store.read_for(  # type: ignore[misc]
                    key, generation=None, entry_for=lambda *_: entry(action="record.read")
                ),
                "find": lambda store=store, key=key: store.find(key),  # type: ignore[misc]
            }
            for kind, work in kinds.items():
                for threads in (1, 4) if kind != "raw create" or name != "sqlite" else (1,):
                    print(f"{name:12}{kind:12}{threads} threads {rate(work, seconds, threads):10,.0f} / s")


if __name__ == "__main__":
    main()
