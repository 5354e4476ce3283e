"""The conformance kit asks a token everything that it asks any provider."""

from __future__ import annotations

from pathlib import Path

import pytest

from keyproviders.conformance import Hooks, Outcome, Subject, run
from keyproviders.pkcs11_runtime import Pkcs11KeyProvider
from tests.servers.softhsm import PIN, HsmBench


@pytest.mark.parametrize("algorithm", ["A256GCM", "A256KWP"])
def test_the_kit_finds_nothing(hsm_bench: HsmBench, algorithm: str) -> None:
    away = hsm_bench.hsm.folder / "away"
    doors: list[Pkcs11KeyProvider] = []

    def provider() -> Pkcs11KeyProvider:
        doors.append(hsm_bench.provider())
        return doors[-1]

    def move(source: Path, target: Path) -> None:
        source.rename(target)

    def log_out() -> None:
        doors[-1]._token._keeper.close()  # type: ignore[union-attr]  # logs out every session of the process

    hooks = Hooks(
        seal=lambda: move(hsm_bench.hsm.tokens, away),
        unseal=lambda: move(away, hsm_bench.hsm.tokens),
        disturb=log_out,
        expire_credential=log_out,
    )
    subject = Subject("hsm", provider, lambda: hsm_bench.administration(algorithm), secrets=(PIN.encode(),))
    report = run(subject, hooks=hooks)
    failed = [(each.name, each.reason) for each in report.results if each.outcome is Outcome.FAILED]
    assert failed == []
