"""Who works on the vault, and whether the work in the background gets done."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import vault
from vault.cli.doctor.findings import Code, Finding, Patient, fine
from vault.core.clock import MICROSECONDS, to_text
from vault.core.job_ports import ProcessRole, ProcessRow
from vault.storage.diagnosis import Diagnosis

PROCESSES = "processes"
JOBS = "jobs"
LATE_SECONDS = 300
"""How much later than two intervals a record may still be there before it counts as overdue."""
STARTING_SECONDS = 30
"""How long a server may run before its background worker is missed."""
_MOST_COUNTED = 10_000


def check_processes(patient: Patient, diagnosis: Diagnosis) -> list[Finding]:
    """Compare the processes that say that they work with those that run."""
    rows = diagnosis.processes()
    alive = [row for row in rows if row.is_alive(patient.now)]
    dead = [row for row in rows if not row.is_alive(patient.now)]
    found = [_of_dead(row, alive) for row in dead]
    found += [_of_other_release(row) for row in alive if row.release != vault.__version__]
    servers = [row for row in alive if row.role == ProcessRole.SERVER]
    found += _two_servers(servers)
    workers = [row for row in alive if row.role == ProcessRole.WORKER]
    started = min((row.started_at for row in servers), default=patient.now)
    if servers and not workers and patient.now - started > STARTING_SECONDS * MICROSECONDS:
        found.append(
            Finding(
                PROCESSES,
                Code.WORKER_MISSING,
                "A server runs and no background worker: expired records are not erased. Let the server run one "
                "([worker] with_server = true), or run one on its own.",
                patient.command("worker"),
            )
        )
    if found:
        return found
    if not alive:
        return [fine(PROCESSES, "none is at work")]
    return [
        fine(
            PROCESSES, f"{len(servers)} of a server and {len(workers)} background, all of {vault.__version__}"
        )
    ]


def check_jobs(patient: Patient, diagnosis: Diagnosis) -> list[Finding]:
    """Look for expired records that nobody erased, and for rows that a job had to leave."""
    found = []
    interval = patient.configuration.settings.worker.interval_seconds
    before = patient.now - (2 * interval + LATE_SECONDS) * MICROSECONDS
    overdue = diagnosis.overdue(before, limit=_MOST_COUNTED)
    if overdue is not None:
        number = "Very many" if overdue.count == _MOST_COUNTED else f"{overdue.count:,}"
        found.append(
            Finding(
                JOBS,
                Code.RECORDS_OVERDUE,
                f"{number} expired records wait to be erased, the first since {to_text(overdue.oldest)}. They are "
                "answered 410, but their documents and keys are still there.",
                patient.command("worker --once"),
            )
        )
    jobs = diagnosis.jobs()
    found += [
        Finding(
            JOBS,
            Code.ROWS_UNSOUND,
            f"The job {row.name} leaves {row.failed:,} rows as they are, because they are not what the vault wrote; "
            f"the last: {row.error}.",
            patient.command("verify"),
        )
        for row in jobs
        if row.failed
    ]
    done = ", ".join(f"{row.name} {row.done:,}" for row in jobs)
    return found or [fine(JOBS, f"nothing waits; rows done so far: {done}" if done else "nothing waits")]


def _of_dead(row: ProcessRow, alive: list[ProcessRow]) -> Finding:
    name = f"The {row.role} process {row.pid} on {row.host}"
    is_taken = any((other.host, other.pid) == (row.host, row.pid) for other in alive)
    if row.host == socket.gethostname() and not is_taken and _is_ours(row.pid):
        return Finding(
            PROCESSES,
            Code.PROCESS_STUCK,
            f"{name} has given no sign of life since {to_text(row.heartbeat_at)}, and is still there: stopped, or "
            "waiting for a disk.",
            f"kill -CONT {row.pid}; kill {row.pid}",
        )
    return Finding(
        PROCESSES,
        Code.PROCESS_DEAD,
        f"{name} ended without taking leave, after {to_text(row.heartbeat_at)}: killed, or its machine went down. "
        "This note goes by itself a day later.",
    )


def _of_other_release(row: ProcessRow) -> Finding:
    return Finding(
        PROCESSES,
        Code.PROCESS_OTHER_RELEASE,
        f"The {row.role} process {row.pid} on {row.host} is of release {row.release}, and this command of "
        f"{vault.__version__}: restart it.",
        f"kill {_to_stop(row)}",
    )


def _two_servers(servers: list[ProcessRow]) -> list[Finding]:
    here = socket.gethostname()
    names = {
        f"{row.host} (process {_parent_of(row.pid)})" if row.host == here else row.host
        for row in servers
        if row.host != here or _parent_of(row.pid) is not None
    }
    if len(names) < 2:  # noqa: PLR2004  # two are one too many
        return []
    parents = {str(_parent_of(row.pid)) for row in servers if row.host == here and _parent_of(row.pid)}
    return [
        Finding(
            PROCESSES,
            Code.TWO_SERVERS,
            f"More than one server works on this database: {', '.join(sorted(names))}. SQLite is for one machine, and "
            "a vault for one server: stop all but one.",
            f"kill {' or '.join(sorted(parents))}"
            if len(parents) > 1
            else "stop the one on the other machine",
        )
    ]


def _to_stop(row: ProcessRow) -> int:
    # A server's process comes back when it is stopped alone: its parent is the one to ask.
    parent = _parent_of(row.pid) if row.role == ProcessRole.SERVER else None
    return parent if parent is not None and parent > 1 else row.pid


def _is_ours(pid: int) -> bool:
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return pid != os.getpid() and (b"vault.cli" in line or b"strongroom" in line)


def _parent_of(pid: int) -> int | None:
    try:
        # The name in parentheses can hold anything, spaces too.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None
