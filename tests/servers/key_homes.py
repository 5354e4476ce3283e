"""Where a vault's keys are kept, as configuration by environment: what ``pytest --key-provider NAME`` changes, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from keyproviders.transit_policies import PolicyKind, policy
from tests.servers.openbao import start_openbao
from vault.cli.dev_hsm import MODULE, SoftHsm
from vault.cli.dev_openbao import OpenBao

KEY = "records"
_LABEL = "strongroom"
_MOUNT = "transit"

Variables = Mapping[str, str]


@contextlib.contextmanager
def transit_home(folder: Path, free_port: Callable[[], int]) -> Iterator[tuple[Variables, Variables]]:
    """A real OpenBao with both shipped policies; the variables of every process, and those of administration."""
    server = start_openbao(folder / "openbao", free_port)
    try:
        server.write(f"sys/mounts/{_MOUNT}", type="transit")
        server.write(f"{_MOUNT}/config/keys", disable_upsert=True)
        runtime = _approle(server, PolicyKind.RUNTIME, folder, "")
        administration = _approle(server, PolicyKind.ADMINISTRATION, folder, "ADMIN__")
        table = _table("transit", URL=server.url, CA=str(server.ca), MOUNT=_MOUNT)
        yield table | runtime, administration
    finally:
        server.stop()


def _approle(server: OpenBao, kind: PolicyKind, folder: Path, table: str) -> dict[str, str]:
    role_id, secret_id = server.make_role(kind.value, policy(kind, _MOUNT, KEY))
    secret = folder / f"{kind.value}-secret-id"
    secret.touch(0o600)
    secret.write_text(secret_id)
    start = f"STRONGROOM_PROVIDERS__KEYS__{table}AUTH__"
    return {
        f"{start}METHOD": "approle",
        f"{start}ROLE_ID": role_id,
        f"{start}SECRET_ID__FILE": str(secret),
    }


@contextlib.contextmanager
def pkcs11_home(folder: Path, _free_port: Callable[[], int]) -> Iterator[tuple[Variables, Variables]]:
    """A SoftHSM token; one PIN opens both doors."""
    hsm = SoftHsm(folder / "hsm")
    hsm.make("5207-pin-of-the-test")
    hsm.add_token(_LABEL)
    table = _table("pkcs11", MODULE=MODULE, TOKEN_LABEL=_LABEL, PIN__FILE=str(hsm.pin))
    yield table | {"SOFTHSM2_CONF": str(hsm.configuration)}, {}


def _table(kind: str, **options: str) -> dict[str, str]:
    start = "STRONGROOM_PROVIDERS__KEYS__"
    return {
        f"{start}TYPE": kind,
        "STRONGROOM_KEYRINGS__DEFAULT__PROVIDER": "keys",
        "STRONGROOM_KEYRINGS__DEFAULT__KEY": KEY,
    } | {start + name: value for name, value in options.items()}


HOMES = {"transit": transit_home, "pkcs11": pkcs11_home}
"""By the name that ``--key-provider`` takes; without it, keys are in a local file, as by default."""
