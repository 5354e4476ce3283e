"""A proxy on loopback before a real OpenBao that can take it away in the ways in which servers go away."""

from __future__ import annotations

import enum
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import urllib3

HOST = "127.0.0.1"
LATENCY_SECONDS = 5.0


class Outage(enum.StrEnum):
    """How the server is away."""

    REFUSED = "refused"
    RESET = "reset"
    HANG = "silent hang"
    LATENCY = "5 s latency"
    ERROR = "HTTP 5xx"
    SEALED = "sealed"
    """Not by the proxy: the server behind it is sealed for real."""


class OutageProxy:
    """Passes requests on, until it is told not to.

    Args:
        port: where it listens.
        behind: the server's URL.
        ca: of the server's certificate.
    """

    def __init__(self, port: int, behind: str, ca: Path) -> None:
        self.url = f"http://{HOST}:{port}"
        self._port = port
        self._behind = behind
        self._pool = urllib3.PoolManager(retries=False, timeout=10, ca_certs=str(ca), maxsize=16)
        self._outage: Outage | None = None
        self._over = threading.Event()
        self._over.set()
        self._server: ThreadingHTTPServer | None = None
        self._listen()

    def begin(self, outage: Outage) -> None:
        """Take the server away."""
        self._over.clear()
        self._outage = outage
        if outage is Outage.REFUSED:
            self._close()

    def end(self) -> None:
        """Bring it back."""
        was, self._outage = self._outage, None
        self._over.set()
        if was is Outage.REFUSED and self._server is None:
            self._listen()

    def close(self) -> None:
        self.end()
        self._close()
        self._pool.clear()

    def _listen(self) -> None:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def _any(self) -> None:
                proxy.answer(self)

            do_GET = do_POST = do_PUT = do_DELETE = do_LIST = _any  # noqa: N815

        self._server = ThreadingHTTPServer((HOST, self._port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        outage = self._outage
        if outage in (Outage.REFUSED, Outage.RESET):
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            handler.close_connection = True
            return
        if outage is Outage.HANG:
            self._over.wait()
            handler.close_connection = True
            return
        if outage is Outage.LATENCY:
            self._over.wait(LATENCY_SECONDS)
        if outage is Outage.ERROR:
            self._send(handler, 502, b'{"errors":["bad gateway"]}')
            return
        headers = {
            name: value
            for name, value in handler.headers.items()
            if name.lower() not in {"host", "connection"}
        }
        response = self._pool.request(
            handler.command, self._behind + handler.path, body=body or None, headers=headers
        )
        self._send(handler, response.status, response.data)

    @staticmethod
    def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)
