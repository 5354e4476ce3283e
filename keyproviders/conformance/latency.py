"""How long the four calls take: one item a call, one after the other, on a warm door."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from keyproviders.conformance.bench import CONTEXT, Bench, at, good
from keyproviders.conformance.report import Latency
from keyproviders.interface import ItemResult, SecretBytes, WrapItem

__all__ = ["measure"]

# A key that was changed a moment ago may be looked at anew by each call. That is no figure of daily work.
_SETTLING_SECONDS = 0.25


def measure(bench: Bench, *, samples: int) -> dict[str, Latency]:
    """Time ``generate``, ``wrap``, ``unwrap`` and ``rewrap`` under the newest version.

    Raises:
        KeyProviderError: the provider does not work.
    """
    provider = bench.provider()
    version = bench.newest(provider)
    item = at(bench.data_key(provider, version).wrapped)
    time.sleep(_SETTLING_SECONDS)
    plaintext = WrapItem(SecretBytes(os.urandom(32)), CONTEXT)
    return {
        "generate": _timed(lambda: provider.generate(bench.key, version, [CONTEXT]), samples),
        "wrap": _timed(lambda: provider.wrap(bench.key, version, [plaintext]), samples),
        "unwrap": _timed(lambda: provider.unwrap([item]), samples),
        "rewrap": _timed(lambda: provider.rewrap([item], version), samples),
    }


def _timed(call: Callable[[], Sequence[ItemResult[object]]], samples: int) -> Latency:
    taken = []
    call()  # the first one opens connections
    for _ in range(samples):
        start = time.perf_counter()
        (result,) = call()
        taken.append(time.perf_counter() - start)
        good(result)
    return Latency.of(taken)
