"""What runs again when an engine loses a transaction: every method of a store that begins one, and all of it."""

from __future__ import annotations

import dataclasses
import inspect
from typing import get_type_hints

import pytest

from vault.core.errors import UnavailableError
from vault.storage.engine import TransactionLostError, whole
from vault.storage.stores import Stores

STORES = [get_type_hints(Stores)[field.name] for field in dataclasses.fields(Stores)]
# A generator is read while its caller works: it cannot begin anew.
GENERATORS = {"SqlInspector.rows"}


@pytest.mark.parametrize("store", STORES, ids=lambda store: store.__name__)
def test_every_operation_of_a_store_is_whole(store: type) -> None:
    found = 0
    for name, method in inspect.getmembers(store, inspect.isfunction):
        if name.startswith("_") or "self._engine" not in inspect.getsource(method):
            continue
        found += 1
        if f"{store.__name__}.{name}" not in GENERATORS:
            assert hasattr(method, "__wrapped__"), name
    assert found


class Engine:
    def again(self, run: object) -> object:
        assert callable(run)
        try:
            return run()
        except TransactionLostError:
            return run()


class Store:
    _engine = Engine()

    def __init__(self) -> None:
        self.given: list[object] = []

    @whole
    def write(self, value: object, *, more: object) -> str:
        """Store it."""
        self.given.append((value, more))
        if len(self.given) == 1:
            raise TransactionLostError("lost", code="store-unavailable")
        return "stored"


def test_it_runs_again_with_the_same_values() -> None:
    store = Store()
    value = object()
    assert store.write(value, more=b"bytes") == "stored"  # type: ignore[misc]
    assert store.given == [(value, b"bytes")] * 2
    assert Store.write.__doc__ == "Store it."
    assert issubclass(TransactionLostError, UnavailableError)
