"""Files that something left half done."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from vault.cli.doctor.files import key_files, vault_folders
from vault.cli.doctor.findings import Code, Finding, Patient, fine

CHECK = "leftovers"


def check(patient: Patient) -> list[Finding]:
    """Look beside database and key file."""
    found = [
        Finding(
            CHECK,
            Code.LEFTOVER_FILE,
            f"{path} was left half done{_by_what(path)}. If nothing is writing it just now, remove it.",
            f"rm {shlex.quote(str(path))}",
        )
        for path in _unfinished(patient)
    ]
    return found or [fine(CHECK, "none")]


def _unfinished(patient: Patient) -> Iterator[Path]:
    configuration = patient.configuration
    database = configuration.database_path
    patterns = [
        *([] if configuration.has_database_server else [f"{database.name}.new*"]),
        "*.part",
        *(f".{path.name}.*.tmp" for path in key_files(configuration)),
    ]
    for folder in dict.fromkeys([*vault_folders(configuration), configuration.folder]):
        for pattern in dict.fromkeys(patterns):
            # init leaves an empty lock file behind, which holds nothing and is used again.
            yield from sorted(path for path in folder.glob(pattern) if path.is_file() and path.stat().st_size)


def _by_what(path: Path) -> str:
    if path.suffix == ".part":
        return " by an export, and may hold what it was to export"
    return " by a change of keys" if path.suffix == ".tmp" else " by init"
