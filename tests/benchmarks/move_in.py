"""Moving in: records per second of single creates, batches and the import command, in one run, with peak memory.

Prints figures and ratios and asserts nothing: speed depends on the machine. Rounds are interleaved, medians printed.
Run: ./scripts/benchmark move-in
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from serving import COMMAND, Served, served, spread

from strongroom import Client, Create

ROUNDS = int(os.environ.get("ROUNDS", "3"))
RECORDS = int(os.environ.get("RECORDS", "4000"))
THREADS = 4
BATCHES = (100, 500, 1000)


class People:
    """Documents of about 700 bytes, no two with an equal e-mail address, phone number or login."""

    def __init__(self) -> None:
        self._next = 0
        self._filler = random.Random(1)

    def some(self, count: int) -> list[dict[str, Any]]:
        start, self._next = self._next, self._next + count
        return [
            {
                "email": f"person{number}@example.com",
                "phone": f"+4930{20_000_000 + number}",
                "login": f"person{number}",
                "notes": self._filler.randbytes(280).hex(),
            }
            for number in range(start, start + count)
        ]


def main() -> None:
    people = People()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as server:
        with Client(server.url, credential_file=server.credential, timeout_seconds=60) as client:
            ways: dict[str, Callable[[], float]] = {
                f"single creates, {THREADS} threads": lambda: singly(client, people),
                **{
                    f"batches of {size}, {THREADS} threads": lambda size=size: in_batches(
                        client, people, size
                    )  # type: ignore[misc]
                    for size in BATCHES
                },
            }
            rates: dict[str, list[float]] = {name: [] for name in ways}
            imports: list[float] = []
            memory = 0.0
            for number in range(ROUNDS):
                for name, way in ways.items():
                    rates[name].append(way())
                rate, peak = imported(server, people, Path(folder) / f"people{number}.jsonl")
                imports.append(rate)
                memory = max(memory, peak)
        rates["strongroom records import"] = imports
        single = statistics.median(rates[next(iter(rates))])
        print(f"{ROUNDS} rounds of {RECORDS:,} records, 2 workers, medians (min-max) in records per second:")
        for name, values in rates.items():
            print(f"  {name}: {spread(values)} = {statistics.median(values) / single:.1f} x single")
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"peak memory: server process {server.peak_memory():.0f} MiB, import command {memory:.0f} MiB, "
            f"this client {own:.0f} MiB"
        )


def singly(client: Client, people: People) -> float:
    documents = people.some(RECORDS // 4)  # a quarter, so that a round does not take for ever
    with ThreadPoolExecutor(THREADS) as pool:
        start = time.perf_counter()
        list(pool.map(lambda document: client.create("users", document), documents))
        return len(documents) / (time.perf_counter() - start)


def in_batches(client: Client, people: People, size: int) -> float:
    documents = people.some(RECORDS)
    batches = [[Create(each) for each in documents[at : at + size]] for at in range(0, RECORDS, size)]
    with ThreadPoolExecutor(THREADS) as pool:
        start = time.perf_counter()
        results = list(pool.map(lambda batch: client.bulk("users", batch), batches))
        seconds = time.perf_counter() - start
    refused = sum(result.failed for result in results)
    if refused:
        print(f"  {refused} records were refused")
    return RECORDS / seconds


def imported(server: Served, people: People, path: Path) -> tuple[float, float]:
    """Records per second of the command, its start included, and its peak memory in MiB."""
    path.write_text("".join(json.dumps(each) + "\n" for each in people.some(RECORDS)))
    command = [*COMMAND, "records", "import", str(path), "--server", server.url]
    command += ["--credential-file", str(server.credential), "--json"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        print(f"  the import ended with exit code {process.returncode}")
    return RECORDS / (time.perf_counter() - start), usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
