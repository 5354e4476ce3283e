"""A proxy on loopback before any server, that can fall silent without closing a connection."""

from __future__ import annotations

import contextlib
import socket
import threading


class TcpProxy:
    """Passes bytes on, until it is told not to.

    Args:
        behind: host and port of the server.
    """

    def __init__(self, behind: tuple[str, int]) -> None:
        self._behind = behind
        self._goes_on = threading.Event()
        self._goes_on.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hang(self) -> None:
        """Take connections and bytes, and pass nothing on."""
        self._goes_on.clear()

    def close(self) -> None:
        """Close everything."""
        self._goes_on.set()
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._behind)
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                self._goes_on.wait()
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
