"""Making a vault: once, whoever else tries at the same moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vault import bootstrap
from vault.bootstrap import founding
from vault.config import load_configuration
from vault.core.errors import MisconfiguredError


def test_two_that_make_a_vault_at_one_moment_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = load_configuration(None, tmp_path / "data")
    fill = founding._fill
    refused = []

    def overtaken(*arguments: Any) -> Any:
        monkeypatch.setattr(founding, "_fill", fill)
        with pytest.raises(MisconfiguredError) as refusal:
            bootstrap.create_vault(configuration)
        refused.append(refusal.value)
        return fill(*arguments)

    monkeypatch.setattr(founding, "_fill", overtaken)
    credential = bootstrap.create_vault(configuration)

    assert len(refused) == 1
    vault = bootstrap.open_vault(configuration)
    try:
        assert vault.services.authentication.authenticate(credential.text)
    finally:
        vault.close()
