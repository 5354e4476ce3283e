"""What the tests against real processes share: starting and stopping servers, asking them, running the command.

Tests are no packages, so this comes to them as fixtures; for the types of what a fixture gives, write
``if TYPE_CHECKING: from conftest import Server``.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.servers.database_homes import DatabaseHome, ServerHome, choose, chosen_home, variables_for
from tests.servers.databases import ENGINES, mariadb, postgresql, server_of
from tests.servers.key_homes import HOMES

__all__ = ["mariadb", "postgresql"]

HOST = "127.0.0.1"
READY_SECONDS = 30.0
STOP_SECONDS = 20.0
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "request_id"}
_METADATA = {
    "token", "collection", "generation", "schema_version", "created_at", "updated_at", "expires_at",
}  # fmt: skip
# The members that an item of a batch has, by its status.
BULK_ITEMS = {
    200: (
        {"status", "etag"} | _METADATA,
        {"status", "etag", "data", "reveal", "masked"} | _METADATA,
        {"status", "items", "next_cursor"},
    ),
    201: ({"status", "etag"} | _METADATA,),
    204: ({"status", "token"},),
}
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
# Ports from 32768 on are what the system gives to outgoing connections.
_PORTS = range(20_000, 32_000)
_COMMAND = (sys.executable, "-P", "-m", "vault.cli")
# What --key-provider adds to the environment of every process of the vault; empty for the local key file.
_key_home: dict[str, str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--key-provider",
        choices=list(HOMES),
        default="file",
        help="where the servers of the tests keep their keys; other than file leaves out what is marked own_home, and "
        "what is marked counted unless GATE_COUNTS is set",
    )
    parser.addoption(
        "--database",
        choices=list(ENGINES),
        default="sqlite",
        help="where the servers of the tests keep their rows; other than sqlite leaves out what is marked sqlite_only, and "
        "what is marked counted unless GATE_COUNTS is set",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    marks = set()
    if config.getoption("--key-provider") != "file":
        marks.add("own_home")
    if config.getoption("--database") != "sqlite":
        marks.add("sqlite_only")
    if marks and not os.environ.get("GATE_COUNTS"):
        marks.add("counted")
    if config.getoption("--database") == "sqlite":
        marks.add("servers_only")
    left_out = {item for item in items if any(item.get_closest_marker(mark) for mark in marks)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


@dataclass(frozen=True)
class Answer:
    """An answer whose form has been checked: every test that asks anything checks it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body, parse_float=Decimal)

    @property
    def etag(self) -> str:
        return self.headers["ETag"]

    def gives(self, status: int) -> Any:
        """Assert the status and return the document."""
        assert self.status == status, (self.status, self.body[:2000])
        return self.json if self.body else None

    def refuses(self, status: int, code: str, *errors: tuple[str, str]) -> Any:
        """Assert the status, the problem's code and, if named, its errors as (pointer, code); return the problem."""
        assert self.status == status, (self.status, self.body[:2000])
        problem = self.json
        assert problem["type"] == f"urn:strongroom:error:{code}", problem
        if errors:
            assert [(each["pointer"], each["code"]) for each in problem.get("errors", [])] == list(errors), (
                problem
            )
        return problem


def check_form(method: str, path: str, answer: Answer) -> None:
    """Assert what holds for every answer of the server."""
    headers = answer.headers
    assert headers["Cache-Control"] == "no-store", (method, path, dict(headers))
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert len(headers["Request-Id"]) == len("0" * 32)
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "Traceback" not in answer.body[:100_000].decode(errors="replace")
    is_success = answer.status < 300
    if is_success or path.startswith("/readyz"):
        if path.endswith("/records/bulk"):
            _check_items(answer)
        return
    if method == "HEAD":
        assert answer.body == b""
        return
    assert headers["Content-Type"] == "application/problem+json", (method, path, dict(headers))
    problem = answer.json
    if path.endswith("/records/bulk"):
        # Of an atomic batch: which operation was refused.
        index = problem.pop("index", 0)
        assert type(index) is int
        assert 0 <= index < 1_000
    _check_problem(problem, answer.status, headers["Request-Id"])
    assert (answer.status == 401) == ("WWW-Authenticate" in headers)
    is_for_later = answer.status == 503 or problem["type"] == "urn:strongroom:error:idempotency-in-flight"
    assert is_for_later == ("Retry-After" in headers)


