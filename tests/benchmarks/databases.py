"""Creates and reads per second over HTTP on each engine, beside that engine's own raw transaction, in one run.

Prints figures and asserts nothing. Every engine waits for its disk at each commit. Raw is the engine's driver alone: the
rows of a create (record, three index rows, entry) made beforehand, written in one transaction over 16 connections of two
processes; on SQLite, which has one writer, over one. A raw read gets a row and writes an entry. Database, server and load
share the machine's cores. Rounds are interleaved, medians printed. Needs wrk. Run: ./scripts/benchmark databases
"""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serving import Served, served, spread
from throughput import CONNECTIONS, ROUNDS, SECONDS, load, write_tokens

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.contract.store_engines import (
    bench_over,
    collection,
    definition,
    entry,
    index,
    keyring,
    new_write,
    record,
)
from tests.servers.database_homes import section_of, variables
from tests.servers.mariadb import PASSWORD, running_mariadb
from tests.servers.postgresql import running_postgresql
from vault.storage.address import ServerAddress
from vault.storage.opening import open_engine
from vault.storage.record_transaction import RecordTransaction
from vault.storage.stores import open_stores

FIELDS = ("email", "name", "phone")
PROCESSES = 2
MOST_A_SECOND = 3_000
"""Raw transactions that are made ready for each second and process."""
MODES = ("create", "read")
_ports = iter(range(18_800, 18_900))
Steps = list[tuple[str, Any]]


@dataclass(frozen=True)
class Home:
    """One engine: a served vault, and beside it another database for raw transactions.

    Attributes:
        connect: opens a connection to that database with the driver alone.
        marker: of parameters, for that driver.
        connections: how many each process has.
        beside: where that other database is.
    """

    server: Served
    tokens: Path
    connect: Any
    marker: str
    processes: int
    connections: int
    beside: Path | ServerAddress


def main() -> None:
    if shutil.which("wrk") is None:
        sys.exit("this benchmark needs wrk: apt-get install wrk")
    rates: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        homes = {name: make(stack, Path(folder) / name) for name, make in MAKERS.items()}
        for number in range(ROUNDS + 1):
            for name, home in homes.items():
                for mode in MODES:
                    served_rate = load(mode, home.server.url, home.server.credential, home.tokens, number)[0]
                    raw_rate = raw(home, mode)
                    if number:  # the first round warms up
                        rates.setdefault((name, mode), []).append(served_rate)
                        rates.setdefault((name, f"raw {mode}"), []).append(raw_rate)
    print(
        f"{ROUNDS} rounds of {SECONDS} s, 2 workers, wrk -c{CONNECTIONS}, durable, medians (min-max) a second:"
    )
    for name in homes:
        for mode in MODES:
            ratio = statistics.median(rates[name, mode]) / statistics.median(rates[name, f"raw {mode}"])
            print(
                f"  {name:11} {mode:7} {spread(rates[name, mode]):>22}   raw {spread(rates[name, f'raw {mode}']):>24}   "
                f"{ratio:.2f} of raw"
            )


def sqlite(stack: ExitStack, folder: Path) -> Home:
    folder.mkdir()
    path = folder / "raw.db"
    make_ready(path)

    def connect() -> Any:
        opened = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        for pragma in ("synchronous=full", "secure_delete=on"):
            opened.execute(f"PRAGMA {pragma}")
        return opened

    return home(stack, folder, {}, connect, "?", 1, 1, path)


def server_home(stack: ExitStack, folder: Path, running: Any) -> Home:
    folder.mkdir()
    server = stack.enter_context(running(lambda: next(_ports), sys.exit, durable=True))
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text(PASSWORD)
    beside = server.new_database()
    make_ready(beside)
    return home(
        stack,
        folder,
        variables(section_of(server.new_database(), secret)),
        lambda: server.administrator(beside.database),
        "%s",
        PROCESSES,
        CONNECTIONS // PROCESSES,
        beside,
    )


def home(stack: ExitStack, folder: Path, environment: dict[str, str], *raw_options: Any) -> Home:
    server = stack.enter_context(served(folder, environment))
    return Home(server, write_tokens(server.url, server.credential, folder / "tokens"), *raw_options)


MAKERS: dict[str, Any] = {
    "sqlite": sqlite,
    "postgresql": lambda stack, folder: server_home(stack, folder, running_postgresql),
    "mariadb": lambda stack, folder: server_home(stack, folder, running_mariadb),
}


def make_ready(address: Any) -> None:
    with bench_over(address) as bench:
        keyring().create(bench)
        bench.stores.collections.define(
            collection(), definition(), previous=None, entry=entry(), only_if_empty=False
        )


def ready_steps(mode: str, count: int, marker: str, address: Path | ServerAddress) -> list[Steps]:
    """Statements and values, of about the sizes that the served vault writes."""
    with closing(open_engine(address)) as engine:
        open_stores(engine)  # from now on statements are made for this engine
        inside = RecordTransaction()
    made = []
    for _ in range(count):
        row = replace(record(), sealed_document=bytes(760))
        told = replace(entry(), canonical=bytes(500))
        names = [index(row, row.token.hex()[:30], name=name) for name in FIELDS]
        written = replace(new_write(row, *names), entry=told)
        steps: Steps = [
            (text.sql, text.bind(values))
            for text, values in inside.steps_of_create(written)
            # Of the engine's own transaction, not what we look up and lock before.
            if text.sql.startswith("INSERT")
        ]
        if mode == "read":
            read = (
                "SELECT wrapped_dek, sealed_document, mac FROM record "  # noqa: S608  # our own
                f"WHERE tenant = {marker} AND collection = {marker} AND token = {marker}"
            )
            steps = [
                (read, (row.tenant, row.collection, row.token)),
                *(step for step in steps if "audit_entry" in step[0]),
            ]
        made.append(steps)
    return made


def raw(home: Home, mode: str) -> float:
    """Transactions a second of all processes together."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    start = context.Barrier(home.processes)
    workers = [
        context.Process(target=raw_process, args=(home, mode, start, results)) for _ in range(home.processes)
    ]
    for worker in workers:
        worker.start()
    total = sum(results.get() for _ in workers)
    for worker in workers:
        worker.join()
    return float(total)


def raw_process(home: Home, mode: str, start: Any, results: Any) -> None:
    ready = ready_steps(mode, MOST_A_SECOND * SECONDS, home.marker, home.beside)
    taking = threading.Lock()
    opened = [home.connect() for _ in range(home.connections)]
    start.wait()
    began = time.monotonic()
    end = began + SECONDS

    def run(connection: Any) -> int:
        cursor, done = connection.cursor(), 0
        while time.monotonic() < end:
            with taking:
                if not ready:
                    break
                steps = ready.pop()
            cursor.execute("BEGIN")
            for sql, values in steps:
                cursor.execute(sql, values)
                if sql.startswith("SELECT"):
                    cursor.fetchall()
            cursor.execute("COMMIT")
            done += 1
        return done

    done = 0
    try:
        with ThreadPoolExecutor(len(opened)) as pool:
            done = sum(pool.map(run, opened))
    finally:  # whoever waits for a figure gets one
        results.put(done / (time.monotonic() - began))


if __name__ == "__main__":
    main()
