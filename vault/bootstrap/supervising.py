"""A background worker as the server's child: started with it, started again if it dies, ended with it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from vault.telemetry.logs import event_logger

STOP_SECONDS = 7.0
"""How long a worker may finish its batch when the server ends, before it is killed."""
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_STEADY_SECONDS = 60.0
"""A worker that lived this long was in order: the next pause starts small again."""
_STOPPED_PAUSE_SECONDS = 15.0
"""Pause after somebody stopped the worker. Most likely the signal went to the server, too, which is about to end: it
takes 10 s at most, and a new worker would only be in its way."""
_STOPPED = (0, -signal.SIGTERM)

_log = event_logger("strongroom.worker")


@contextmanager
def child_worker(command: Sequence[str]) -> Iterator[None]:
    """Run a command as long as the body runs, whatever becomes of it.

    The child is in the process group of the server, so that whoever kills the group kills it, but it is deaf to what a
    terminal sends to all of the group (Ctrl-C, the end of the terminal): the server ends it in its own time.

    Args:
        command: the whole argument list.
    """
    supervisor = _Supervisor(command)
    thread = threading.Thread(target=supervisor.run, name="worker-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        supervisor.stop()
        thread.join(STOP_SECONDS)
        if thread.is_alive():
            supervisor.kill()
            thread.join()


class _Supervisor:
    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._stopped = threading.Event()
        self._pause = _FIRST_PAUSE_SECONDS
        # A process id may be used again once its process was waited for: signals are sent under this lock only.
        self._pid_turn = threading.Lock()
        self._pid: int | None = None

    def run(self) -> None:
        while not self._stopped.is_set():
            self._stopped.wait(self._run_one())

    def _run_one(self) -> float:
        """Run a worker to its end; return how long to wait before the next."""
        started = time.monotonic()
        try:
            pid = self._start()
        except OSError as error:
            wait = self._next_pause()
            _log.error("worker-not-started", error=type(error).__name__, seconds=wait)
            return wait
        if pid is None:
            return 0.0
        code = self._wait(pid)
        if self._stopped.is_set():
            return 0.0
        if time.monotonic() - started > _STEADY_SECONDS:
            self._pause = _FIRST_PAUSE_SECONDS
        wait = _STOPPED_PAUSE_SECONDS if code in _STOPPED else self._next_pause()
        _log.error("worker-ended", pid=pid, status=code, seconds=wait)
        return wait

    def _next_pause(self) -> float:
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE_SECONDS)
        return pause

    def stop(self) -> None:
        """Ask the worker to end, and start no other."""
        self._stopped.set()
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _start(self) -> int | None:
        with self._pid_turn:
            if self._stopped.is_set():
                return None
            # Not subprocess: it waits for a pipe to close that a server process forked at this moment would inherit
            # and keep open.
            self._pid = os.posix_spawn(
                self._command[0],
                self._command,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
                setsigmask=[signal.SIGINT, signal.SIGHUP],
            )
            return self._pid

    def _wait(self, pid: int) -> int:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with self._pid_turn:
            self._pid = None
            _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _signal(self, number: signal.Signals) -> None:
        with self._pid_turn:
            if self._pid is not None:
                os.kill(self._pid, number)
