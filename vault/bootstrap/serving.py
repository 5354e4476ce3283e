"""What a server process is made of: where it listens, its application, and what runs beside it."""

from __future__ import annotations

import functools
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from vault import __version__
from vault.api.app import create_app
from vault.api.server import Listener
from vault.api.starting import StartingApplication
from vault.bootstrap.attending import presence_of
from vault.bootstrap.holding import held
from vault.bootstrap.memory import keep_memory_private
from vault.bootstrap.opening import open_vault
from vault.config import Configuration
from vault.core.errors import UnavailableError
from vault.core.job_ports import ProcessRole
from vault.storage.engine import Engine
from vault.telemetry.folder import shared_folder
from vault.telemetry.logs import event_logger, set_up_logs
from vault.telemetry.metrics import Metrics
from vault.telemetry.traces import places_of

log = event_logger("strongroom.server")

SWITCH_SECONDS = 0.001
"""How long one thread may hold the interpreter while others wait. A batch computes beside single requests, and with
Python's 5 ms each of the dozen times that such a request takes the interpreter back would cost it up to that."""
SCRUB_SECONDS = 15.0
"""How often what erasures and updates left in the write-ahead log is cleared away."""


def listener_of(configuration: Configuration) -> Listener:
    """Where the server listens."""
    server = configuration.settings.server
    return Listener(
        host=server.host,
        port=server.port,
        workers=server.workers,
        certificate=configuration.folder / server.tls.certificate if server.tls else None,
        key=configuration.folder / server.tls.key if server.tls else None,
    )


def keys_in_local_files(configuration: Configuration) -> list[str]:
    """The providers that keep keys of a keyring in a file beside this program."""
    providers = configuration.settings.providers
    names = {keyring.provider for keyring in configuration.settings.keyrings.values()}
    return sorted(name for name in names if providers[name].type == "file")


@contextmanager
def only_server(configuration: Configuration) -> Iterator[None]:
    """Hold a SQLite database for one server; its worker processes inherit the hold. Any number share a database server.

    Raises:
        MisconfiguredError: another server, or a worker that outlived its server, has it.
    """
    if configuration.has_database_server:
        yield
        return
    path = configuration.database_path.with_name(configuration.database_path.name + ".server")
    refusal = (
        f"Another strongroom server runs on {configuration.database_path}, or a transfer is under way there. Stop it "
        "first; if it was killed, its last workers may still be finishing: try again in a few seconds."
    )
    with held(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), refusal):
        yield


def start_logs(configuration: Configuration) -> None:
    """Write this process's log as ``[logs]`` says."""
    logs = configuration.settings.logs
    set_up_logs(logs.level, logs.format)


def shared_metrics(configuration: Configuration) -> AbstractContextManager[Path]:
    """Let all processes that are started from here add up their numbers."""
    # Beside the workers: one that takes the place of a killed one, and the worker of background jobs.
    return shared_folder(processes=configuration.settings.server.workers + 2)


def application_loader(configuration: Configuration) -> Callable[[], Any]:
    """What each worker process calls, after the fork, to make its application."""
    return functools.partial(_load_application, configuration, os.getpid())


def _load_application(configuration: Configuration, server_pid: int) -> Any:
    # Until granian sets a worker's own handler, after this returns, the one inherited from the server swallows the
    # signal: a server that was stopped right after its start would wait its whole kill timeout for this worker.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Ctrl-C and a service manager reach every process of the group, and the parent then sends SIGTERM, too. A second
    # signal within a moment finds granian's handler inside the lock that it asks for, and the worker would not end until
    # it is killed. So one thread takes all of them, and hands on the first. Threads to come inherit what is blocked.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=_hand_on_first_signal, name="stop-signal", daemon=True).start()
    sys.setswitchinterval(SWITCH_SECONDS)
    start_logs(configuration)
    keep_memory_private()
    threading.Thread(target=_end_with_server, args=(server_pid,), name="orphan-watch", daemon=True).start()
    metrics = Metrics(__version__)
    make = functools.partial(_make_application, configuration, metrics)
    try:
        return make()
    except UnavailableError as error:
        log.warning("start-waits", code=error.code)
        # Not sys.exit: that would end the thread which tries, and leave a process that answers 503 for ever.
        return StartingApplication(make, error, give_up=lambda: os._exit(1))


def _make_application(configuration: Configuration, metrics: Metrics) -> Any:
    vault = open_vault(configuration, metrics)
    presence = presence_of(vault, ProcessRole.SERVER)
    presence.begin()
    # What multiprocessing calls when a forked process ends as it should; atexit is not asked there.
    Finalize(None, presence.leave, exitpriority=0)
    threading.Thread(target=scrub_for_ever, args=(vault.engine,), name="scrubber", daemon=True).start()
    if not metrics.is_counted:
        log.warning("metrics-not-counted", pid=os.getpid())
    log.info("worker-started", pid=os.getpid(), release=__version__)
    return create_app(vault.services)


def scrub_for_ever(engine: Engine) -> None:
    """Clear the write-ahead log now and then."""
    while True:
        # Not all workers at the same moment.
        threading.Event().wait(SCRUB_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  # no secret depends on it
        try:
            engine.scrub()
        except Exception as error:  # noqa: BLE001  # a worker loop: report, and try again at the next turn
            log.warning("write-ahead-log-not-cleared", places=places_of(error))


def _hand_on_first_signal() -> None:
    # The parent always sends SIGTERM: Ctrl-C needs no answer of its own.
    signal.sigwait({signal.SIGTERM})
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler):
        os._exit(1)
    handler(signal.SIGTERM, None)


def _end_with_server(server_pid: int) -> None:
    while os.getppid() == server_pid:
        threading.Event().wait(1.0)
    # The server was killed: a worker that went on would hold port and vault without anyone to stop it.
    os._exit(1)
