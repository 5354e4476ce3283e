"""The access log, and what nobody could prove about it."""

from __future__ import annotations

from vault.cli.doctor.findings import Code, Finding, fine
from vault.storage.diagnosis import Diagnosis

CHECK = "access log"


def check(diagnosis: Diagnosis) -> list[Finding]:
    """Say how much of the log is covered by a checkpoint that is kept elsewhere: in this release, nothing."""
    entries = diagnosis.entries()
    if entries == 0:
        return [fine(CHECK, "empty")]
    return [
        Finding(
            CHECK,
            Code.LOG_UNANCHORED,
            f"{entries:,} entries, none of them covered by a checkpoint: this release makes none. That a whole database "
            "was put back to an older state, or that entries of reads were removed, shows only against a copy of the "
            "log on another machine.",
            "strongroom audit list --limit 0 --json > access-log.jsonl",
        )
    ]
