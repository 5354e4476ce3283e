"""The rules of the house that a program can check: rooms, names, sizes, imports without side effects."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("vault", "keyproviders")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
MOST_LINES = 350

IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys

seen = []
WATCHED = ("open", "sqlite3.connect", "subprocess.Popen", "os.system", "os.mkdir", "os.remove", "os.rename", "os.fork")

def watch(event, arguments):
    if event == "socket.__new__":
        return  # a socket that is connected to nothing is no traffic yet
    if event in WATCHED or event.startswith(("socket.", "urllib.", "tempfile.", "shutil.")):
        seen.append([event, sys._getframe(1).f_code.co_filename, *map(str, arguments)])

sys.addaudithook(watch)
imported = []
for package in ("strongroom", "vault", "keyproviders"):
    module = importlib.import_module(package)
    imported.append(package)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
            imported.append(found.name)
import threading
threads = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
print(json.dumps({"seen": seen, "imported": imported, "threads": threads, "places": [sys.prefix, sys.base_prefix]}))
"""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 80


def test_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_named_documented_and_short(path: Path) -> None:
    assert path.stem not in EMPTY_NAMES
    source = path.read_text()
    # An upgrade only ever grows with the tables that it makes, and is never edited again.
    if path.parent.name != "upgrades":
        assert len(source.splitlines()) <= MOST_LINES, "a module over about 350 lines holds two nouns"
    assert ast.get_docstring(ast.parse(source)), "every module says what it is for"


def test_imports_do_no_input_or_output(tmp_path: Path) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-c", IMPORT_EVERYTHING],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert len(report["imported"]) > 80
    assert report["threads"] == []
    assert not list(tmp_path.iterdir())
    others = [event for event in report["seen"] if event[0] != "open"]
    # urllib3 tries out at import whether this machine has IPv6: it binds a socket to ::1, and closes it.
    assert not [each for each in others if not each[1].endswith("urllib3/util/connection.py")]
    opened = [event[2:] for event in report["seen"] if event[0] == "open"]
    assert len(opened) > 80
    assert not [each for each in opened if not is_part_of_a_package(*each, places=report["places"])]


def is_part_of_a_package(path: str, mode: str, flags: str, *, places: list[str]) -> bool:
    """Whether opening this is what importing means: code and data of installed packages, read only."""
    if int(flags) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or set(mode) & set("wax+"):
        return False
    file = Path(path)
    is_ours = any(file.is_relative_to(ROOT / package) for package in PACKAGES)
    if is_ours or (file.is_relative_to(ROOT) and file.name.startswith("strongroom.")):
        return file.suffix in {".py", ".pyc"}
    return any(file.is_relative_to(place) for place in places)
