"""How the transit provider logs in, keeps its token and notices that it lost it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from keyproviders import transit_login, transit_session
from keyproviders.errors import (
    KeyProviderError,
    ProviderCredentialError,
    ProviderDeniedError,
    ProviderMisconfiguredError,
    ProviderUnavailableError,
)
from keyproviders.interface import HealthStatus, SecretBytes, UnwrapItem, WrapItem, WrappedKey
from keyproviders.transit import TransitKeyProvider
from keyproviders.transit_policies import PolicyKind, policy
from keyproviders.transit_wire import TransitWire
from tests.servers.openbao import KEY, TransitBench

LOGIN, RENEWAL, LOOKUP = "auth/approle/login", "auth/token/renew-self", "auth/token/lookup-self"


@pytest.fixture
def bench(transit: TransitBench) -> TransitBench:
    transit.server.write(f"{transit.mount}/keys/{KEY}", type="aes256-gcm96")
    return transit


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of all requests."""
    paths: list[str] = []
    send = TransitWire.send

    def recording(self: TransitWire, method: str, path: str, *arguments: Any, **options: Any) -> Any:
        paths.append(path)
        return send(self, method, path, *arguments, **options)

    monkeypatch.setattr(TransitWire, "send", recording)
    return paths


class Clock:
    """The monotonic clock, which a test can put forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(transit_login, "time", made)
    monkeypatch.setattr(transit_session, "time", made)
    return made


def token_of(provider: TransitKeyProvider) -> str:
    token = provider._session._by_process[os.getpid()]._token
    assert token is not None
    return token.text.reveal().decode()


def canary_of(provider: TransitKeyProvider) -> UnwrapItem:
    (made,) = provider.generate(KEY, 1, [b""])
    assert not isinstance(made, KeyProviderError)
    return UnwrapItem(made.wrapped, b"")


def revoke(bench: TransitBench, token: str) -> None:
    assert bench.server.request("POST", "auth/token/revoke", {"token": token})[0] == 204


def secret_file(auth: dict[str, Any], name: str = "secret_id") -> Path:
    return Path(auth[name]["file"])


def test_nothing_is_sent_before_the_first_call(bench: TransitBench, sent: list[str]) -> None:
    provider = bench.provider(bench.role(PolicyKind.RUNTIME))
    provider.capabilities()
    assert sent == []
    provider.key_info(KEY)
    provider.key_info(KEY)
    assert sent == [LOGIN, f"{bench.mount}/keys/{KEY}", f"{bench.mount}/keys/{KEY}"]


def test_a_revoked_token_costs_one_login(bench: TransitBench, sent: list[str]) -> None:
    provider = bench.provider(bench.role(PolicyKind.RUNTIME))
    canary = canary_of(provider)
    old = token_of(provider)
    revoke(bench, old)
    sent.clear()
    assert provider.health(canary).status is HealthStatus.OK
    assert token_of(provider) != old
    decrypt = f"{bench.mount}/decrypt/{KEY}"
    assert sent == [decrypt, LOOKUP, LOGIN, decrypt]


def test_an_expired_token_costs_one_login(bench: TransitBench, sent: list[str]) -> None:
    provider = bench.provider(bench.role(PolicyKind.RUNTIME, token_ttl="1s", token_max_ttl="1s"))
    canary = canary_of(provider)
    time.sleep(1.1)
    sent.clear()
    assert provider.health(canary).status is HealthStatus.OK
    assert sent == [LOGIN, f"{bench.mount}/decrypt/{KEY}"]


def test_a_token_is_renewed_in_time(bench: TransitBench, sent: list[str], clock: Clock) -> None:
    provider = bench.provider(bench.role(PolicyKind.RUNTIME, token_ttl="60s"))
    canary = canary_of(provider)
    token = token_of(provider)
    clock.ahead = 39
    provider.unwrap([canary])
    assert RENEWAL not in sent
    for seconds in (41, 82, 123):
        clock.ahead = seconds
        provider.unwrap([canary])
        provider.unwrap([canary])
    assert sent.count(RENEWAL) == 3
    assert sent.count(LOGIN) == 1
    assert token_of(provider) == token


def test_a_token_near_its_longest_life_is_replaced_in_time(
    bench: TransitBench, sent: list[str], clock: Clock
) -> None:
    provider = bench.provider(bench.role(PolicyKind.RUNTIME, token_ttl="5s", token_max_ttl="5s"))
    canary = canary_of(provider)
    token = token_of(provider)
    time.sleep(3.6)  # the server's clock: the next renewal can give 2 s of 5, whichever way it rounds
    provider.unwrap([canary])
    assert sent.count(RENEWAL) == 1
    assert sent.count(LOGIN) == 2
    assert token_of(provider) != token
    clock.ahead = 1
    provider.unwrap([canary])
    assert sent.count(LOGIN) == 2


def test_a_renewal_that_fails_leaves_the_token_at_work(
    bench: TransitBench, clock: Clock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    provider = bench.provider(bench.role(PolicyKind.RUNTIME, token_ttl="60s"))
    canary = canary_of(provider)

    def away(*_: Any) -> None:
        raise ProviderUnavailableError("away", provider="bao")

    monkeypatch.setattr(transit_session, "renew", away)
    clock.ahead = 41
    assert provider.health(canary).status is HealthStatus.OK
    assert "goes on until its end: away" in caplog.text
    caplog.clear()
    assert provider.health(canary).status is HealthStatus.OK
    assert not caplog.records  # not asked again at once
    clock.ahead = 61
    assert provider.health(canary).status is HealthStatus.OK


def test_a_used_up_secret_id_is_not_tried_in_a_loop(bench: TransitBench, sent: list[str]) -> None:
    auth = bench.role(PolicyKind.RUNTIME, secret_id_num_uses=1)
    provider = bench.provider(auth)
    canary = canary_of(provider)
    revoke(bench, token_of(provider))
    sent.clear()
    for _ in range(4):
        health = provider.health(canary)
        assert health.status is HealthStatus.AUTH
        assert "secret id" in health.detail
    assert sent.count(LOGIN) == 1
    with pytest.raises(ProviderCredentialError):
        provider.generate(KEY, 1, [b""])
    role = bench.server.request("LIST", "auth/approle/role")[1]["data"]["keys"]
    newest = max(role, key=lambda name: int(name.removeprefix("role") or 0))
    secret_file(auth).write_text(bench.server.write(f"auth/approle/role/{newest}/secret-id")["secret_id"])
    assert provider.health(canary).status is HealthStatus.OK


@pytest.mark.parametrize("change", [{"role_id": "nobody"}, {"mount": "elsewhere"}, {"secret_id": None}])
def test_a_login_that_is_refused(bench: TransitBench, change: dict[str, Any]) -> None:
    auth = bench.role(PolicyKind.RUNTIME) | change
    if auth["secret_id"] is None:
        auth["secret_id"] = bench.secret("wrong")
    with pytest.raises(ProviderCredentialError, match="refuses the AppRole"):
        bench.provider(auth).key_info(KEY)


def test_a_denied_call_is_told_apart_and_costs_no_login(bench: TransitBench, sent: list[str]) -> None:
    provider = bench.provider(bench.role(PolicyKind.RUNTIME))
    provider.key_info(KEY)
    sent.clear()
    for _ in range(2):
        with pytest.raises(ProviderDeniedError, match="policies") as caught:
            provider.key_info("another")
        assert not isinstance(caught.value, ProviderCredentialError)
    assert LOGIN not in sent


def test_an_older_token_is_replaced_before_a_denial_counts(
    bench: TransitBench, sent: list[str], clock: Clock
) -> None:
    """Whoever gives the role another policy helps at once, not when the token ends."""
    auth = bench.role(PolicyKind.RUNTIME)
    provider = bench.provider(auth)
    provider.key_info(KEY)
    clock.ahead = 31
    sent.clear()
    with pytest.raises(ProviderDeniedError):
        provider.key_info("another")
    asked = f"{bench.mount}/keys/another"
    assert sent == [asked, LOGIN, asked]


def test_a_static_token(bench: TransitBench) -> None:
    text = policy(PolicyKind.RUNTIME, bench.mount, KEY)
    auth: dict[str, Any] = {"method": "token", "token": bench.secret(bench.token(text, ttl="1h"))}
    provider = bench.provider(auth)
    canary = canary_of(provider)
    with pytest.raises(ProviderDeniedError, match="policies"):
        provider.key_info("another")
    revoke(bench, token_of(provider))
    for _ in range(2):
        assert provider.health(canary).status is HealthStatus.AUTH
    with pytest.raises(ProviderCredentialError, match="put a new one in its place"):
        provider.key_info(KEY)
    secret_file(auth, "token").write_text(bench.token(text))
    assert provider.health(canary).status is HealthStatus.OK
    assert bench.provider({"method": "token", "token": bench.secret("s.wrong")}).health(canary).status is (
        HealthStatus.AUTH
    )


def test_a_token_of_an_operator_survives_close_and_one_of_ours_does_not(bench: TransitBench) -> None:
    token = bench.token(policy(PolicyKind.RUNTIME, bench.mount, KEY))
    static = bench.provider({"method": "token", "token": bench.secret(token)})
    static.key_info(KEY)
    static.close()
    assert bench.server.request("GET", LOOKUP, token=token)[0] == 200
    ours = bench.provider(bench.role(PolicyKind.RUNTIME))
    ours.key_info(KEY)
    token = token_of(ours)
    ours.close()
    assert bench.server.request("GET", LOOKUP, token=token)[0] == 403


def test_a_secret_that_went_away(bench: TransitBench) -> None:
    auth = bench.role(PolicyKind.RUNTIME)
    provider = bench.provider(auth)
    secret_file(auth).unlink()
    with pytest.raises(ProviderMisconfiguredError, match="cannot be read"):
        provider.key_info(KEY)


def test_threads_share_one_login_and_never_mix_answers(bench: TransitBench, sent: list[str]) -> None:
    provider = bench.provider(bench.role(PolicyKind.RUNTIME))
    start = threading.Barrier(12)

    def work(_: int) -> bool:
        start.wait()
        for _ in range(15):
            plaintext = SecretBytes(os.urandom(32))
            (wrapped,) = provider.wrap(KEY, 1, [WrapItem(plaintext, b"")])
            assert isinstance(wrapped, WrappedKey)
            (opened,) = provider.unwrap([UnwrapItem(wrapped, b"")])
            assert isinstance(opened, SecretBytes)
            if opened.reveal() != plaintext.reveal():
                return False
        return True

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(work, range(12)))
    assert sent.count(LOGIN) == 1


def test_threads_that_wait_for_a_login_share_its_failure(bench: TransitBench, sent: list[str]) -> None:
    provider = bench.provider(bench.role(PolicyKind.RUNTIME), url="https://127.0.0.1:9")
    start = threading.Barrier(8)

    def work(_: int) -> type[BaseException] | None:
        start.wait()
        try:
            provider.key_info(KEY)
        except ProviderUnavailableError as error:
            return type(error)
        return None

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(work, range(8))) == {ProviderUnavailableError}
    assert 1 <= sent.count(LOGIN) <= 8


def test_each_process_logs_in_for_itself(
    bench: TransitBench, exit_code_of_child: Callable[[Callable[[], None]], int]
) -> None:
    provider = bench.provider(bench.role(PolicyKind.RUNTIME))
    canary = canary_of(provider)
    token = token_of(provider)

    def child() -> None:
        assert provider.health(canary).status is HealthStatus.OK
        assert token_of(provider) != token
        provider.close()

    assert exit_code_of_child(child) == 0
    assert provider.health(canary).status is HealthStatus.OK
    assert token_of(provider) == token


def test_the_administration_door_has_its_own_login(bench: TransitBench) -> None:
    runtime = bench.role(PolicyKind.RUNTIME, "other")
    administration = bench.administration(bench.role(PolicyKind.ADMINISTRATION, "other"))
    assert administration.create("other") == 1
    with pytest.raises(ProviderDeniedError):
        bench.administration(runtime).rotate("other")
    assert administration.rotate("other") == 2
