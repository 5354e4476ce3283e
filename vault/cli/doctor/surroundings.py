"""What the vault stands on: the machine's clock, and room on its disks."""

from __future__ import annotations

import ctypes
import shlex
import shutil

from vault.cli.doctor.files import vault_folders
from vault.cli.doctor.findings import Code, Finding, Patient, fine, not_checked
from vault.core.clock import MICROSECONDS, to_text
from vault.core.errors import VaultError
from vault.core.policy import DEFAULT_TENANT
from vault.storage.diagnosis import Diagnosis

CLOCK = "clock"
DISK = "disk"
LEAST_FREE_BYTES = 1 << 30
LEAST_FREE_SHARE = 0.1
_AHEAD_SECONDS = 5
_TIMEX_BYTES = 512
"""More than ``struct timex`` has on any machine; all zero, it asks and changes nothing."""
_TIME_ERROR = 5
_GIBIBYTE = 1 << 30


def check_clock(patient: Patient, diagnosis: Diagnosis | None) -> list[Finding]:
    """Compare the clock with the access log, and ask the kernel whether somebody keeps it right."""
    found = []
    newest = None if diagnosis is None else _newest_entry(diagnosis)
    if newest is not None and newest > patient.now + _AHEAD_SECONDS * MICROSECONDS:
        found.append(
            Finding(
                CLOCK,
                Code.CLOCK_BEHIND_LOG,
                f"The newest entry of the access log is of {to_text(newest)}, and this machine's clock says "
                f"{to_text(patient.now)}: one of the two was or is wrong. Records expire by this clock.",
                "timedatectl set-ntp true",
            )
        )
    if is_synchronised() is False:
        found.append(
            Finding(
                CLOCK,
                Code.CLOCK_NOT_SYNCHRONISED,
                "The kernel says that nothing keeps this machine's clock right.",
                "timedatectl set-ntp true",
            )
        )
    compared = "" if newest is None else ", not before the newest entry of the access log"
    return found or [fine(CLOCK, to_text(patient.now) + compared)]


def _newest_entry(diagnosis: Diagnosis) -> int | None:
    try:
        return diagnosis.newest_entry(DEFAULT_TENANT)
    except VaultError:
        # A database without its tables is named by the checks that look for them.
        return None


def is_synchronised() -> bool | None:
    """Whether the kernel takes the clock for right; None if it cannot be asked."""
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def check_disk(patient: Patient) -> list[Finding]:
    """Look for room where database and key file grow."""
    found = []
    seen = set()
    for folder in vault_folders(patient.configuration):
        device = folder.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        usage = shutil.disk_usage(folder)
        numbers = f"{usage.free / _GIBIBYTE:,.1f} of {usage.total / _GIBIBYTE:,.1f} GiB are free at {folder}"
        if usage.free < LEAST_FREE_BYTES or usage.free < LEAST_FREE_SHARE * usage.total:
            found.append(
                Finding(
                    DISK,
                    Code.DISK_LOW,
                    f"Only {numbers}. When the disk is full, every request is answered 503.",
                    f"du -xh {shlex.quote(str(folder))} | sort -h | tail",
                )
            )
        else:
            found.append(fine(DISK, numbers))
    return found or [not_checked(DISK, "there is no vault")]