def _check_problem(problem: dict[str, Any], status: int, request_id: str) -> None:
    assert PROBLEM_MEMBERS <= problem.keys() <= PROBLEM_MEMBERS | {"errors"}, problem
    assert problem["status"] == status
    assert problem["type"].startswith("urn:strongroom:error:")
    assert problem["request_id"] == request_id
    assert all(isinstance(problem[name], str) and problem[name] for name in ("title", "detail"))
    for each in problem.get("errors", []):
        assert {"pointer", "code"} <= each.keys() <= {"pointer", "code", "detail"}, problem
        assert each["pointer"] == "" or each["pointer"].startswith("/")


def _check_items(answer: Answer) -> None:
    """Assert what holds for every batch that was carried out or rehearsed."""
    body = answer.json
    is_dry_run = body.get("dry_run", False)
    assert body.keys() == {"items", "failed"} | ({"dry_run"} if is_dry_run else set())
    assert body["failed"] == sum("problem" in item for item in body["items"])
    for item in body["items"]:
        if "problem" in item:
            assert item.keys() == {"status", "problem"}
            assert item["status"] >= 400
            _check_problem(item["problem"], item["status"], answer.headers["Request-Id"])
        elif is_dry_run:
            assert item.keys() == {"status"}
            assert item["status"] in {200, 201, 204}
        else:
            assert set(item) in BULK_ITEMS[item["status"]], item


@dataclass
class Api:
    """Asks a server over HTTP; every answer's form is checked on the way.

    Attributes:
        credential: what is shown; None for nothing.
    """

    url: str
    credential: str | None = field(default=None, repr=False)
    ca: Path | None = None
    _pool: urllib3.PoolManager = field(init=False)

    def __post_init__(self) -> None:
        self._pool = urllib3.PoolManager(
            retries=False, timeout=30, ca_certs=None if self.ca is None else str(self.ca)
        )

    def request(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        content_type: str | None = JSON,
        **options: Any,
    ) -> Answer:
        """Send a document as JSON, or raw bytes as ``body``."""
        sent = {} if self.credential is None else {"Authorization": f"Bearer {self.credential}"}
        if document is not None:
            body = json.dumps(document).encode()
        if body is not None and content_type is not None:
            sent["Content-Type"] = content_type
        sent |= headers or {}
        response = self._pool.request(method, self.url + path, body=body, headers=sent, **options)
        answer = Answer(response.status, response.headers, response.data)
        check_form(method, path, answer)
        return answer

    def get(self, path: str, **options: Any) -> Answer:
        return self.request("GET", path, **options)

    def post(self, path: str, document: Any = None, **options: Any) -> Answer:
        return self.request("POST", path, document, **options)

    def put(self, path: str, document: Any = None, **options: Any) -> Answer:
        return self.request("PUT", path, document, **options)

    def patch(self, path: str, document: Any = None, **options: Any) -> Answer:
        return self.request("PATCH", path, document, **{"content_type": MERGE_PATCH} | options)

    def delete(self, path: str, **options: Any) -> Answer:
        return self.request("DELETE", path, **options)

    def create(self, data: Any, collection: str = "users", **members: Any) -> str:
        """Store a record and return its path."""
        made = self.post(f"/v1/collections/{collection}/records", {"data": data} | members).gives(201)
        return f"/v1/collections/{collection}/records/{made['token']}"

    def plain(self, path: str) -> Any:
        """Read a record's document in plain."""
        return self.get(f"{path}?reveal=plain").gives(200)["data"]

    def lookup(self, field: str, value: Any, collection: str = "users", **members: Any) -> Any:
        """Look up and return the answer's document."""
        body = {"field": field, "value": value} | members
        return self.post(f"/v1/collections/{collection}/records/lookup", body).gives(200)

    def audit(self, **criteria: Any) -> list[dict[str, Any]]:
        """Search the access log, newest first."""
        items: list[dict[str, Any]] = self.post("/v1/audit/search", criteria).gives(200)["items"]
        return items

    def close(self) -> None:
        self._pool.clear()


