"""The transit provider while its server is away, sealed, silent, throttling or not the one it should be."""

from __future__ import annotations

import _ssl
import base64
import ctypes
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderDeniedError,
    ProviderMisconfiguredError,
    ProviderSealedError,
    ProviderThrottledError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import HealthStatus, SecretBytes, UnwrapItem, WrapItem, WrappedKey
from keyproviders.transit import TransitKeyProvider
from keyproviders.transit_policies import PolicyKind
from tests.servers.openbao import KEY, TransitBench
from vault.cli.dev_openbao import OpenBao, write_certificates


@pytest.fixture
def own(own_openbao: OpenBao, tmp_path: Path) -> Iterator[TransitBench]:
    bench = TransitBench(own_openbao, tmp_path)
    bench.server.write(f"{bench.mount}/keys/{KEY}", type="aes256-gcm96")
    yield bench
    bench.close()


@pytest.fixture
def shared(transit: TransitBench) -> TransitBench:
    transit.server.write(f"{transit.mount}/keys/{KEY}", type="aes256-gcm96")
    return transit


def wrapped_by(provider: TransitKeyProvider, version: int = 1) -> UnwrapItem:
    (made,) = provider.generate(KEY, version, [b""])
    assert not isinstance(made, KeyProviderError)
    return UnwrapItem(made.wrapped, b"")


def unwraps(provider: TransitKeyProvider, item: UnwrapItem) -> bool:
    (opened,) = provider.unwrap([item])
    return isinstance(opened, SecretBytes)


def error_of(provider: TransitKeyProvider, item: UnwrapItem) -> type[Any]:
    (result,) = provider.unwrap([item])
    return type(result)


def test_sealed_and_unsealed_again(own: TransitBench) -> None:
    provider = own.provider(own.role(PolicyKind.RUNTIME))
    canary = wrapped_by(provider)
    own.server.seal()
    try:
        for call in (
            lambda: provider.unwrap([canary]),
            lambda: provider.generate(KEY, 1, [b""]),
            lambda: provider.rewrap([canary], 1),
            lambda: provider.key_info(KEY),
        ):
            with pytest.raises(ProviderSealedError, match="unseal"):
                call()
        assert provider.health(canary).status is HealthStatus.SEALED
        with pytest.raises(ProviderSealedError):
            own.provider(own.root()).key_info(KEY)
    finally:
        own.server.unseal()
    assert unwraps(provider, canary)
    assert provider.health(canary).status is HealthStatus.OK


def test_refused_and_restarted_under_kept_connections(own: TransitBench) -> None:
    provider = own.provider(own.role(PolicyKind.RUNTIME))
    canary = wrapped_by(provider)
    own.server.stop()
    try:
        with pytest.raises(ProviderUnavailableError, match="refuses connections"):
            provider.unwrap([canary])
        assert provider.health(canary).status is HealthStatus.DOWN
    finally:
        own.server.start()
    assert unwraps(provider, canary)
    own.server.stop()
    own.server.start()
    assert unwraps(provider, canary)


@contextmanager
def silent(pid: int) -> Iterator[None]:
    """Stop a process with all its threads, and wait until they have: a signal takes its time."""
    os.kill(pid, signal.SIGSTOP)
    try:
        while {state_of(thread) for thread in Path(f"/proc/{pid}/task").iterdir()} != {"T"}:
            time.sleep(0.005)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def state_of(thread: Path) -> str:
    return (thread / "stat").read_text().rpartition(")")[2].split()[0]


def test_a_silent_server_is_given_up(own: TransitBench) -> None:
    provider = own.provider(own.role(PolicyKind.RUNTIME), read_timeout_seconds=0.3)
    canary = wrapped_by(provider)
    fresh = own.provider(own.root(), connect_timeout_seconds=0.3, read_timeout_seconds=0.3)
    with silent(own.server.pid):
        with pytest.raises(ProviderUnavailableError, match=r"did not answer within 0\.3 s"):
            provider.unwrap([canary])
        # It has to connect first, and the handshake gets no answer either.
        with pytest.raises(ProviderUnavailableError, match="did not"):
            fresh.key_info(KEY)
    assert unwraps(provider, canary)


