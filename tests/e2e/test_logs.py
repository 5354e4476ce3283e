"""The log of a real server: lines of allowed fields, one for each request, and never what somebody sent."""

from __future__ import annotations

import datetime as dt
import json
import socket
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.test_canaries import canaries, leaks
from tests.metrics_folder import folder_of
from vault.config import load_configuration
from vault.core.errors import MisconfiguredError
from vault.telemetry.fields import FIELDS, allowed

if TYPE_CHECKING:
    from conftest import Server

USERS = "/v1/collections/users/records"
ALWAYS = {"time", "level", "logger", "event"}
LEVELS = {"debug", "info", "warning", "error", "critical"}
# What the command tells the one who started it, on standard output.
ANNOUNCED = ("strongroom serves ", "  API description: ", "  note: ")


@pytest.fixture(scope="module")
def own_server(start_server: Callable[..., Server]) -> Iterator[Server]:
    server = start_server()
    yield server
    server.stop()


def lines_of(server: Server) -> list[dict[str, Any]]:
    """The log's lines; nothing else stands there but what is announced."""
    texts = [text for text in server.log.splitlines() if not text.startswith(ANNOUNCED)]
    return [json.loads(text) for text in texts]


def test_every_line_is_json_with_fields_of_the_list_only(own_server: Server) -> None:
    path = own_server.api.create({"email": "lines@example.org"})
    own_server.api.get(f"{path}?reveal=plain").gives(200)
    own_server.api.get("/nothing").refuses(404, "not-found")
    lines = lines_of(own_server)
    assert len(lines) > 5
    for line in lines:
        assert ALWAYS <= line.keys() <= ALWAYS | FIELDS.keys(), line
        assert line["level"] in LEVELS
        assert line["logger"].startswith("strongroom.")
        assert dt.datetime.fromisoformat(line["time"]).utcoffset() == dt.timedelta(0)
        assert line["time"].endswith("Z")
        fields = {name: value for name, value in line.items() if name not in ALWAYS}
        assert allowed(fields) == (fields, [])


def test_every_process_says_that_it_started(own_server: Server) -> None:
    def told() -> list[tuple[str, str, int]]:
        return [
            (line["logger"], line["event"], line["pid"])
            for line in lines_of(own_server)
            if line["event"].endswith("-started")
        ]

    # The first worker answers for the server; the second may still be on its way.
    deadline = time.monotonic() + 10
    while (started := told()) and [each[1] for each in started].count("worker-started") < 2:
        assert time.monotonic() < deadline, started
        time.sleep(0.05)
    assert started[0] == ("strongroom.server", "server-started", own_server.pid)
    assert [each[:2] for each in started].count(("strongroom.server", "worker-started")) == 2
    assert len({pid for _, _, pid in started}) == len(started)


def test_every_request_is_one_line_under_its_route(own_server: Server) -> None:
    api = own_server.api
    path = api.create({"n": 1})
    answers = [
        (api.get(path), "GET", "/v1/collections/{collection}/records/{token}"),
        (api.delete(path), "DELETE", "/v1/collections/{collection}/records/{token}"),
        (api.get(path), "GET", "/v1/collections/{collection}/records/{token}"),
        (api.get("/healthz"), "GET", "/healthz"),
        (api.get("/nothing/at/all"), "GET", "unmatched"),
        (
            api.post("/v1/collections/users/records", {"data": 1}),
            "POST",
            "/v1/collections/{collection}/records",
        ),
        (api.request("BREW", "/healthz"), "other", "unmatched"),
    ]
    lines = [line for line in lines_of(own_server) if line["event"] == "request"]
    for answer, method, route in answers:
        (line,) = [line for line in lines if line["request_id"] == answer.headers["Request-Id"]]
        assert (line["method"], line["route"], line["status"]) == (method, route, answer.status)
        assert line["milliseconds"] > 0
        assert line.keys() == ALWAYS | {"request_id", "route", "method", "status", "milliseconds"}