@dataclass
class Server:
    """A running ``strongroom serve``.

    Attributes:
        url: where it answers.
        credential: the administrator's.
        data: its data folder.
        log_path: what it printed.
        api: asks it, with the credential.
    """

    url: str
    credential: str = field(repr=False)
    data: Path
    log_path: Path
    process: subprocess.Popen[bytes]
    api: Api

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def database(self) -> Path:
        """The file of SQLite, for tests that are marked sqlite_only."""
        return self.data / "strongroom.db"

    def files_with(self, value: bytes, *, in_capitals_too: bool = False) -> list[str]:
        """Which files have these bytes in them: of everything that is stored, and of what it printed."""
        found = []
        for path in [
            self.log_path,
            *(path for folder in chosen_home().folders(self.data) for path in folder.rglob("*")),
        ]:
            # A database server may put a file away at any time.
            with contextlib.suppress(FileNotFoundError):
                content = path.read_bytes() if path.is_file() else b""
                if value in (content.lower() if in_capitals_too else content):
                    found.append(path.name)
        return found

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a SELECT past every layer of the vault."""
        return chosen_home().run(self.data, statement, parameters)

    def tamper(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Change rows as somebody would who got into the database."""
        chosen_home().run(self.data, statement, parameters)

    def stop(self) -> int:
        """End it as Ctrl-C would and return its exit code."""
        self.api.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                pytest.fail(f"the server did not stop within {STOP_SECONDS} s:\n{self.log}")
        return self.process.returncode

    def kill(self) -> None:
        """End it and its workers at once: the group is its own."""
        self.api.close()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def own_environment(
    extra: Mapping[str, str] | None = None, *, arguments: Sequence[str | Path] = ()
) -> dict[str, str]:
    """The environment without STRONGROOM_ variables, so that a tester's own settings do not reach a test.

    Args:
        extra: what is set beside it.
        arguments: of the command: where its vault is decides on its database.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("STRONGROOM_")}
    return kept | _key_home | variables_for(arguments) | {"PYTHONWARNINGS": "default"} | dict(extra or {})


def find_free_port() -> int:
    # Not the seeded generator: two runs beside each other would choose the same ports.
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        return port
    raise RuntimeError("no free port")


def run_strongroom(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_COMMAND, *map(str, arguments)],
        env=own_environment(environment, arguments=arguments),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **({} if "input" in options else {"stdin": subprocess.DEVNULL}),
        **options,
    )


def _wait_ready(server: Server, observer: Callable[[tuple[int, Any]], None] = lambda _seen: None) -> None:
    deadline = time.monotonic() + READY_SECONDS
    probe = urllib3.PoolManager(
        retries=False, timeout=5, ca_certs=str(server.api.ca) if server.api.ca else None
    )
    while server.process.poll() is None and time.monotonic() < deadline:
        try:
            answer = probe.request("GET", server.url + "/readyz")
            status = answer.status
            observer((status, json.loads(answer.data)))
        except urllib3.exceptions.HTTPError:
            status = None
        probe.clear()
        if status == 200:
            return
        time.sleep(0.02)
    server.kill()
    raise RuntimeError(f"the server did not become ready:\n{server.log}")


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Finds a port on loopback that nobody listens on, below those that the system gives away by itself."""
    return find_free_port


@pytest.fixture(scope="session")
def database_home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DatabaseHome]:
    """Gives the vaults of this run the database that was asked for."""
    engine = request.config.getoption("--database")
    if engine == "sqlite":
        yield chosen_home()
        return
    home = ServerHome(server_of(request, engine), tmp_path_factory.mktemp("database-home"))
    with choose(home):
        yield home