def test_an_openssl_error_of_another_library_is_not_ours(shared: TransitBench) -> None:
    """As SoftHSM leaves one in the thread that initialises it, when keyrings of both kinds are in one server."""
    try:
        openssl = ctypes.CDLL(_ssl.__file__)
        leave = (openssl.ERR_new, openssl.ERR_set_error)
    except (AttributeError, OSError):
        pytest.skip("this Python has its OpenSSL inside")
    provider = shared.provider(shared.role(PolicyKind.RUNTIME))
    canary = wrapped_by(provider)
    for _ in range(5):
        leave[0]()
        leave[1](38, 116, None)  # "no such engine"
        assert unwraps(provider, canary)


def test_a_rate_limit_is_told_apart(own: TransitBench) -> None:
    provider = own.provider(own.root())
    canary = wrapped_by(provider)
    own.server.write("sys/quotas/rate-limit/low", rate=0.01, path=own.mount)
    try:
        provider.unwrap([canary])  # the one that is allowed
        with pytest.raises(ProviderThrottledError, match="rate limit"):
            provider.unwrap([canary])
        assert provider.health(canary).status is HealthStatus.THROTTLED
    finally:
        own.server.request("DELETE", "sys/quotas/rate-limit/low")
    assert unwraps(provider, canary)


def test_a_server_that_another_ca_signed_is_not_trusted(shared: TransitBench, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_certificates(tmp_path / "other")
    for ca in ({"ca": str(tmp_path / "other" / "ca.pem")}, {}):
        table = {**shared.settings().options, **ca}
        if not ca:
            del table["ca"]  # the certificates of public CAs do not vouch for it either
        provider = TransitKeyProvider(_session(replace(shared.settings(), options=table)))
        with pytest.raises(ProviderMisconfiguredError, match="not trusted for this address; set ca"):
            provider.key_info(KEY)
        provider.close()


def _session(settings: Any) -> Any:
    from keyproviders.transit_options import read_options
    from keyproviders.transit_session import TransitSession

    return TransitSession(read_options(settings))


def test_plain_http_to_a_tls_port_is_no_answer(shared: TransitBench) -> None:
    provider = shared.provider(shared.root(), url=shared.server.url.replace("https:", "http:"))
    with pytest.raises(ProviderUnavailableError, match="does url lead to it"):
        provider.key_info(KEY)


def test_no_engine_at_the_mount(shared: TransitBench) -> None:
    provider = shared.provider(shared.root(), mount="elsewhere")
    made = WrappedKey(KEY, 1, "transit-aes256-gcm96", b"\x01" + bytes(60))
    for call in (
        lambda: provider.key_info(KEY),
        lambda: provider.generate(KEY, 1, [b""]),
        lambda: provider.unwrap([UnwrapItem(made, b"")]),
    ):
        with pytest.raises(ProviderMisconfiguredError, match="check mount"):
            call()


def test_a_key_that_is_deleted_while_in_use(shared: TransitBench) -> None:
    provider = shared.provider(shared.role(PolicyKind.RUNTIME))
    canary = wrapped_by(provider)
    shared.server.write(f"{shared.mount}/keys/{KEY}/config", deletion_allowed=True)
    assert shared.server.request("DELETE", f"{shared.mount}/keys/{KEY}")[0] < 300
    assert error_of(provider, canary) is KeyNotFoundError
    assert provider.health(canary).status is HealthStatus.KEY_MISSING
    with pytest.raises(KeyNotFoundError):
        provider.generate(KEY, 1, [b""])
    with pytest.raises(KeyNotFoundError):
        provider.wrap(KEY, 1, [WrapItem(SecretBytes(bytes(32)), b"")])
    assert shared.names() == []


def test_a_soft_deleted_key_is_retired_until_it_is_restored(shared: TransitBench) -> None:
    provider = shared.provider(shared.role(PolicyKind.RUNTIME))
    canary = wrapped_by(provider)
    shared.server.request("DELETE", f"{shared.mount}/keys/{KEY}/soft-delete")
    assert error_of(provider, canary) is KeyVersionRetiredError
    with pytest.raises(KeyVersionRetiredError, match="soft-deleted"):
        provider.generate(KEY, 1, [b""])
    shared.server.write(f"{shared.mount}/keys/{KEY}/soft-delete-restore")
    assert unwraps(provider, canary)


def test_versions_that_end_while_in_use(shared: TransitBench) -> None:
    administration = shared.administration(shared.role(PolicyKind.ADMINISTRATION))
    provider = shared.provider(shared.role(PolicyKind.RUNTIME))
    first = wrapped_by(provider)
    assert administration.rotate(KEY) == 2
    second = wrapped_by(provider, 2)
    administration.retire(KEY, 1)
    assert error_of(provider, first) is KeyVersionRetiredError
    with pytest.raises(KeyVersionRetiredError):
        provider.generate(KEY, 1, [b""])
    administration.destroy(KEY, 1)
    assert error_of(provider, first) is KeyNotFoundError
    with pytest.raises(KeyNotFoundError, match="was destroyed"):
        provider.generate(KEY, 1, [b""])
    too_new = replace(second, wrapped=replace(second.wrapped, version=3))
    assert error_of(provider, too_new) is KeyNotFoundError
    blob = second.wrapped.blob
    tampered = replace(second, wrapped=replace(second.wrapped, blob=blob[:-1] + bytes([blob[-1] ^ 1])))
    assert error_of(provider, tampered) is WrappedKeyRejectedError
    assert unwraps(provider, second)


def test_retired_by_hand_is_seen_and_can_be_destroyed(shared: TransitBench) -> None:
    administration = shared.administration(shared.role(PolicyKind.ADMINISTRATION))
    administration.rotate(KEY)
    provider = shared.provider(shared.role(PolicyKind.RUNTIME))
    wrapped_by(provider)
    # Only one of the two minimums, as the documentation of the server suggests.
    shared.server.write(f"{shared.mount}/keys/{KEY}/config", min_decryption_version=2)
    with pytest.raises(KeyVersionRetiredError):
        provider.wrap(KEY, 1, [])
    administration.destroy(KEY, 1)
    assert [each.version for each in provider.key_info(KEY).versions] == [2]


def test_a_version_that_no_longer_wraps_still_unwraps(shared: TransitBench) -> None:
    administration = shared.administration()
    administration.rotate(KEY)
    provider = shared.provider(shared.role(PolicyKind.RUNTIME))
    first = wrapped_by(provider)
    shared.server.write(f"{shared.mount}/keys/{KEY}/config", min_encryption_version=2)
    with pytest.raises(KeyVersionRetiredError, match="no longer wraps"):
        provider.generate(KEY, 1, [b""])
    assert [type(each) for each in provider.rewrap([first], 1)] == [KeyVersionRetiredError]
    assert unwraps(provider, first)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"type": "chacha20-poly1305"}, "not of type"),
        ({"type": "aes256-gcm96", "derived": True}, "not of type"),
        ({"type": "aes256-gcm96", "exportable": True}, "may leave the engine"),
        ({"type": "aes256-gcm96", "allow_plaintext_backup": True}, "may leave the engine"),
        ({"type": "rsa-2048"}, "not of type"),
    ],
)
def test_a_key_of_the_wrong_kind_is_refused(
    transit: TransitBench, options: dict[str, Any], words: str
) -> None:
    transit.server.write(f"{transit.mount}/keys/{KEY}", **options)
    provider = transit.provider()
    for call in (lambda: provider.key_info(KEY), lambda: provider.generate(KEY, 1, [b""])):
        with pytest.raises(ProviderMisconfiguredError, match=words):
            call()


