"""What a check says: a level, a fixed word, a sentence, and the command that mends it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from vault.config import Configuration


class Level(enum.StrEnum):
    """How bad it is. Warnings and errors make the exit code 3."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class Code(enum.StrEnum):
    """Every word that a finding can have; docs/operations/doctor.md explains each."""

    FINE = "fine"
    NOT_CHECKED = "not-checked"
    CONFIGURATION_INVALID = "configuration-invalid"
    CONFIGURATION_WRITABLE = "configuration-writable"
    INSECURE_HTTP = "insecure-http"
    TLS_UNUSABLE = "tls-unusable"
    VAULT_MISSING = "vault-missing"
    FILE_UNREACHABLE = "file-unreachable"
    FOLDER_MODE = "folder-mode"
    FILE_MODE = "file-mode"
    FILE_OWNER = "file-owner"
    KEY_FILE_MODE = "key-file-mode"
    SECRET_FILE_MODE = "secret-file-mode"  # noqa: S105  # the name of a finding
    KEY_BESIDE_DATA = "key-beside-data"
    CLOCK_BEHIND_LOG = "clock-behind-log"
    CLOCK_NOT_SYNCHRONISED = "clock-not-synchronised"
    DISK_LOW = "disk-low"
    DATABASE_UNREADABLE = "database-unreadable"
    DATABASE_DAMAGED = "database-damaged"
    DATABASE_CHECK_CUT = "database-check-cut"
    DATABASE_JOURNAL = "database-journal"
    WRITE_AHEAD_LOG_LARGE = "write-ahead-log-large"
    SCHEMA_BEHIND = "schema-behind"
    SCHEMA_NEWER = "schema-newer"
    TRANSFER_UNFINISHED = "transfer-unfinished"
    INDEX_MISSING = "index-missing"
    PROVIDER_MISCONFIGURED = "provider-misconfigured"
    PROVIDER_NOT_READY = "provider-not-ready"
    KEYS_REFUSED = "keys-refused"
    KEYS_DAMAGED = "keys-damaged"
    LOG_UNANCHORED = "log-unanchored"
    PROCESS_DEAD = "process-dead"
    PROCESS_STUCK = "process-stuck"
    PROCESS_OTHER_RELEASE = "process-other-release"
    TWO_SERVERS = "two-servers"
    WORKER_MISSING = "worker-missing"
    RECORDS_OVERDUE = "records-overdue"
    ROWS_UNSOUND = "rows-unsound"
    LEFTOVER_FILE = "leftover-file"


LEVELS: dict[Code, Level] = {
    Code.FINE: Level.OK,
    **dict.fromkeys(
        (
            Code.NOT_CHECKED,
            Code.INSECURE_HTTP,
            Code.CLOCK_NOT_SYNCHRONISED,
            Code.DATABASE_CHECK_CUT,
            Code.LOG_UNANCHORED,
            Code.PROCESS_DEAD,
        ),
        Level.NOTE,
    ),
    **dict.fromkeys(
        (
            Code.CONFIGURATION_WRITABLE,
            Code.FOLDER_MODE,
            Code.FILE_MODE,
            Code.SECRET_FILE_MODE,
            Code.KEY_BESIDE_DATA,
            Code.CLOCK_BEHIND_LOG,
            Code.DISK_LOW,
            Code.DATABASE_JOURNAL,
            Code.WRITE_AHEAD_LOG_LARGE,
            Code.PROCESS_STUCK,
            Code.PROCESS_OTHER_RELEASE,
            Code.WORKER_MISSING,
            Code.RECORDS_OVERDUE,
            Code.LEFTOVER_FILE,
        ),
        Level.WARNING,
    ),
    **dict.fromkeys(
        (
            Code.CONFIGURATION_INVALID,
            Code.TLS_UNUSABLE,
            Code.VAULT_MISSING,
            Code.FILE_UNREACHABLE,
            Code.FILE_OWNER,
            Code.KEY_FILE_MODE,
            Code.DATABASE_UNREADABLE,
            Code.DATABASE_DAMAGED,
            Code.SCHEMA_BEHIND,
            Code.SCHEMA_NEWER,
            Code.TRANSFER_UNFINISHED,
            Code.INDEX_MISSING,
            Code.PROVIDER_MISCONFIGURED,
            Code.PROVIDER_NOT_READY,
            Code.KEYS_REFUSED,
            Code.KEYS_DAMAGED,
            Code.TWO_SERVERS,
            Code.ROWS_UNSOUND,
        ),
        Level.ERROR,
    ),
}
"""The level of each code: a code means the same wherever it is found."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check says.

    Attributes:
        check: the name of the check.
        code: what was found.
        sentence: for people; names files, processes and public references, never a value or a secret.
        mend: the command that mends it, as it can be typed; None if there is none.
    """

    check: str
    code: Code
    sentence: str
    mend: str | None = None

    @property
    def level(self) -> Level:
        """How bad it is."""
        return LEVELS[self.code]

    @property
    def is_problem(self) -> bool:
        """Whether somebody should do something."""
        return self.level in {Level.WARNING, Level.ERROR}


def fine(check: str, sentence: str) -> Finding:
    """Say that a check found nothing to mend."""
    return Finding(check, Code.FINE, sentence)


def not_checked(check: str, because: str) -> Finding:
    """Say that a check could not be made."""
    return Finding(check, Code.NOT_CHECKED, f"not checked, because {because}")


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at.

    Attributes:
        configuration: valid.
        now: UTC microseconds.
    """

    configuration: Configuration
    now: int

    def command(self, words: str) -> str:
        """A command of ours for this vault."""
        return self.configuration.command(words)
