from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest

import strongroom
from strongroom import Client

TOKEN = "6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f"


@pytest.mark.parametrize(
    "server",
    [
        "http://vault.example.com",
        "http://10.0.0.1:8420",
        "http://127.0.0.1.example.com",
        "http://[2001:db8::1]:8420",
        "http://localhost.example.com",
    ],
)
def test_the_clear_way_to_another_machine_is_refused(server: Any) -> None:
    with pytest.raises(strongroom.Misconfigured, match="in the clear") as caught:
        Client(server)
    assert caught.value.code == "insecure-http"
    Client(server, insecure_http=True).close()


@pytest.mark.parametrize(
    "server",
    ["http://localhost:1", "http://127.8.9.10:1", "http://[::1]:1", "https://vault.example.com/prefix"],
)
def test_safe_addresses_are_accepted(server: Any) -> None:
    Client(server).close()


@pytest.mark.parametrize(
    "server",
    ["", "vault.example.com", "ftp://127.0.0.1", "http://", "https://user:pw@host", "https://h?q=1", "https://h#f",
     "http://[::1", "//127.0.0.1:8420"],
)  # fmt: skip
def test_other_addresses_are_refused_with_a_sentence(server: Any) -> None:
    with pytest.raises(strongroom.Misconfigured) as caught:
        Client(server)
    assert caught.value.code == "server-address"
    assert "pw" not in str(caught.value)


def test_a_prefix_stays_in_front(server: Any, credential: str) -> None:
    server.will_answer({"status": "ready"})
    with Client(f"{server.url}/vaults/one/", credential=credential) as client:
        client.ready()
    assert server.asked[0].path == "/vaults/one/readyz"


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with (
            Client(url, retries=0) as client,
            pytest.raises(strongroom.ConnectionFailed, match="refused") as caught,
        ):
            client.create("users", {})
    assert (caught.value.status, caught.value.code) == (None, "connection-refused")
    assert not caught.value.outcome_unknown


def test_a_silent_server_is_given_up_and_a_write_is_of_unknown_outcome(server: Any, credential: str) -> None:
    event = threading.Event()
    with Client(server.url, credential=credential, timeout_seconds=0.1, retries=0) as client:
        for _ in range(2):
            server.will_be_silent_for(event)
        with pytest.raises(strongroom.ConnectionFailed, match=r"within 0\.1 s") as write:
            client.create("users", {"a": "canary-7"})
        with pytest.raises(strongroom.ConnectionFailed) as read:
            client.get("users", TOKEN)
    event.set()
    assert write.value.outcome_unknown
    assert not read.value.outcome_unknown
    assert len(server.asked) == 2
    assert "canary-7" not in f"{write.value!r}{write.value.__cause__!r}"
    assert credential not in f"{write.value!r}{write.value.__cause__!r}"


def test_a_redirect_takes_the_credential_nowhere(server: Any, client: Client) -> None:
    server.will_answer(status=307, headers={"Location": f"{server.url}/elsewhere"})
    with pytest.raises(strongroom.UnexpectedAnswer):
        client.create("users", {})
    assert len(server.asked) == 1


def test_proxies_in_the_environment_are_not_used(
    server: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.will_answer({"status": "ready"})
    assert client.ready()


def test_connections_are_kept(server: Any, client: Client) -> None:
    for _ in range(5):
        server.will_answer({"status": "ready"})
        client.ready()
    assert server.connections == 1


def test_a_closed_client_says_so(client: Client) -> None:
    client.close()
    with pytest.raises(strongroom.ConnectionFailed, match="closed"):
        client.ready()


def test_exchanges_are_observed_with_nothing_personal(server: Any, credential: str) -> None:
    seen = []
    with Client(server.url, credential=credential, observer=seen.append) as client:
        server.will_refuse(409, "duplicate-value")
        with pytest.raises(strongroom.Duplicate):
            client.create("users", {"a": "canary-7"})
    assert [(e.method, e.path, e.status) for e in seen] == [("POST", "/v1/collections/users/records", 409)]
    assert "canary-7" not in repr(seen)


def test_tls_to_a_server_without_tls_fails_clearly(server: Any) -> None:
    with (
        Client(server.url.replace("http:", "https:")) as client,
        pytest.raises(strongroom.ConnectionFailed) as caught,
    ):
        client.create("users", {})
    assert caught.value.code == "tls"
    assert not caught.value.outcome_unknown


def test_certificates_are_checked() -> None:
    with Client("https://127.0.0.1:1") as client:
        context = client._session._transport._pool().conn_kw["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"nothing", "no certificate")])
def test_an_unusable_authorities_file(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(strongroom.Misconfigured, match=reason):
        Client("https://127.0.0.1:1", ca=path)
