"""The benches that the store contracts run on, one per engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.store_engines import Bench, bench_over, collection, definition, entry, keyring
from tests.servers.databases import ENGINES, server_of
from tests.servers.openbao import openbao, transit
from tests.servers.softhsm import hsm, hsm_bench, hsm_template
from vault.storage.address import ServerAddress

__all__ = ["hsm", "hsm_bench", "hsm_template", "openbao", "transit"]

_addresses: dict[str, ServerAddress] = {}


@pytest.fixture(params=ENGINES)
def empty_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """An upgraded database without a row."""
    name = request.param
    address = tmp_path / "contract.db" if name == "sqlite" else _shared(request, name)
    with bench_over(address) as bench:
        yield bench


def _shared(request: pytest.FixtureRequest, name: str) -> ServerAddress:
    if name not in _addresses:
        _addresses[name] = server_of(request, name).new_database()
    return _addresses[name]


@pytest.fixture
def bench(empty_bench: Bench) -> Bench:
    """With a keyring (MAC key 1, index key 2) and the collection ``people``, so that records can be written."""
    keyring().create(empty_bench)
    empty_bench.stores.collections.define(
        collection(), definition(), previous=None, entry=entry(), only_if_empty=False
    )
    return empty_bench
