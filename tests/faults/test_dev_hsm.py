"""``scripts/dev-hsm``: a token to try, the configuration to paste, and nothing else removed than what it made."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from keyproviders.interface import ProviderSettings
from keyproviders.registry import open_administration
from tests.servers.softhsm import ROOT, require_softhsm


@pytest.fixture
def dev_hsm(
    tmp_path: Path, missing: Callable[[str], None]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    require_softhsm(missing)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "vault.cli.dev_hsm", *arguments],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_what_it_prints_works_and_is_printed_again(
    dev_hsm: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = dev_hsm()
    assert (made.returncode, made.stderr) == (0, "")
    folder = tmp_path / "strongroom-hsm"
    assert (folder / "pin").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    pin = (folder / "pin").read_text()
    assert pin not in made.stdout

    lines = [line.strip() for line in made.stdout.splitlines()]
    (export,) = [line for line in lines if line.startswith("export ")]
    monkeypatch.setenv("SOFTHSM2_CONF", export.partition("=")[2])
    table = tomllib.loads("\n".join(line for line in lines if " = " in line or line.startswith("[")))
    options = table["providers"]["hsm"]
    type_name = options.pop("type")
    door = open_administration(type_name, ProviderSettings("hsm", options, tmp_path))
    assert door.create("records") == 1
    door.close()

    again = dev_hsm()
    assert again.returncode == 0
    assert again.stdout.partition("\n")[2] == made.stdout.partition("\n")[2]
    assert (folder / "pin").read_text() == pin


def test_it_removes_what_it_made_and_nothing_else(
    dev_hsm: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert dev_hsm("--folder", "hsm").returncode == 0
    (tmp_path / "hsm" / "mine.txt").write_text("mine")
    refused = dev_hsm("--folder", "hsm", "--remove")
    assert refused.returncode == 1
    assert "left alone" in refused.stderr
    assert (tmp_path / "hsm" / "tokens").is_dir()
    (tmp_path / "hsm" / "mine.txt").unlink()
    assert dev_hsm("--folder", "hsm", "--remove").returncode == 0
    assert not (tmp_path / "hsm").exists()
    assert "nothing" in dev_hsm("--folder", "hsm", "--remove").stdout


def test_it_moves_in_with_nobody(
    dev_hsm: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter").write_text("dear")
    for arguments in (("--folder", "home"), ("--folder", "home", "--remove")):
        assert dev_hsm(*arguments).returncode == 1
    assert (tmp_path / "home" / "letter").read_text() == "dear"


def test_without_softhsm_it_says_how_to_get_it(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vault.cli.dev_hsm", "--folder", str(tmp_path / "hsm")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "apt-get install softhsm2" in done.stderr
    assert not (tmp_path / "hsm").exists()
