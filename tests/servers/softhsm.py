"""What the tests of the PKCS#11 provider know of a token: SoftHSM in a folder per test, and doors to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keyproviders.interface import ProviderSettings
from keyproviders.registry import open_administration, open_provider
from vault.cli.dev_hsm import MODULE, SoftHsm

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyproviders.pkcs11_administration import Pkcs11Administration
    from keyproviders.pkcs11_runtime import Pkcs11KeyProvider

LABEL = "contract"
KEY = "records"
PIN = "8431-pin-of-the-test"


@dataclass
class HsmBench:
    """A token of its own, and doors to it.

    Attributes:
        hsm: the folder with the token.
        opened: the doors, closed at the end.
    """

    hsm: SoftHsm
    opened: list[Any] = field(default_factory=list)

    def settings(self, admin: Mapping[str, object] | None = None, **options: object) -> ProviderSettings:
        """The table of a provider; ``name=None`` leaves an option out."""
        table: dict[str, object] = {"module": MODULE, "token_label": LABEL, "pin": {"file": "pin"}} | options
        return ProviderSettings(
            "hsm",
            {name: value for name, value in table.items() if value is not None},
            self.hsm.folder,
            admin or {},
        )

    def provider(self, **options: object) -> Pkcs11KeyProvider:
        door = open_provider("pkcs11", self.settings(**options))
        self.opened.append(door)
        return door  # type: ignore[return-value]  # the registry gives what the type opens

    def administration(self, algorithm: str = "auto", **options: object) -> Pkcs11Administration:
        door = open_administration("pkcs11", self.settings({"algorithm": algorithm}, **options))
        self.opened.append(door)
        return door  # type: ignore[return-value]  # the registry gives what the type opens

    def close(self) -> None:
        for door in self.opened:
            door.close()


def require_softhsm(missing: Callable[[str], None]) -> None:
    """Skip, or fail in CI, without SoftHSM."""
    if shutil.which("softhsm2-util") is None:
        missing("SoftHSM (Debian package softhsm2)")


@pytest.fixture(scope="session")
def hsm_template(missing: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> SoftHsm:
    """A folder with one token, to be copied."""
    require_softhsm(missing)
    hsm = SoftHsm(tmp_path_factory.mktemp("hsm") / "template")
    hsm.make(PIN)
    hsm.add_token(LABEL)
    return hsm


@pytest.fixture
def hsm(hsm_template: SoftHsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SoftHsm:
    """A token of its own, that the library of this process finds."""
    made = SoftHsm(tmp_path / "hsm")
    made.make(PIN)
    shutil.copytree(hsm_template.tokens, made.tokens, dirs_exist_ok=True)
    shutil.copy(hsm_template.folder / "so-pin", made.folder / "so-pin")
    # The library reads it each time it starts; a test's last door that closes ends it.
    monkeypatch.setenv("SOFTHSM2_CONF", str(made.configuration))
    assert os.environ["SOFTHSM2_CONF"]
    return made


@pytest.fixture
def hsm_bench(hsm: SoftHsm) -> Iterator[HsmBench]:
    """Doors to a token of its own."""
    made = HsmBench(hsm)
    yield made
    made.close()
