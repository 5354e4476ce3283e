"""A provider of somebody else, built as a wheel and installed into an environment of its own, by the book."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).with_name("acme_strongroom")
COMMAND = "from vault.cli.keys_conformance import command; command()"
CONFIGURATION = """
[providers.cloud]
type = "acme"
folder = "keys"

[keyrings.default]
provider = "cloud"
key = "records"
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that has the wheel, and borrows Strongroom and its dependencies from this one."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    found = folder / "bin" / "python"
    install = [found, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (packages,) = folder.glob("lib/python*/site-packages")
    borrowed = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (packages / "borrowed.pth").write_text("\n".join(dict.fromkeys(borrowed)) + "\n")
    return found


@pytest.fixture
def run(python: Path, tmp_path: Path) -> Run:
    (tmp_path / "strongroom.toml").write_text(CONFIGURATION)

    def conformance(*arguments: str | Path, code: str = COMMAND) -> subprocess.CompletedProcess[str]:
        fixed = ["--config", tmp_path / "strongroom.toml", "--provider", "cloud"]
        return subprocess.run(
            [python, "-P", "-c", code, *fixed, *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return conformance


def test_the_wheel_holds_one_module_and_its_entry_point(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if ".dist-info/" not in name] == ["acme_strongroom.py"]


def test_it_knows_of_strongroom_only_what_the_page_says() -> None:
    source = (SOURCE / "acme_strongroom.py").read_text()
    used = {line.split()[1] for line in source.splitlines() if line.startswith("from keyproviders")}
    assert used == {f"keyproviders.{each}" for each in ("canary", "errors", "interface", "options")}
    assert "vault" not in source
    page = (ROOT / "docs" / "providers" / "write-your-own.md").read_text()
    assert all(module in page for module in used)


def test_it_is_conformant_by_configuration_alone(run: Run, tmp_path: Path) -> None:
    done = run("--report", tmp_path / "report.json", "--samples", "5")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed, 5 not applicable." in done.stdout
    assert "binds contexts yes" in done.stdout
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["conformant"] is True
    assert document["left_behind"] == []
    outcomes = {each["name"]: each["outcome"] for each in document["results"]}
    assert outcomes["another context is refused where it is bound"] == "ok"
    assert list(outcomes.values()).count("ok") > 30


def test_what_it_does_wrong_is_found_and_named(run: Run, tmp_path: Path) -> None:
    """The same provider with one line spoilt: it opens blobs whatever their context."""
    packages = tmp_path / "spoilt"
    packages.mkdir()
    source = (SOURCE / "acme_strongroom.py").read_text()
    spoilt = source.replace("item.plaintext.reveal(), item.context)", "item.plaintext.reveal(), b'')")
    spoilt = spoilt.replace("decrypt(nonce, sealed, item.context)", "decrypt(nonce, sealed, b'')")
    assert len(source) - len(spoilt) == 2 * len("item.context") - 2 * len("b''")
    (packages / "acme_strongroom.py").write_text(spoilt)
    code = f"import sys; sys.path.insert(0, {str(packages)!r}); {COMMAND}"
    done = run("--json", "--samples", "0", code=code)
    assert done.returncode == 3, done.stdout + done.stderr
    failed = [each["name"] for each in json.loads(done.stdout)["results"] if each["outcome"] == "failed"]
    assert failed == ["another context is refused where it is bound"]


def test_without_the_right_to_make_keys_an_existing_one_is_used(run: Run, tmp_path: Path) -> None:
    assert run("--use-only").returncode == 2
    folder = tmp_path / "keys" / "records"
    folder.mkdir(parents=True)
    (folder / "1").write_bytes(bytes(range(32)))
    done = run("--use-only", "--key", "records", "--json", "--samples", "0", "--large-batch", "10")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in folder.iterdir()] == ["1"]


def test_a_report_overwrites_nothing_and_a_provider_needs_its_table(run: Run, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("mine")
    assert run("--report", tmp_path / "report.json").returncode == 1
    assert (tmp_path / "report.json").read_text() == "mine"
    done = run("--provider", "nowhere")
    assert done.returncode == 1
    assert "There is no table [providers.nowhere]" in done.stderr
