"""The kit on every provider of this release. A new backend is one more row."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from keyproviders import conformance
from keyproviders.conformance import SCRATCH_KEY, Hooks, Outcome, Report, Subject
from keyproviders.interface import ProviderSettings
from keyproviders.key_file_passphrase import Argon2Parameters, Passphrase
from keyproviders.registry import open_administration, open_provider
from keyproviders.transit_policies import PolicyKind
from tests.servers.kms_on_moto import SECRET, Moto
from tests.servers.openbao import TransitBench
from tests.servers.outage_proxy import Outage, OutageProxy

pytestmark = pytest.mark.filterwarnings("ignore::keyproviders.memory.InsecureProviderWarning")

IS_GATE = os.environ.get("GATE_COUNTS") == "1"
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

    ``run_time``: what the run-time door is opened with, if it is something else. ``left_out``: the checks that do not apply, by name. ``keeps``: how many versions it
    does not destroy at the end.
    """

    type_name: str
    settings: ProviderSettings
    secrets: tuple[bytes, ...] = ()
    run_time: ProviderSettings | None = None
    hooks: Hooks | None = None
    large_batch: int = 1000
    left_out: frozenset[str] = frozenset(_OUTAGES)
    keeps: int = 0


Make = Callable[[pytest.FixtureRequest, Path], Backend]


def memory(_: pytest.FixtureRequest, folder: Path) -> Backend:
    return Backend("memory", ProviderSettings(f"conformance{next(_numbers)}", {}, folder))


def file(_: pytest.FixtureRequest, folder: Path) -> Backend:
    return Backend("file", ProviderSettings("disk", {"path": "keys.json"}, folder))


def file_with_passphrase(request: pytest.FixtureRequest, folder: Path) -> Backend:
    # Every door derives its key anew, and the kit opens a hundred: with 64 MiB that is a minute.
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    quick = {"make": lambda salt: Argon2Parameters(salt, 64, 1, 1)}
    monkeypatch.setattr(Passphrase.__init__, "__kwdefaults__", quick)
    secret = folder / "passphrase"
    secret.touch(0o600)
    secret.write_text("correct horse battery staple")
    options = {"path": "keys.json", "passphrase": {"file": "passphrase"}}
    return Backend("file", ProviderSettings("disk", options, folder), (b"correct horse battery staple",))


def aws_kms_on_moto(request: pytest.FixtureRequest, _: Path) -> Backend:
    moto: Moto = request.getfixturevalue("moto")
    without = {"a disturbed provider finds its way back", "an expired credential is renewed"}
    settings = moto.settings()
    patient = dict(settings.options) | {"read_timeout_seconds": 30}  # moto makes a key slowly
    return Backend(
        "awskms",
        replace(settings, options=patient),
        (SECRET.encode(),),
        run_time=settings,
        hooks=moto.hooks(),
        large_batch=1000 if IS_GATE else 100,  # it loops, and moto is slow
        left_out=frozenset(without),
        keeps=2,
    )


def transit(request: pytest.FixtureRequest, _: Path) -> Backend:
    bench: TransitBench = request.getfixturevalue("transit")
    proxy = LyingProxy(request.getfixturevalue("free_port")(), bench.server.url, bench.server.ca)
    request.addfinalizer(proxy.close)
    runtime, admin = (bench.role(kind, SCRATCH_KEY) for kind in PolicyKind)
    settings = bench.settings(runtime, admin, url=proxy.url)
    options = {name: value for name, value in settings.options.items() if name != "ca"}

    def expire() -> None:
        status, _ = bench.server.request("POST", "sys/leases/revoke-prefix/auth/approle/login", {})
        assert status == 204

    return Backend(
        "transit",
        replace(settings, options=options),
        hooks=Hooks(
            seal=bench.server.seal,
            unseal=bench.server.unseal,
            expire_credential=expire,
            slow_down=lambda: proxy.begin(Outage.HANG),
            speed_up=proxy.end,
            lie=lambda: setattr(proxy, "is_lying", True),
            stop_lying=lambda: setattr(proxy, "is_lying", False),
        ),
        left_out=frozenset({"a disturbed provider finds its way back", "a blob of another key is rejected"}),
        keeps=1,
    )


class LyingProxy(OutageProxy):
    """Answers 200 and an object that says nothing."""

    is_lying = False

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        if self.is_lying:
            handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
            self._send(handler, 200, b"{}")
        else:
            super().answer(handler)


# The kit on a token: tests/faults/test_hsm_conformance.py. On a stranger's provider: tests/third_party/.
BACKENDS: tuple[Make, ...] = (memory, file, file_with_passphrase, transit, aws_kms_on_moto)


def run(backend: Backend) -> Report:
    run_time = replace(backend.run_time or backend.settings, admin={})
    return conformance.run(
        Subject(
            backend.settings.name,
            lambda: open_provider(backend.type_name, run_time),
            lambda: open_administration(backend.type_name, backend.settings),
            secrets=backend.secrets,
        ),
        hooks=backend.hooks,
        samples=20,
        large_batch=backend.large_batch,
    )


@pytest.mark.parametrize("make", BACKENDS, ids=lambda make: make.__name__)
def test_the_provider_passes(request: pytest.FixtureRequest, tmp_path: Path, make: Make) -> None:
    backend = make(request, tmp_path)
    report = run(backend)
    assert {each.name: each.reason for each in report.failed} == {}
    left_out = {each.name for each in report.results if each.outcome is Outcome.NOT_APPLICABLE}
    assert left_out == backend.left_out
    assert len(report.left_behind) == backend.keeps, report.left_behind
    print(report.as_json())  # noqa: T201  # pytest -rP shows it: the figures of this machine