def send_everywhere(server: Server, n: int, value: dict[str, str]) -> None:
    """One value of each kind in every place of a request."""
    api = server.api
    path = api.create(value | {value["free"]: value["free"]})
    for kind in ("email", "phone", "login"):
        api.lookup(kind, value[kind])
    for kind, text in value.items():
        quoted = urllib.parse.quote(text, safe="")
        header = quoted if kind == "free" else text.encode("ascii", "ignore").decode()
        api.get(f"{USERS}/{quoted}")
        api.get(f"{path}?fields={quoted}")
        api.get(f"{path}?{quoted}={quoted}&reveal={quoted}")
        api.get(f"/{quoted}")
        api.get(f"/v1/{quoted}/{quoted}")
        api.get(f"/docs/assets/{quoted}.js")
        api.get(f"/metrics?{quoted}={quoted}")
        api.get("/metrics", headers={"X-Forwarded-For": header, "Forwarded": header})
        api.put(f"/v1/collections/{quoted}", {"schema": {}, "settings": {}})
        api.put(f"/v1/collections/c{n}", {"schema": {"properties": {text: 1}}, "settings": {text: text}})
        api.post(f"/v1/collections/{quoted}/records", {"data": value})
        api.post(USERS, {"data": {"email": {text: text}}, text: text, "region": text, "expires_at": text})
        api.post(USERS, body=text.encode())
        api.post(USERS, {"data": {}}, content_type=f"application/{header}")
        api.post(f"{USERS}/lookup", {"field": text, "value": text})
        api.post(f"{USERS}/bulk", {"operations": [{"op": text, "data": value, "token": text}]})
        api.post("/v1/audit/search", {"purpose": [text], "principal": text})
        names = ("Strongroom-Purpose", "If-Match", "Idempotency-Key", "User-Agent", "Referer", "Cookie")
        for name in (*names, "Host", "Accept", "Request-Id", "X-Request-Id", "Authorization"):
            api.request("PUT", path, {"data": {"n": 1}}, headers={name: header})
        api.get(path, headers={"Authorization": f"Bearer {header}"})
        api.get(path, headers={"Authorization": f"Bearer strongroom_{header}"})
        raw(server, f"{header.split()[0].upper()} /{quoted} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        raw(server, f"GET /{text} HTTP/1.1\r\n{text}: {text}\r\n\r\n")


def raw(server: Server, text: str) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=30)) as connection:
        connection.sendall(text.encode())
        connection.recv(65_536)


def test_nothing_that_was_sent_is_found_in_log_or_metrics(own_server: Server) -> None:
    values = canaries()
    assert sum(map(len, values.values())) == 100
    for n in range(20):
        send_everywhere(own_server, n, {kind: each[n] for kind, each in values.items()})
    metrics = own_server.api.get("/metrics").body
    written = {file.name: file.read_bytes() for file in folder_of(own_server.pid).iterdir()}
    where = {"log": own_server.log_path.read_bytes(), "metrics": metrics} | written
    # The scan looks at the right bytes: all of these requests are there, under routes.
    assert where["log"].count(b'"route":"unmatched"') > 100
    assert b'route="unmatched"' in metrics
    assert any(b'"unmatched"' in content for content in written.values())
    assert leaks(values, where) == []
    assert not [line for line in lines_of(own_server) if "dropped" in line]
    assert not [line for line in lines_of(own_server) if line["level"] in {"error", "critical"}]


def test_the_level_decides_what_is_written(start_server: Callable[..., Server]) -> None:
    server = start_server(environment={"STRONGROOM_LOGS__LEVEL": "warning"})
    server.api.create({"n": 1})
    assert lines_of(server) == []
    server.stop()
    assert lines_of(server) == []


def test_the_form_can_be_text(start_server: Callable[..., Server]) -> None:
    server = start_server(environment={"STRONGROOM_LOGS__FORMAT": "text"})
    answer = server.api.get("/healthz")
    (line,) = [text for text in server.log.splitlines() if answer.headers["Request-Id"] in text]
    assert " info     strongroom.requests: request request_id=" in line
    assert " route=/healthz method=GET status=200 milliseconds=" in line
    server.stop()


@pytest.mark.parametrize(
    ("section", "wrong"),
    [({"level": "loud"}, "logs.level"), ({"format": "xml"}, "logs.format"), ({"file": "x"}, "logs.file")],
)
def test_a_wrong_setting_stops_the_start(section: dict[str, str], wrong: str) -> None:
    with pytest.raises(MisconfiguredError, match=wrong):
        load_configuration(None, None, {"logs": section})
