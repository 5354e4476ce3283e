"""/metrics: whom it answers, and under which route a request is counted and logged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from vault import bootstrap
from vault.api.app import create_app
from vault.api.metrics import FORWARDING_HEADERS
from vault.audit.events import Action, AuditEvent, Result
from vault.config import load_configuration
from vault.core.errors import UnavailableError
from vault.telemetry.metrics import Metrics

CANARY = "qanary.xylo@example.org"
Opened = tuple[bootstrap.Vault, FlaskClient, dict[str, str]]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("vault") / "data"
    return folder, bootstrap.create_vault(load_configuration(None, folder)).text


@pytest.fixture
def opened(data: tuple[Path, str]) -> Iterator[Opened]:
    vault = bootstrap.open_vault(load_configuration(None, data[0]), Metrics("1.2.3"))
    yield vault, create_app(vault.services).test_client(), {"Authorization": f"Bearer {data[1]}"}
    vault.close()


def from_address(client: FlaskClient, address: str | None, **headers: str) -> tuple[int, Any]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = client.get("/metrics", headers=sent, environ_overrides={"REMOTE_ADDR": address})
    return answer.status_code, answer


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_a_caller_on_this_machine_is_answered(opened: Opened, address: str) -> None:
    status, answer = from_address(opened[1], address)
    assert status == 200
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    "address",
    ["192.0.2.1", "10.0.0.1", "128.0.0.1", "2001:db8::1", "::ffff:192.0.2.1", "::", "0.0.0.0", "", "x", None],  # noqa: S104
)
def test_a_caller_elsewhere_is_refused(opened: Opened, address: str | None) -> None:
    status, answer = from_address(opened[1], address)
    assert status == 403
    assert answer.get_json()["type"] == "urn:strongroom:error:metrics-loopback-only"
    assert b"strongroom_" not in answer.data


@pytest.mark.parametrize("header", FORWARDING_HEADERS)
@pytest.mark.parametrize("value", ["127.0.0.1", "for=127.0.0.1", "", "192.0.2.1"])
def test_whoever_comes_through_a_proxy_is_refused(opened: Opened, header: str, value: str) -> None:
    status, answer = from_address(opened[1], "127.0.0.1", **{header: value})
    assert (status, answer.get_json()["status"]) == (403, 403)
    assert b"strongroom_" not in answer.data


def requests_counted(client: FlaskClient) -> dict[tuple[str, str, str], float]:
    text = client.get("/metrics").text
    return {
        (each.labels["route"], each.labels["method"], each.labels["status"]): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if each.name == "strongroom_requests_total"
    }


def test_a_request_is_counted_under_the_pattern_of_its_route(opened: Opened) -> None:
    _, client, headers = opened
    records = "/v1/collections/users/records"
    created = client.post(records, json={"data": {"email": CANARY}}, headers=headers)
    path = created.headers["Location"]
    client.get(path, headers=headers)
    client.head(path, headers=headers)
    client.get(path)
    client.get(f"{records}/{CANARY}", headers=headers)
    client.get(f"/v1/collections/{CANARY}", headers=headers)
    client.get(f"/docs/assets/{CANARY}")
    client.get(f"/{CANARY}")
    client.put("/healthz")
    client.open("/healthz", method=CANARY.upper())
    client.delete(path, headers=headers)
    pattern = "/v1/collections/{collection}/records"
    assert requests_counted(client) == {
        (pattern, "POST", "201"): 1,
        (f"{pattern}/{{token}}", "GET", "200"): 1,
        (f"{pattern}/{{token}}", "HEAD", "200"): 1,
        (f"{pattern}/{{token}}", "GET", "401"): 1,
        (f"{pattern}/{{token}}", "GET", "404"): 1,
        (f"{pattern}/{{token}}", "DELETE", "204"): 1,
        ("/v1/collections/{collection}", "GET", "404"): 1,
        ("/docs/assets/{name}", "GET", "404"): 1,
        ("unmatched", "GET", "404"): 1,
        ("unmatched", "PUT", "405"): 1,
        ("unmatched", "other", "405"): 1,
    }


def test_an_error_that_nobody_foresaw_is_counted_and_ends_the_request(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, client, headers = opened

    def fails(*_: object) -> None:
        raise ValueError(CANARY)

    monkeypatch.setattr(type(vault.services.collections), "show_all", fails)
    assert client.get("/v1/collections", headers=headers).status_code == 500
    assert requests_counted(client) == {("/v1/collections", "GET", "500"): 1}
    assert "strongroom_requests_in_progress 1.0" in client.get("/metrics").text


def test_a_log_that_cannot_be_written_is_counted(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    vault, client, headers = opened

    def fails(*_: object) -> None:
        raise UnavailableError("Not now.", code="store-unavailable")

    monkeypatch.setattr(type(vault.stores.audit), "append", fails)
    assert client.post("/v1/collections/users/records", data=b"{", headers=headers).status_code == 503
    assert client.get("/v1/nothing", headers=headers).status_code == 503
    assert "strongroom_audit_failures_total 2.0" in client.get("/metrics").text


def test_entries_that_lost_their_transaction_are_not_counted(opened: Opened) -> None:
    _, client, headers = opened
    body = {"data": {"email": f"twice.{CANARY}"}}
    assert client.post("/v1/collections/users/records", json=body, headers=headers).status_code == 201
    assert client.post("/v1/collections/users/records", json=body, headers=headers).status_code == 409
    text = client.get("/metrics").text
    assert 'strongroom_audit_entries_total{action="record.create",result="done"} 1.0' in text
    assert 'strongroom_audit_entries_total{action="record.create",result="refused"} 1.0' in text


def test_an_entry_that_is_rolled_back_with_its_transaction_is_not_counted(opened: Opened) -> None:
    vault, client, _ = opened
    event = AuditEvent(action=Action.RECORD_READ, result=Result.RELEASED, tenant="default")
    entry = vault.services.trail.entry(event)
    with pytest.raises(UnavailableError):
        vault.stores.audit.append([entry, entry])
    assert "strongroom_audit_entries_total{" not in client.get("/metrics").text
    assert 'strongroom_database_failures_total{reason="constraint"} 1.0' in client.get("/metrics").text
    vault.services.trail.append(event, event)
    counted = 'strongroom_audit_entries_total{action="record.read",result="released"} 2.0'
    assert counted in client.get("/metrics").text


def test_every_transaction_is_timed_and_every_failure_has_its_reason(opened: Opened) -> None:
    vault, client, _ = opened
    count = 'strongroom_database_transaction_seconds_count{kind="write"} '

    def written() -> str:
        return next((line for line in client.get("/metrics").text.splitlines() if line.startswith(count)), "")

    before = written()
    with vault.engine.write():
        pass
    with pytest.raises(UnavailableError), vault.engine.write() as database:
        database.execute_sql("INSERT INTO nothing VALUES (1)")
    assert written() == f"{count}{float(before.removeprefix(count) or 0) + 2}"
    assert 'strongroom_database_failures_total{reason="other"} 1.0' in client.get("/metrics").text


def test_definitions_found_in_the_cache_are_hits(opened: Opened) -> None:
    _, client, headers = opened
    for _ in range(3):
        client.get("/v1/collections/users", headers=headers)
    text = client.get("/metrics").text
    assert 'strongroom_cache_requests_total{cache="collection_definitions",outcome="miss"} 1.0' in text
    assert 'strongroom_cache_requests_total{cache="collection_definitions",outcome="hit"} 2.0' in text


def test_a_request_is_one_line_and_names_itself(
    opened: Opened, written: Callable[[], list[dict[str, Any]]]
) -> None:
    _, client, headers = opened
    answer = client.get(f"/v1/collections/users/records/{CANARY}?reveal={CANARY}", headers=headers)
    (line,) = written()
    assert line.pop("time")
    assert line.pop("milliseconds") > 0
    assert line == {
        "level": "info",
        "logger": "strongroom.requests",
        "event": "request",
        "request_id": answer.headers["Request-Id"],
        "route": "/v1/collections/{collection}/records/{token}",
        "method": "GET",
        "status": answer.status_code,
    }
