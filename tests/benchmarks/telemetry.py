"""What logs and metrics cost a request: the application without them and with them, in turns, in one process.

Run it with: .venv/bin/python tests/benchmarks/telemetry.py 2>/dev/null
"""

from __future__ import annotations

import io
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from vault import bootstrap
from vault.api import app as app_module
from vault.config import Configuration, load_configuration
from vault.telemetry.folder import shared_folder
from vault.telemetry.logs import set_up_logs
from vault.telemetry.metrics import Metrics

ROUNDS = 30
REQUESTS = 200
RECORDS = "/v1/collections/users/records"


def not_measured(application: Any, _: Metrics) -> Any:
    """What the application was without."""
    return application


class Door:
    """Calls the application as the WSGI server does."""

    def __init__(self, application: Any, credential: str) -> None:
        self._application = application
        self._credential = credential

    def ask(self, method: str, path: str, body: bytes = b"") -> dict[str, str]:
        path, _, query = path.partition("?")
        headers: dict[str, str] = {}
        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_AUTHORIZATION": f"Bearer {self._credential}",
            "wsgi.input": io.BytesIO(body),
            "wsgi.input_terminated": True,
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
        }

        def start(status: str, pairs: list[tuple[str, str]], _: object = None) -> None:
            assert status[0] == "2", status
            headers.update(pairs)

        b"".join(self._application(environ, start))
        return headers


def microseconds(call: Callable[[], object]) -> float:
    # Processor time, so that what else the machine does counts less.
    started = time.process_time()
    for _ in range(REQUESTS):
        call()
    return (time.process_time() - started) / REQUESTS * 1e6


def without(configuration: Configuration, credential: str) -> Door:
    with mock.patch.object(app_module, "Measuring", not_measured):
        return Door(app_module.create_app(bootstrap.open_vault(configuration).services), credential)


def with_them(configuration: Configuration, credential: str) -> Door:
    services = bootstrap.open_vault(configuration, Metrics("0.1.0")).services
    return Door(app_module.create_app(services), credential)


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        configuration = load_configuration(None, Path(folder) / "data")
        credential = bootstrap.create_vault(configuration).text
        numbers = itertools.count()
        set_up_logs("info", "json")
        with shared_folder(processes=1):
            doors = [with_them(configuration, credential), without(configuration, credential)]
            doors.reverse()  # the first to be opened has the shared files
            path = doors[0].ask("POST", RECORDS, b'{"data":{"n":1}}')["Location"]
            calls: dict[str, Callable[[Door], object]] = {
                "GET /healthz": lambda door: door.ask("GET", "/healthz"),
                "GET a record": lambda door: door.ask("GET", path),
                "POST a record": lambda door: door.ask(
                    "POST", RECORDS, b'{"data":{"email":"a%d@example.org"}}' % next(numbers)
                ),
            }
            print(
                f"{os.cpu_count()} processors; best of {ROUNDS} rounds of {REQUESTS} requests, microseconds"
            )
            for name, call in calls.items():
                best = [float("inf")] * 2
                for _ in range(ROUNDS):
                    for index, door in enumerate(doors):
                        best[index] = min(best[index], microseconds(partial(call, door)))
                print(
                    f"{name:14} without {best[0]:7.0f}   with {best[1]:7.0f}   cost {best[1] - best[0]:5.0f}"
                )


if __name__ == "__main__":
    main()
