"""What the tests of the PKCS#11 provider know of a token: SoftHSM in a folder per test, and doors to it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
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
ROOT = Path(__file__).parents[2]

_WITH_DOORS = """
import json
from pathlib import Path
from keyproviders.interface import *
from keyproviders.registry import open_administration, open_provider
settings = ProviderSettings("hsm", json.loads({table!r}), Path({folder!r}))
provider, administration = open_provider("pkcs11", settings), open_administration("pkcs11", settings)
"""
_BY_HAND = """
import pkcs11
from pkcs11 import Attribute as A, KeyType as K, Mechanism as M, MechanismFlag as F, ObjectClass as O
from keyproviders.pkcs11_options import _library_folders
module = next(str(each / "libsofthsm2.so") for each in _library_folders() if (each / "libsofthsm2.so").exists())
session = pkcs11.lib(module).get_token(token_label={label!r}).open(user_pin={pin!r}, rw=True)
WELL = {{A.SENSITIVE: True, A.EXTRACTABLE: False, A.PRIVATE: True, A.MODIFIABLE: False}}
def make(label, purposes=F.ENCRYPT | F.DECRYPT, bits=256, key_type=K.AES, **changed):
    template = WELL | {{A[name]: value for name, value in changed.items()}}
    mechanism = M.GENERIC_SECRET_KEY_GEN if key_type is K.GENERIC_SECRET else None
    return session.generate_key(key_type, bits, label=label, store=True, capabilities=purposes, template=template,
                                mechanism=mechanism)
"""


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

    def elsewhere(self, code: str) -> str:
        """Run code in another process that has its own doors: ``provider`` and ``administration``; return its output."""
        table = json.dumps(dict(self.settings(pin={"file": str(self.hsm.pin)}).options))
        return self._run(_WITH_DOORS.format(table=table, folder=str(self.hsm.folder)) + code)

    def by_hand(self, code: str) -> str:
        """Run code in another process that has a bare session that may write: ``session``; return its output."""
        return self._run(_BY_HAND.format(label=LABEL, pin=PIN) + code)

    def _run(self, code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"SOFTHSM2_CONF": str(self.hsm.configuration)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()


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
    return made


@pytest.fixture
def hsm_bench(hsm: SoftHsm) -> Iterator[HsmBench]:
    """Doors to a token of its own."""
    made = HsmBench(hsm)
    yield made
    made.close()
