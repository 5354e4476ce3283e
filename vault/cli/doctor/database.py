"""The database file and its schema."""

from __future__ import annotations

import shlex
from pathlib import Path

from vault.cli.doctor.findings import Code, Finding, Patient, fine
from vault.core.errors import VaultError
from vault.storage.diagnosis import QUICK_CHECK_SECONDS, Diagnosis
from vault.storage.schema import UNFINISHED

CHECK = "database"
SCHEMA = "schema"
LARGE_LOG_BYTES = 64 << 20
"""The write-ahead log is emptied every 15 seconds; this much is minutes of writing."""
_MEBIBYTE = 1 << 20


def unreadable(patient: Patient, error: VaultError) -> Finding:
    """Say that the database cannot even be looked at."""
    code = Code.DATABASE_DAMAGED if error.code == "integrity" else Code.DATABASE_UNREADABLE
    place = patient.configuration.database_place
    return Finding(
        CHECK,
        code,
        # Of a server, most sentences name the place by themselves.
        str(error) if str(place) in str(error) else f"{place}: {error}",
        _mend_damage(patient) if code is Code.DATABASE_DAMAGED else None,
    )


def check(patient: Patient, diagnosis: Diagnosis) -> list[Finding]:
    """Look at the file as SQLite sees it."""
    path = patient.configuration.database_path
    found = []
    damage = diagnosis.damage()
    if damage is None:
        found.append(
            Finding(
                CHECK,
                Code.DATABASE_CHECK_CUT,
                f"SQLite's quick check was not finished after {QUICK_CHECK_SECONDS:.0f} s.",
                patient.command("verify"),
            )
        )
    elif damage:
        found.append(
            Finding(
                CHECK,
                Code.DATABASE_DAMAGED,
                f"SQLite's quick check finds damage in {path} ({len(damage)} places or more).",
                _mend_damage(patient),
            )
        )
    mode = diagnosis.journal_mode()
    if mode != "wal":
        found.append(
            Finding(
                CHECK,
                Code.DATABASE_JOURNAL,
                f"The database is in journal mode {mode} instead of wal: some tool has rewritten it. The next command "
                "that opens the vault sets it right; find out whether the content is, too.",
                patient.command("verify"),
            )
        )
    log_bytes = _size(path.with_name(path.name + "-wal"))
    if log_bytes > LARGE_LOG_BYTES:
        found.append(
            Finding(
                CHECK,
                Code.WRITE_AHEAD_LOG_LARGE,
                f"The write-ahead log has {log_bytes / _MEBIBYTE:,.0f} MiB and is not emptied: a long reader (a "
                f"backup, verify) keeps it, or nothing has run since. See who: fuser -v {shlex.quote(str(path))}",
                patient.command("worker --once"),
            )
        )
    sizes = f"{_size(path) / _MEBIBYTE:,.1f} MiB, write-ahead log {log_bytes / _MEBIBYTE:,.1f} MiB"
    return found or [fine(CHECK, f"{sizes}, sound as far as SQLite's quick check sees")]


def check_schema(patient: Patient, diagnosis: Diagnosis) -> list[Finding]:
    """Compare tables and indexes with those that this release counts on."""
    unknown = diagnosis.upgrades_unknown()
    if any(name.startswith(UNFINISHED) for name in unknown):
        return [
            Finding(
                SCHEMA,
                Code.TRANSFER_UNFINISHED,
                "A transfer into this database has not ended, and no server opens it before.",
                "run the same strongroom transfer again; or empty the database",
            )
        ]
    if unknown:
        return [
            Finding(
                SCHEMA,
                Code.SCHEMA_NEWER,
                f"A newer release has upgraded the database (step {unknown[-1]}); this one does not touch it.",
                "install that release",
            )
        ]
    waiting = diagnosis.upgrades_waiting()
    if waiting:
        return [
            Finding(
                SCHEMA,
                Code.SCHEMA_BEHIND,
                f"The database needs the upgrade {waiting[-1]}. Back it up first.",
                patient.command("database upgrade --apply"),
            )
        ]
    path = shlex.quote(str(patient.configuration.database_path))
    found = [
        Finding(
            SCHEMA,
            Code.INDEX_MISSING,
            f"The table {missing.table} lacks its index over {', '.join(missing.columns)}: no server starts. If this "
            "fails because of equal values, restore a backup.",
            missing.statement
            if patient.configuration.has_database_server
            else f"sqlite3 {path} '{missing.statement}'",
        )
        for missing in diagnosis.missing_indexes()
    ]
    return found or [fine(SCHEMA, "as this release needs it")]


def _mend_damage(patient: Patient) -> str:
    path = patient.configuration.database_path
    return (
        f"stop the server; rm -f {_quoted(path, '-wal')} {_quoted(path, '-shm')}; "
        f"install -m 600 BACKUP {_quoted(path)}; {patient.command('verify')}"
    )


def _quoted(path: Path, suffix: str = "") -> str:
    return shlex.quote(f"{path}{suffix}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