def test_no_call_of_a_root_token_makes_a_key(shared: TransitBench) -> None:
    provider = shared.provider(shared.root())
    made = wrapped_by(provider)
    ghost = replace(made, wrapped=replace(made.wrapped, key="ghost"))
    for call in (
        lambda: provider.generate("ghost", 1, [b""]),
        lambda: provider.wrap("ghost", 1, [WrapItem(SecretBytes(bytes(32)), b"")]),
        lambda: provider.key_info("ghost"),
        lambda: provider.generate("../../sys/ghost", 1, [b""]),
        lambda: provider.generate("", 1, [b""]),
    ):
        with pytest.raises(KeyNotFoundError):
            call()
    assert error_of(provider, ghost) is KeyNotFoundError
    assert [type(each) for each in provider.rewrap([ghost], 1)] == [KeyNotFoundError]
    assert provider.health(ghost).status is HealthStatus.KEY_MISSING
    assert shared.names() == [KEY]


def test_a_policy_without_create_is_the_second_wall(shared: TransitBench) -> None:
    """Even if the name were not looked up first."""
    provider = shared.provider(shared.role(PolicyKind.RUNTIME, "ghost"))
    known = shared.provider(shared.root())
    known.key_info(KEY)
    provider._keys._known["ghost"] = known._keys._known[KEY]
    with pytest.raises(KeyNotFoundError):
        provider.generate("ghost", 1, [b""])
    assert shared.names() == [KEY]


