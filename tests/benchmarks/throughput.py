"""Creates and reads per second over HTTP, beside this machine's raw SQLite transaction, in one run.

Prints figures and ratios and asserts nothing: speed depends on the machine. Rounds are interleaved, medians printed.
Needs wrk (Debian: apt-get install wrk). Run: ./scripts/benchmark
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from serving import served, spread

import strongroom

ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = int(os.environ.get("SECONDS_EACH", "4"))
CONNECTIONS = 16
HERE = Path(__file__).parent


def main() -> None:
    if shutil.which("wrk") is None:
        sys.exit("this benchmark needs wrk: apt-get install wrk")
    results: dict[str, list[float]] = {"raw": [], "create": [], "read": []}
    latencies: dict[str, list[tuple[float, float]]] = {"create": [], "read": []}
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as server:
        url = server.url
        credential = Path(folder) / "credential"
        tokens = write_tokens(url, credential, Path(folder) / "tokens")
        for number in range(ROUNDS):
            results["raw"].append(raw_transactions(Path(folder)))
            for mode in ("create", "read"):
                rate, middle, slow = load(mode, url, credential, tokens, number)
                results[mode].append(rate)
                latencies[mode].append((middle, slow))
    raw = statistics.median(results["raw"])
    print(f"{ROUNDS} rounds of {SECONDS} s, 2 workers, wrk -c{CONNECTIONS}, medians (min-max):")
    print(f"  raw SQLite transaction (record + 3 index rows + entry, FULL): {spread(results['raw'])}/s")
    for mode in ("create", "read"):
        rate = statistics.median(results[mode])
        middle = statistics.median(pair[0] for pair in latencies[mode])
        slow = statistics.median(pair[1] for pair in latencies[mode])
        print(
            f"  {mode}: {spread(results[mode])}/s = {rate / raw:.2f} of raw; p50 {middle:.1f} ms, p99 {slow:.1f} ms"
        )


def write_tokens(url: str, credential: Path, path: Path) -> Path:
    with strongroom.Client(url, credential_file=credential) as client:
        tokens = [
            str(
                client.create(
                    "users", {"email": f"reader{i}@example.com", "name": "Ada", "street": "x" * 500}
                ).token
            )
            for i in range(1000)
        ]
    path.write_text("\n".join(tokens) + "\n")
    return path


def load(mode: str, url: str, credential: Path, tokens: Path, number: int) -> tuple[float, float, float]:
    environment = os.environ | {
        "MODE": mode,
        "CREDENTIAL": str(credential),
        "TOKENS": str(tokens),
        "ROUND": str(number),
    }
    command = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{SECONDS}s",
        "--latency",
        "-s",
        str(HERE / "load.lua"),
        url,
    ]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    (line,) = [line for line in output.splitlines() if line.startswith("RESULT")]
    _, rate, requests, errors, middle, slow = line.split()
    if int(errors):
        print(f"  {mode}: {errors} of {requests} requests failed", file=sys.stderr)
    return float(rate), float(middle), float(slow)


def raw_transactions(folder: Path) -> float:
    """The same rows in one process without HTTP, encryption or Python in between: the ceiling of this disk."""
    path = folder / "raw.db"
    path.unlink(missing_ok=True)
    database = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=wal", "synchronous=full", "secure_delete=on"):
        database.execute(f"PRAGMA {pragma}")
    database.execute(
        "CREATE TABLE record (id INTEGER PRIMARY KEY, token BLOB UNIQUE, wrapped BLOB, sealed BLOB, mac BLOB)"
    )
    database.execute("CREATE TABLE entry (id INTEGER PRIMARY KEY, tag BLOB UNIQUE, token BLOB, mac BLOB)")
    database.execute(
        "CREATE TABLE audit (id INTEGER PRIMARY KEY, entry BLOB UNIQUE, canonical BLOB, mac BLOB)"
    )
    done, end = 0, time.monotonic() + SECONDS
    while time.monotonic() < end:
        noise = os.urandom(16 + 32 * 3)
        database.execute("BEGIN IMMEDIATE")
        database.execute(
            "INSERT INTO record VALUES (NULL, ?, ?, ?, ?)", (noise[:16], bytes(40), bytes(760), bytes(32))
        )
        for start in (16, 48, 80):
            database.execute(
                "INSERT INTO entry VALUES (NULL, ?, ?, ?)", (noise[start : start + 32], noise[:16], bytes(32))
            )
        database.execute("INSERT INTO audit VALUES (NULL, ?, ?, ?)", (noise[:16], bytes(500), bytes(32)))
        database.execute("COMMIT")
        done += 1
    database.close()
    return done / SECONDS


if __name__ == "__main__":
    main()
