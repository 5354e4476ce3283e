"""A small real server on loopback that says what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from vault.client import Client

CREDENTIAL = "strongroom_" + "Zx9_-" * 8 + "abc"
TOKEN = "6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f"


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


def send(
    handler: BaseHTTPRequestHandler,
    content: bytes,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> None:
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


@dataclass
class FakeServer:
    url: str = ""
    connections: int = 0
    asked: list[Asked] = field(default_factory=list)
    answers: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    always: Callable[[Asked], Any] | None = None

    def will_answer(
        self, document: Any = None, *, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        content = b"" if document is None else json.dumps(document).encode()
        self.will_send(content, status=status, headers=headers)

    def will_send(self, content: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.answers.append(lambda handler: send(handler, content, status=status, headers=headers))

    def will_work(self, document_for: Callable[[Asked], Any]) -> None:
        """Answer the next request, and only it, from what was asked."""
        self.answers.append(lambda handler: send(handler, json.dumps(document_for(self.asked[-1])).encode()))

    def will_refuse(
        self, status: int, code: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> None:
        self.will_answer(
            {
                "type": f"urn:strongroom:error:{code}",
                "title": "A title",
                "status": status,
                "detail": "A sentence.",
                "request_id": "req-1",
                **more,
            },
            status=status,
            headers=headers,
        )

    def will_hang_up(self) -> None:
        def hang_up(handler: BaseHTTPRequestHandler) -> None:
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)

        self.answers.append(hang_up)

    def will_be_silent_for(self, event: threading.Event) -> None:
        def wait(handler: BaseHTTPRequestHandler) -> None:
            event.wait(10)
            handler.close_connection = True

        self.answers.append(wait)


@contextmanager
def listening(tls: ssl.SSLContext | None = None) -> Iterator[FakeServer]:
    fake = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one packet for each answer, or the other side waits 40 ms for the second

        def setup(self) -> None:
            fake.connections += 1
            super().setup()

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = Asked(self.command, self.path, dict(self.headers.items()), body)
            fake.asked.append(asked)
            if fake.always is None:
                fake.answers.pop(0)(self)
            else:
                send(self, json.dumps(fake.always(asked)).encode())

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's signature
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass  # a hung-up connection is what the test wanted

    with Quiet(("127.0.0.1", 0), Handler) as real:
        if tls is not None:
            real.socket = tls.wrap_socket(real.socket, server_side=True)
        thread = threading.Thread(target=real.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        fake.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{real.server_port}"
        yield fake
        real.shutdown()
        thread.join()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with listening() as fake:
        yield fake


@pytest.fixture
def start_tls_server() -> Iterator[Callable[[ssl.SSLContext], FakeServer]]:
    """Starts such a server behind TLS."""
    with ExitStack() as servers:
        yield lambda tls: servers.enter_context(listening(tls))


@pytest.fixture
def client(server: FakeServer) -> Iterator[Client]:
    """Asks once."""
    with Client(server.url, credential=CREDENTIAL, timeout_seconds=5, retries=0) as opened:
        yield opened


@dataclass
class Clock:
    """A clock that the pauses between tries move; nobody waits for them."""

    now: float = 0.0
    pauses: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("vault.client.retrying.sleep", made.sleep)
    monkeypatch.setattr("vault.client.retrying.monotonic", lambda: made.now)
    return made


@pytest.fixture
def persistent(server: FakeServer, clock: Clock) -> Iterator[Client]:
    """Asks as often as a client does that was given no other number."""
    assert clock.now == 0
    with Client(server.url, credential=CREDENTIAL, timeout_seconds=5) as opened:
        yield opened


@pytest.fixture
def credential() -> str:
    return CREDENTIAL


@pytest.fixture
def metadata() -> dict[str, Any]:
    return {
        "token": TOKEN,
        "collection": "users",
        "generation": 2,
        "schema_version": 1,
        "created_at": "2026-11-23T14:00:00.000001Z",
        "updated_at": "2026-11-23T14:00:01Z",
        "expires_at": None,
    }