def test_batches_over_the_limit_of_the_server_are_halved(shared: TransitBench) -> None:
    provider = shared.provider(shared.role(PolicyKind.RUNTIME), max_batch=5_000)
    plaintexts = [SecretBytes(os.urandom(32)) for _ in range(1_200)]
    wrapped = provider.wrap(KEY, 1, [WrapItem(each, b"") for each in plaintexts])
    assert provider.capabilities().max_batch == 300
    items = [UnwrapItem(each, b"") for each in wrapped if isinstance(each, WrappedKey)]
    assert len(items) == 1_200
    bad = replace(items[700], wrapped=replace(items[700].wrapped, blob=b"\x01" + bytes(60)))
    again = provider.rewrap([*items[:700], bad, *items[701:]], 1)
    assert [place for place, each in enumerate(again) if not isinstance(each, WrappedKey)] == [700]
    opened = provider.unwrap([UnwrapItem(each, b"") for each in again if isinstance(each, WrappedKey)])
    expected = [each.reveal() for place, each in enumerate(plaintexts) if place != 700]
    assert [each.reveal() for each in opened if isinstance(each, SecretBytes)] == expected


def test_no_outage_shows_a_secret(own: TransitBench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    auth = own.role(PolicyKind.RUNTIME)
    provider = own.provider(auth, read_timeout_seconds=0.3)
    admin = own.administration(own.role(PolicyKind.ADMINISTRATION, "other"))
    plaintext = SecretBytes(b"\xf3secret-plaintext-canary-bytes!!")
    (wrapped,) = provider.wrap(KEY, 1, [WrapItem(plaintext, b"")])
    assert isinstance(wrapped, WrappedKey)
    (session,) = provider._session._by_process.values()
    assert session._token is not None
    secrets = [
        session._token.text.reveal().decode(),
        Path(auth["secret_id"]["file"]).read_text(),  # type: ignore[index]
        "secret-plaintext-canary",
        base64.b64encode(plaintext.reveal()).decode().rstrip("="),
    ]
    shown: list[str] = [
        repr(provider),
        repr(admin),
        repr(session),
        repr(session._token),
        repr(provider._session.options),
    ]

    def show(call: Callable[[], object]) -> None:
        with pytest.raises(KeyProviderError) as caught:
            call()
        error = caught.value
        assert error.__cause__ is None
        assert error.__context__ is None
        trace = traceback.TracebackException.from_exception(error, capture_locals=True)
        shown.extend(
            str(frame.locals) for frame in trace.stack if "keyproviders" in Path(frame.filename).parts
        )
        shown.append(repr(error))

    calls: list[Callable[[], object]] = [
        lambda: provider.wrap(KEY, 1, [WrapItem(plaintext, b"")]),
        lambda: provider.unwrap([UnwrapItem(wrapped, b"")]),
        lambda: own.provider(auth, read_timeout_seconds=0.3).wrap(KEY, 1, [WrapItem(plaintext, b"")]),
        lambda: admin.rotate(KEY),
    ]
    show(calls[3])  # denied
    with silent(own.server.pid):
        for call in calls:
            show(call)
    own.server.seal()
    try:
        for call in calls:
            show(call)
    finally:
        own.server.unseal()
    own.server.write(f"{own.mount}/keys/{KEY}/config", deletion_allowed=True)
    own.server.request("DELETE", f"{own.mount}/keys/{KEY}")
    show(calls[0])
    assert provider.unwrap([UnwrapItem(wrapped, b"")])[0].__class__ is KeyNotFoundError
    haystack = "\n".join([*shown, caplog.text])
    assert len(haystack) > 1_000
    for secret in secrets:
        assert secret not in haystack


def test_denied_is_not_unavailable(shared: TransitBench) -> None:
    provider = shared.provider(shared.role(PolicyKind.RUNTIME, "another"))
    with pytest.raises(ProviderDeniedError, match="policies do not allow"):
        provider.generate(KEY, 1, [b""])
    made = wrapped_by(shared.provider())
    assert provider.health(made).status is HealthStatus.DENIED
