"""Fixtures of the fault tests. ``GATE_COUNTS=1`` raises the counts to what a release is judged by."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.small_vault import SmallVault, make_small_vault
from tests.forked_child import exit_code_of_child
from tests.servers.database_homes import DatabaseHome
from tests.servers.softhsm import hsm, hsm_bench, hsm_template

__all__ = ["exit_code_of_child", "hsm", "hsm_bench", "hsm_template"]


@pytest.fixture(scope="session")
def small_vault_template(database_home: DatabaseHome, tmp_path_factory: pytest.TempPathFactory) -> SmallVault:
    assert database_home
    return make_small_vault(tmp_path_factory.mktemp("template") / "data")


@pytest.fixture
def small_vault(small_vault_template: SmallVault, tmp_path: Path) -> SmallVault:
    """A fresh copy for each test."""
    return small_vault_template.copy_to(tmp_path / "data")
