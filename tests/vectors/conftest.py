"""What the vector tests share: the vector files, and the second decoder loaded by its path."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def decoder() -> ModuleType:
    """The second, independent reader of the formats."""
    spec = importlib.util.spec_from_file_location("independent_decoder", HERE / "independent_decoder.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], list[dict[str, Any]]]:
    """Reads the vectors of one file: ``vectors("sealed-record")``."""

    def read(name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((HERE / f"{name}.json").read_text("ascii"))["vectors"]
        return found

    return read


@pytest.fixture
def decided(
    record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> Callable[[str, object], None]:
    """Says on the terminal and in the report how many vectors a test decided."""

    def tell(what: str, counts: object) -> None:
        record_property(what, counts)
        with capsys.disabled():
            print(f"\n{what}: {counts}")  # noqa: T201  # the count is meant to be seen

    return tell
