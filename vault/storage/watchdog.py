"""Ends connections whose peer has fallen silent.

A server that hangs, but whose kernel still acknowledges, is ended by no timeout of PostgreSQL's library, and a socket
timeout of PyMySQL starts anew with every byte. Whoever waits in the driver then wakes up with an error if somebody else
shuts the socket.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time

_LOOK_SECONDS = 0.1


class Line:
    """One connection as the watchdog sees it.

    Args:
        fileno: the connection's socket; a copy of it is kept until :meth:`end`.
    """

    def __init__(self, fileno: int) -> None:
        self._socket = socket.socket(fileno=os.dup(fileno))
        self.until = math.inf
        self.is_cut = False

    def allow(self, seconds: float) -> None:
        """Let the peer take so long from now on."""
        self.until = time.monotonic() + seconds

    def rest(self) -> None:
        """Expect nothing of the peer."""
        self.until = math.inf

    def cut(self) -> None:
        """Shut the socket: whoever waits for it wakes up with an error."""
        self.is_cut = True
        self.rest()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Close the copy."""
        self._socket.close()


class Watchdog:
    """Looks after all connections of one process, in a thread that runs while there are any."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._lines: set[Line] = set()
        self._is_running = False

    def watch(self, fileno: int) -> Line:
        """Begin to look after a connection."""
        line = Line(fileno)
        with self._turn:
            self._lines.add(line)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="database-watchdog", daemon=True).start()
        return line

    def forget(self, line: Line) -> None:
        """Look after it no longer."""
        with self._turn:
            self._lines.discard(line)
            line.end()

    def _run(self) -> None:
        while True:
            time.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            with self._turn:
                if not self._lines:
                    self._is_running = False
                    return
                # Under the lock: a line that is forgotten meanwhile may have given its number to another socket.
                for line in self._lines:
                    if line.until < now:
                        line.cut()