@pytest.fixture(scope="session")
def strongroom(database_home: DatabaseHome) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the real command to its end: ``strongroom("verify", "--data", folder)``; also input=, environment=, cwd=."""
    assert database_home
    return run_strongroom


@pytest.fixture(scope="session")
def key_administration(
    request: pytest.FixtureRequest, missing: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, str]]:
    """Gives the vaults of this run the key provider that was asked for; what administration needs beside it."""
    kind = request.config.getoption("--key-provider")
    if kind == "file":
        # As by default: beside the data, without any configuration.
        yield {}
        return
    with HOMES[kind](tmp_path_factory.mktemp(f"{kind}-home"), find_free_port, missing) as home:
        _key_home.update(home.provider("disk") | home.keyring("default", "disk"))
        yield home.admin("disk")
    _key_home.clear()


@pytest.fixture(scope="session")
def vault_template(
    key_administration: Mapping[str, str],
    strongroom: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A new vault made by the real ``strongroom init``, to be copied: ``data`` and ``credential`` in one folder."""
    folder = tmp_path_factory.mktemp("vault-template")
    made = strongroom(
        "init",
        *("--data", folder / "data", "--credential-file", folder / "credential"),
        environment=key_administration,
    )
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="session")
def new_vault(
    vault_template: Path, database_home: DatabaseHome, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], tuple[Path, str]]:
    """Makes a data folder with a vault of its own that nobody else writes to; gives it and its credential."""

    def make() -> tuple[Path, str]:
        data = tmp_path_factory.mktemp("vault") / "data"
        shutil.copytree(vault_template / "data", data)
        database_home.copy(vault_template / "data", data)
        return data, (vault_template / "credential").read_text().strip()

    return make


@pytest.fixture(scope="session")
def start_server(new_vault: Callable[[], tuple[Path, str]]) -> Iterator[Callable[..., Server]]:
    """Starts ``strongroom serve`` on a new vault, or on ``data=`` with ``credential=``; ends it with the session.

    ``config=`` names a configuration file instead, ``arguments=`` adds to the command line, ``environment=`` to the
    environment; ``ca=`` makes it https. Two workers, as by default.
    """
    started: list[Server] = []

    def start(
        *,
        data: Path | None = None,
        credential: str | None = None,
        config: Path | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        host: str = HOST,
        ca: Path | None = None,
        observer: Callable[[tuple[int, Any]], None] = lambda _seen: None,
    ) -> Server:
        if data is None:
            data, credential = new_vault()
        port = find_free_port()
        home = ("--data", data) if config is None else ("--config", config)
        descriptor, log_name = tempfile.mkstemp(prefix="serve-", suffix=".log", dir=data.parent)
        with os.fdopen(descriptor, "wb") as log:
            process = subprocess.Popen(
                [*_COMMAND, "serve", *map(str, home), "--listen", f"{host}:{port}", *arguments],
                env=own_environment(environment, arguments=home),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        url = f"{'https' if ca else 'http'}://{HOST}:{port}"
        server = Server(url, credential or "", data, Path(log_name), process, Api(url, credential, ca))
        started.append(server)
        _wait_ready(server, observer)
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def server(start_server: Callable[..., Server]) -> Server:
    """One server that tests share: put records of your own into it, and count on nobody else's absence."""
    # Without a background worker: a record that expires during a test is that test's to look at.
    return start_server(environment={"STRONGROOM_WORKER__WITH_SERVER": "false"})


@pytest.fixture(scope="session")
def api(server: Server) -> Api:
    """Asks the shared server with the administrator's credential."""
    return server.api


@pytest.fixture(scope="session")
def make_api() -> Iterator[Callable[..., Api]]:
    """Asks with another credential: ``make_api(server.url, "strongroom_...")``, or none at all."""
    made: list[Api] = []

    def make(url: str, credential: str | None = None) -> Api:
        made.append(Api(url, credential))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def missing() -> Callable[[str], None]:
    """Skips on a laptop what cannot run there, and fails where CI promises that everything is there."""

    def skip_or_fail(what: str) -> None:
        if os.environ.get("CI"):
            pytest.fail(f"{what} is missing, and CI is set")
        pytest.skip(f"{what} is missing")

    return skip_or_fail


@pytest.fixture(scope="session")
def chromium(missing: Callable[[str], None]) -> str:
    """The path of the distribution's Chromium."""
    path = shutil.which("chromium")
    if path is None:
        missing("chromium")
    return str(path)
