"""granian, set up for this application."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server

from vault.core.errors import MisconfiguredError

KILL_TIMEOUT_SECONDS = 10
"""How long a worker may finish its requests when the server stops."""
_POLL_SECONDS = 0.01
THREADS_PER_WORKER = 16
"""Requests that one worker handles at once. granian reads a body in the thread that answers, and has no deadline
for it: with a single thread, one authenticated client that sends slowly would stop the worker for everyone."""
THREAD_IDLE_SECONDS = 60
_LOGGING = {
    # granian would print to standard output in a form of its own; so its records go the way of all others.
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"propagate": True}},
}


@dataclass(frozen=True, slots=True)
class Listener:
    """Where to listen and how.

    Attributes:
        host: an IP address.
        port: a TCP port.
        workers: how many processes answer.
        certificate: PEM file, or None for plain HTTP.
        key: PEM file of the certificate's key.
    """

    host: str
    port: int
    workers: int
    certificate: Path | None = None
    key: Path | None = None


def check_port_free(listener: Listener) -> None:
    """Raise if another program listens there.

    granian shares a port with whoever else allows it, so two servers over two vaults would answer in turns.

    Raises:
        MisconfiguredError: the port is taken or cannot be had.
    """
    family = socket.AF_INET6 if ":" in listener.host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((listener.host, listener.port))
        except OSError as error:
            raise MisconfiguredError(
                f"{listener.host}:{listener.port} cannot be listened on ({error.strerror}); "
                "choose another with --listen or [server] listen."
            ) from error


def check_certificate(listener: Listener) -> None:
    """Raise if TLS is wanted and cannot be had.

    Raises:
        MisconfiguredError: certificate or key is missing, damaged, encrypted, or not the other's.
    """
    if listener.certificate is None or listener.key is None:
        return
    for file in (listener.certificate, listener.key):
        if not file.is_file():
            raise MisconfiguredError(f"There is no file {file}, which [server.tls] names.")
    try:
        # Without a password OpenSSL would ask for one, and a service would wait for ever.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            listener.certificate, listener.key, password=""
        )
    except OSError as error:
        raise MisconfiguredError(
            f"The certificate {listener.certificate} and the key {listener.key} cannot be used "
            f"({error.strerror or error}); both are PEM files, and the key is the certificate's own, not encrypted."
        ) from error


class _OnceStopped(Server):  # type: ignore[misc,valid-type]  # one of two classes, by the system
    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """Let only the first signal set the event: a second one may find that event's lock held by its own thread."""
        if not self.interrupt_signal:
            super().signal_handler_interrupt(*args, **kwargs)

    def _stop_workers(self) -> None:
        """Wait until those who end are gone, so that granian kills, and logs as killed, those only who do not end.

        It looks once, a millisecond after its own watching threads collected them, and takes for alive what they have not
        noted yet.
        """
        for worker in self.wrks:
            worker.terminate()
        end = time.monotonic() + KILL_TIMEOUT_SECONDS
        while any(worker.is_alive() for worker in self.wrks) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        super()._stop_workers()


def serve(load_application: Callable[[], Any], listener: Listener) -> None:
    """Answer requests until SIGINT or SIGTERM.

    Args:
        load_application: makes the WSGI application; called in each worker process, after the fork.
        listener: where to listen.
    """
    server = _OnceStopped(
        "strongroom",
        address=listener.host,
        port=listener.port,
        interface=Interfaces.WSGI,
        workers=listener.workers,
        blocking_threads=THREADS_PER_WORKER,
        blocking_threads_idle_timeout=THREAD_IDLE_SECONDS,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=10_000),
        websockets=False,
        log_level=LogLevels.warning,
        log_dictconfig=_LOGGING,
        ssl_cert=listener.certificate,
        ssl_key=listener.key,
        workers_kill_timeout=1,  # after KILL_TIMEOUT_SECONDS
        respawn_failed_workers=True,
        process_name=None,
    )
    server.serve(target_loader=load_application, wrap_loader=False)
