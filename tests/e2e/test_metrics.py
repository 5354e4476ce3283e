"""/metrics of a real server: sums over its workers, also after one was killed, and what is left in the end."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import urllib3
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

import vault
from tests.metrics_folder import folder_of
from vault.telemetry.metrics import METRICS

if TYPE_CHECKING:
    from conftest import Api, Server

RECORDS = "/v1/collections/{collection}/records"
WAIT_SECONDS = 30.0
IN_PROGRESS = "strongroom_requests_in_progress"


@pytest.fixture(scope="module")
def own_server(start_server: Callable[..., Server]) -> Iterator[Server]:
    """A server whose numbers only this module moves."""
    server = start_server()
    yield server
    server.stop()


def numbers(server: Server) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels."""
    text = server.api.get("/metrics").body.decode()
    return {
        (each.name, frozenset(each.labels.items())): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def number(server: Server, name: str, **labels: str) -> float:
    return numbers(server).get((name, frozenset(labels.items())), 0)


def requests(server: Server, method: str, status: int, route: str = RECORDS) -> float:
    return number(server, "strongroom_requests_total", route=route, method=method, status=str(status))


def workers(server: Server) -> list[int]:
    """The processes that answer requests."""
    pids = [int(file.stem) for file in folder_of(server.pid).glob("*.alive")]
    return [pid for pid in pids if b"\0serve\0" in command_of(pid)]


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


def written_by(server: Server, pid: int, kind: str) -> dict[str, float]:
    """What one process has in its own file: the keys of prometheus-client, and values."""
    file = folder_of(server.pid) / f"{kind}_{pid}.db"
    return {key: value for key, value, *_ in MmapedDict.read_all_values_from_file(str(file))}  # type: ignore[no-untyped-call]


def create_over_new_connections(server: Server, many: int) -> None:
    """Each on a connection of its own, so that all workers get some."""
    for number in range(many):
        made = server.api.post(
            "/v1/collections/users/records", {"data": {"n": number}}, headers={"Connection": "close"}
        )
        made.gives(201)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_what_all_workers_did_is_summed(own_server: Server) -> None:
    before = numbers(own_server)
    many, entries = 0, ("strongroom_audit_entries_total", "record.create")
    # Until each worker has had some; with many connections that is soon.
    while many < 20 or not all(
        any('"strongroom_requests_total"' in key and RECORDS in key for key in written)
        for written in (written_by(own_server, pid, "counter") for pid in workers(own_server))
    ):
        assert many < 2_000
        create_over_new_connections(own_server, 10)
        many += 10
    assert len(workers(own_server)) == 2

    def grown(name: str, **labels: str) -> float:
        key = (name, frozenset(labels.items()))
        return after.get(key, 0) - before.get(key, 0)

    after = numbers(own_server)
    labels = {"route": RECORDS, "method": "POST"}
    assert grown("strongroom_requests_total", **labels, status="201") == many
    assert grown("strongroom_request_seconds_count", **labels) == many
    assert grown("strongroom_request_seconds_bucket", **labels, le="+Inf") == many
    assert grown(entries[0], action=entries[1], result="done") == many
    # Each worker makes one more when it proves its key version, soon after its start.
    generated = {many, many + 1, many + 2}
    calls = {"provider": "disk", "operation": "generate"}
    assert grown("strongroom_provider_calls_total", **calls, outcome="ok") in generated
    assert grown("strongroom_provider_call_seconds_count", **calls) in generated
    assert grown("strongroom_database_wait_seconds_count") >= many
    assert grown("strongroom_database_transaction_seconds_count", kind="write") >= many
    assert after[IN_PROGRESS, frozenset()] == 1
    assert after["strongroom_info", frozenset({("version", vault.__version__)})] == 1


def test_every_name_and_label_is_one_that_is_documented(own_server: Server) -> None:
    own_server.api.create({"email": "metrics@example.org"})
    for name, labels in numbers(own_server):
        plain = name if name in METRICS else re.sub(r"_(bucket|sum|count)$", "", name)
        assert {label for label, _ in labels} - {"le"} == set(METRICS[plain].labels), name


def test_a_worker_that_is_killed_leaves_right_numbers(own_server: Server) -> None:
    server = own_server
    create_over_new_connections(server, 20)
    before = requests(server, "POST", 201)
    old = workers(server)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(
            b"POST /v1/collections/users/records HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer " + server.credential.encode() + b"\r\nContent-Length: 100\r\n\r\n{"
        )
        wait_until(lambda: number(server, IN_PROGRESS) == 2, "the slow request is in progress")
        (busy,) = [pid for pid in old if 1.0 in written_by(server, pid, "gauge_livesum").values()]
        os.kill(busy, signal.SIGKILL)
        wait_until(lambda: len(set(workers(server)) - set(old)) == 1, "a new worker")
    wait_until(lambda: is_answering(server), "the server answers")
    assert number(server, IN_PROGRESS) == 1
    assert requests(server, "POST", 201) == before
    create_over_new_connections(server, 20)
    assert requests(server, "POST", 201) == before + 20
    assert busy not in workers(server)
    assert '"event":"worker-exited"' in server.log


def is_answering(server: Server) -> bool:
    try:
        return server.api.get("/healthz").status == 200
    except urllib3.exceptions.HTTPError:
        return False


def test_the_background_worker_is_in_the_sum(own_server: Server) -> None:
    def looked() -> float:
        return number(own_server, "strongroom_job_last_success_timestamp_seconds", job="expire")

    wait_until(lambda: looked() > 0, "the job that expires records has looked")
    assert abs(looked() - time.time()) < 300


def test_no_credential_is_asked_for_and_none_is_looked_at(
    own_server: Server, make_api: Callable[..., Api]
) -> None:
    for credential in (None, "strongroom_" + "A" * 43, own_server.credential):
        answer = make_api(own_server.url, credential).get("/metrics")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_through_a_proxy_it_is_refused(own_server: Server) -> None:
    for header in ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via"):
        refused = own_server.api.get("/metrics", headers={header: "127.0.0.1"})
        refused.refuses(403, "metrics-loopback-only")


def test_from_another_address_it_is_refused(
    start_server: Callable[..., Server], missing: Callable[[str], None], make_api: Callable[..., Api]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent: only asks which address of ours would be used
            (address, _) = probe.getsockname()
        except OSError:
            address = "127.0.0.1"
    if address.startswith("127."):
        missing("a network address beside loopback")
    server = start_server(host="0.0.0.0", environment={"STRONGROOM_SERVER__INSECURE_HTTP": "true"})  # noqa: S104
    port = server.url.rpartition(":")[2]
    outside = make_api(f"http://{address}:{port}")
    outside.get("/healthz").gives(200)
    outside.get("/metrics").refuses(403, "metrics-loopback-only")
    assert server.api.get("/metrics").status == 200
    server.stop()


def test_in_the_end_nothing_is_left(start_server: Callable[..., Server]) -> None:
    server = start_server()
    folder = folder_of(server.pid)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert server.stop() == 0
    assert not folder.exists()


def test_what_a_killed_server_left_is_cleared_away_by_the_next(start_server: Callable[..., Server]) -> None:
    killed = start_server()
    killed.api.create({"n": 1})
    left = folder_of(killed.pid)
    killed.kill()
    assert left.exists()
    again = start_server(data=killed.data, credential=killed.credential)
    assert not left.exists()
    # Numbers start anew with the server, as Prometheus expects of counters.
    assert requests(again, "POST", 201) == 0
    again.stop()
