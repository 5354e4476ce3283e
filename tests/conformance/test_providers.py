"""The kit on every provider of this release. A new backend is one more row."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from keyproviders import conformance
from keyproviders.conformance import Hooks, Outcome, Report, Subject
from keyproviders.interface import ProviderSettings
from keyproviders.registry import open_administration, open_provider
from tests.servers.kms_on_moto import SECRET, Moto

pytestmark = pytest.mark.filterwarnings("ignore::keyproviders.memory.InsecureProviderWarning")

_numbers = itertools.count(1)
_OUTAGES = {
    "a disturbed provider finds its way back",
    "a sealed provider says try later, and recovers",
    "an expired credential is renewed",
    "a slow provider is given up in time",
    "a lying provider is not believed",
}


@dataclass(frozen=True)
class Backend:
    """A provider to ask, and what is known of it beforehand.

    ``left_out``: the checks that do not apply, by name. ``keeps_newest``: it does not destroy the newest version.
    """

    type_name: str
    settings: ProviderSettings
    secrets: tuple[bytes, ...] = ()
    hooks: Hooks | None = None
    left_out: frozenset[str] = frozenset(_OUTAGES)
    keeps_newest: bool = False


Make = Callable[[pytest.FixtureRequest, Path], Backend]


def memory(_: pytest.FixtureRequest, folder: Path) -> Backend:
    return Backend("memory", ProviderSettings(f"conformance{next(_numbers)}", {}, folder))


def file(_: pytest.FixtureRequest, folder: Path) -> Backend:
    return Backend("file", ProviderSettings("disk", {"path": "keys.json"}, folder))


def aws_kms_on_moto(request: pytest.FixtureRequest, _: Path) -> Backend:
    moto: Moto = request.getfixturevalue("moto")
    without = {"a disturbed provider finds its way back", "an expired credential is renewed"}
    return Backend(
        "awskms",
        moto.settings(read_timeout_seconds=1),
        (SECRET.encode(),),
        moto.hooks(),
        frozenset(without),
        keeps_newest=True,
    )


BACKENDS: tuple[Make, ...] = (memory, file, aws_kms_on_moto)


def run(backend: Backend, **options: int) -> Report:
    return conformance.run(
        Subject(
            backend.settings.name,
            lambda: open_provider(backend.type_name, backend.settings),
            lambda: open_administration(backend.type_name, backend.settings),
            secrets=backend.secrets,
        ),
        hooks=backend.hooks,
        **options,
    )


@pytest.mark.parametrize("make", BACKENDS, ids=lambda make: make.__name__)
def test_the_provider_passes(request: pytest.FixtureRequest, tmp_path: Path, make: Make) -> None:
    backend = make(request, tmp_path)
    report = run(backend, samples=20)
    assert {each.name: each.reason for each in report.failed} == {}
    left_out = {each.name for each in report.results if each.outcome is Outcome.NOT_APPLICABLE}
    assert left_out == backend.left_out
    assert len(report.left_behind) == (2 if backend.keeps_newest else 0), report.left_behind
    print(report.as_json())  # noqa: T201  # pytest -rP shows it: the figures of this machine
