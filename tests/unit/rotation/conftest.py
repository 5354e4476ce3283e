"""A whole vault over SQLite whose records can be made in the past, so that they are expired now."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.small_vault import SmallVault, make_empty_vault, store
from tests.servers.databases import mariadb, postgresql
from vault import bootstrap
from vault.bootstrap import Vault
from vault.core.clock import system_clock

__all__ = ["mariadb", "postgresql"]

HOUR = 3600 * 1_000_000


@pytest.fixture(scope="session")
def empty_template(tmp_path_factory: pytest.TempPathFactory) -> SmallVault:
    return make_empty_vault(tmp_path_factory.mktemp("rotation") / "data", history=2)


@pytest.fixture
def made(empty_template: SmallVault, tmp_path: Path) -> SmallVault:
    return empty_template.copy_to(tmp_path / "data")


@pytest.fixture
def vault(made: SmallVault) -> Iterator[Vault]:
    with made.opened() as opened:
        opened.engine.database.execute_sql("PRAGMA synchronous = off")
        yield opened


class Past:
    """A vault whose clock is an hour behind."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def store(self, number: int, *, minutes_ago: int = 30) -> bytes:
        """Store a record that expired so many minutes ago."""
        expires_at = system_clock() - minutes_ago * HOUR // 60
        data = {"email": f"r{number}@example.org", "city": "Rome", "note": f"note {number}"}
        return store(self._vault, data, expires_at=expires_at).token


@pytest.fixture
def past(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> Past:
    with monkeypatch.context() as patch:
        patch.setattr("vault.bootstrap.opening.system_clock", lambda: system_clock() - HOUR)
        behind = bootstrap.assemble(vault.engine, vault.stores, dict(vault.keyrings._providers))
    return Past(behind)
