"""Creates and reads per second on each key provider, with and without the cache of data keys, in one run.

Prints figures and asserts nothing. Server, provider and load share the machine's cores, so a provider elsewhere does
better than these rates, and its network worse than these times. Needs wrk. Run: ./scripts/benchmark providers
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import urllib3
from serving import served, spread
from throughput import CONNECTIONS, ROUNDS, SECONDS, load, write_tokens

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.servers.key_homes import HOMES

CACHES = {"cache": "10000", "no cache": "0"}
MODES = ("create", "read")


def main() -> None:
    if shutil.which("wrk") is None:
        sys.exit("this benchmark needs wrk: apt-get install wrk")
    ports = iter(range(18_700, 18_800))
    rates: dict[tuple[str, str], list[float]] = {}
    times: dict[tuple[str, str], list[float]] = {}
    calls: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        servers = {}
        for kind, make in HOMES.items():
            (folder / kind).mkdir()
            home = stack.enter_context(make(folder / kind, lambda: next(ports), sys.exit))
            variables = home.provider("keys") | home.keyring("default", "keys")
            for cache, entries in CACHES.items():
                if kind == "file" and cache == "no cache":
                    continue  # a local provider has none
                place = folder / f"{kind}-{entries}"
                place.mkdir()
                more = {
                    "STRONGROOM_DATA_KEY_CACHE__MAX_ENTRIES": entries,
                    "STRONGROOM_DATA_KEY_CACHE__MAX_USES": "1000000",
                    "STRONGROOM_WORKER__WITH_SERVER": "false",
                }
                server = stack.enter_context(served(place, variables | more, home.admin("keys")))
                tokens = write_tokens(server.url, server.credential, place / "tokens")
                servers[kind if kind == "file" else f"{kind}, {cache}"] = (server, tokens)
        for number in range(ROUNDS + 1):
            for label, (server, tokens) in servers.items():
                for mode in MODES:
                    before = provider_calls(server.url)
                    rate, middle, _ = load(mode, server.url, server.credential, tokens, number)
                    if not number:
                        continue  # it warms the caches
                    key = (label, mode)
                    rates.setdefault(key, []).append(rate)
                    times.setdefault(key, []).append(middle)
                    made = provider_calls(server.url) - before
                    calls.setdefault(key, []).append(made / (rate * SECONDS))
    print(
        f"{ROUNDS} rounds of {SECONDS} s, 2 workers, wrk -c{CONNECTIONS}, reads of 1,000 records; medians (min-max):"
    )
    for label, mode in rates:
        key = (label, mode)
        print(
            f"  {label:18} {mode:6} {spread(rates[key]):>22}/s = {statistics.median(rates[key]) / statistics.median(rates['file', mode]):.2f} "
            f"of file; p50 {statistics.median(times[key]):5.1f} ms; {statistics.median(calls[key]):.2f} provider calls a request"
        )


def provider_calls(url: str) -> float:
    text = urllib3.request("GET", f"{url}/metrics").data.decode()
    return sum(values_of(text, "strongroom_provider_calls_total"))


def values_of(text: str, metric: str) -> Iterator[float]:
    for line in text.splitlines():
        if line.startswith(metric + "{"):
            yield float(line.rpartition(" ")[2])


if __name__ == "__main__":
    main()
