"""What a background worker is made of: its vault, its jobs, and what tells it to stop."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from vault import __version__
from vault.bootstrap.attending import presence_of
from vault.bootstrap.key_doors import administration_door
from vault.bootstrap.memory import keep_memory_private
from vault.bootstrap.opening import Vault, open_vault
from vault.bootstrap.serving import scrub_for_ever
from vault.config import Configuration
from vault.core.clock import system_clock
from vault.core.errors import UnavailableError
from vault.core.expiry import Expiry
from vault.core.job_ports import ProcessRole
from vault.core.stop_signal import StopSignal
from vault.rotation.activate import ActivateKeyVersions
from vault.rotation.expire import ExpireRecords
from vault.rotation.forget import ForgetIdempotencyKeys, ForgetProcesses
from vault.rotation.job import Job
from vault.rotation.key_requests import MakeKeyVersions
from vault.rotation.worker import Outcome, Stop, Worker
from vault.telemetry.jobs import JobMeter
from vault.telemetry.logs import event_logger
from vault.telemetry.metrics import Metrics

_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 30.0
_ORPHAN_SECONDS = 10.0
"""How long a worker whose server was killed may take to finish its batch."""

_KEYS_SECONDS = 1.0
"""How often a worker looks for something to do about keys."""

_log = event_logger("strongroom.worker")


def work(
    configuration: Configuration,
    stop: StopSignal,
    *,
    server_pid: int | None = None,
    administers: bool = False,
) -> None:
    """Do background work until told to stop.

    Args:
        configuration: where the vault is.
        stop: when to end.
        server_pid: the server that this worker belongs to, and ends with; None if it runs on its own.
        administers: open the administration doors, and carry out what needs them.

    Raises:
        MisconfiguredError: the vault cannot be opened, and waiting would not help.
    """
    if server_pid is not None:
        watch = threading.Thread(target=_end_with_server, args=(server_pid, stop), name="orphan-watch")
        watch.daemon = True
        watch.start()
    keep_memory_private()
    metrics = Metrics(__version__)
    vault = _open_patiently(configuration, metrics, stop)
    if vault is None:
        return
    with _at_work(vault, administers=administers):
        _log.info("worker-started", pid=os.getpid(), release=__version__)
        if server_pid is None:
            threading.Thread(target=scrub_for_ever, args=(vault.engine,), daemon=True).start()
        _worker(vault, configuration, metrics, administers=administers).run(stop)
        if server_pid is None:
            vault.engine.scrub()
    _log.info("worker-stopped", pid=os.getpid())


def work_once(configuration: Configuration, stop: StopSignal, *, administers: bool = False) -> list[Outcome]:
    """Do everything that waits now.

    Raises:
        MisconfiguredError: the vault cannot be opened.
        UnavailableError: keys or database cannot be reached; what was done until then is committed.
    """
    metrics = Metrics(__version__)
    vault = open_vault(configuration, metrics)
    with _at_work(vault, administers=administers):
        outcomes = _worker(vault, configuration, metrics, administers=administers).run_once(stop)
        # What was erased must not wait in the write-ahead log for the next server.
        vault.engine.scrub()
    return outcomes


def _jobs(vault: Vault, configuration: Configuration, *, administers: bool) -> list[Job]:
    stores, trail = vault.stores, vault.services.trail
    jobs: list[Job] = [
        ExpireRecords(stores.expiry, Expiry(vault.keyrings, trail), system_clock),
        ForgetIdempotencyKeys(stores.forgetting, system_clock),
        ForgetProcesses(stores.forgetting, system_clock),
        ActivateKeyVersions(
            stores.rotations, stores.processes, keyrings=vault.keyrings, trail=trail, clock=system_clock
        ),
    ]
    if administers:
        doors = functools.partial(administration_door, configuration)
        jobs.append(
            MakeKeyVersions(
                stores.rotations, keyrings=vault.keyrings, doors=doors, trail=trail, clock=system_clock
            )
        )
    return jobs


def _worker(
    vault: Vault, configuration: Configuration, metrics: Metrics, *, administers: bool = False
) -> Worker:
    interval = configuration.settings.worker.interval_seconds
    return Worker(
        _jobs(vault, configuration, administers=administers),
        vault.stores.jobs,
        owner=vault.services.trail.boot_id,
        clock=system_clock,
        meter=JobMeter(metrics),
        interval_seconds=interval,
        # Somebody waits for a rotation, and to look whether one waits is one small SELECT.
        intervals={job.name: min(interval, _KEYS_SECONDS) for job in (ActivateKeyVersions, MakeKeyVersions)},
    )


@contextmanager
def _at_work(vault: Vault, *, administers: bool) -> Iterator[None]:
    presence = presence_of(vault, ProcessRole.WORKER, administers=administers)
    try:
        presence.begin()
        yield
    finally:
        presence.leave()
        vault.close()


def _open_patiently(configuration: Configuration, metrics: Metrics, stop: Stop) -> Vault | None:
    """Open the vault, waiting for keys or database to come back; None if told to stop before they did."""
    pause = _FIRST_WAIT_SECONDS
    while not stop.is_set():
        try:
            return open_vault(configuration, metrics)
        except UnavailableError as error:
            _log.warning("worker-waits", code=error.code, seconds=pause)
        stop.wait(pause)
        pause = min(2 * pause, _LONGEST_WAIT_SECONDS)
    return None


def _end_with_server(server_pid: int, stop: StopSignal) -> None:
    while os.getppid() == server_pid:
        threading.Event().wait(1.0)
    # The server was killed: nobody would stop this worker, and the next server brings its own.
    _log.warning("server-gone", pid=server_pid)
    stop.set()
    threading.Event().wait(_ORPHAN_SECONDS)
    os._exit(1)
