"""Which token, and how it is logged in to: each way to get it wrong has its own error, and PINs are tried once."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from keyproviders import pkcs11_token
from keyproviders.errors import (
    KeyProviderError,
    ProviderCredentialError,
    ProviderMisconfiguredError,
    ProviderSealedError,
    ProviderUnavailableError,
)
from keyproviders.interface import HealthStatus, UnwrapItem, WrappedKey
from tests.servers.softhsm import KEY, LABEL, PIN, HsmBench

CONTEXT = b"context"
_numbers = itertools.count(1)


@pytest.fixture
def wrong_pin() -> str:
    """Another one for each test: a refused one is remembered until the process ends."""
    return f"1357-wrong-{next(_numbers)}"


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each C_Login that this process makes."""
    made: list[str] = []
    log_in = pkcs11_token._log_in

    def counting(token: object, options: object) -> object:
        made.append(repr(token))
        return log_in(token, options)  # type: ignore[arg-type]

    monkeypatch.setattr(pkcs11_token, "_log_in", counting)
    return made


def secret(bench: HsmBench, text: str) -> dict[str, str]:
    path = bench.hsm.folder / f"pin-{text}"
    path.touch(0o600)
    path.write_text(text)
    return {"file": str(path)}


def test_a_wrong_pin_is_tried_once_in_a_process(
    hsm_bench: HsmBench, wrong_pin: str, logins: list[str]
) -> None:
    pin = secret(hsm_bench, wrong_pin)
    provider = hsm_bench.provider(pin=pin)
    canary = UnwrapItem(WrappedKey(KEY, 1, "A256GCM", bytes(60)), CONTEXT)
    for _ in range(3):
        for call in (
            lambda: provider.generate(KEY, 1, [CONTEXT]),
            lambda: provider.unwrap([canary]),
            lambda: provider.key_info(KEY),
            lambda: hsm_bench.administration(pin=pin).create(KEY),
        ):
            with pytest.raises(ProviderCredentialError, match="tried once") as caught:
                call()
            assert wrong_pin not in str(caught.value)
    assert provider.health(canary).status is HealthStatus.AUTH
    assert provider.capabilities().max_batch == 1
    assert len(logins) == 1
    # A door that is opened later knows, even after the others closed.
    hsm_bench.close()
    with pytest.raises(ProviderCredentialError):
        hsm_bench.provider(pin=pin).key_info(KEY)
    assert len(logins) == 1


def test_a_forked_child_does_not_try_a_wrong_pin_again(
    hsm_bench: HsmBench,
    logins: list[str],
    wrong_pin: str,
    exit_code_of_child: Callable[[Callable[[], None]], int],
) -> None:
    provider = hsm_bench.provider(pin=secret(hsm_bench, wrong_pin))
    with pytest.raises(ProviderCredentialError):
        provider.key_info(KEY)

    def child() -> None:
        with pytest.raises(ProviderCredentialError):
            provider.key_info(KEY)
        assert len(logins) == 1

    assert exit_code_of_child(child) == 0


def test_after_a_wrong_pin_the_right_one_works_in_the_same_process(
    hsm_bench: HsmBench, wrong_pin: str, logins: list[str]
) -> None:
    with pytest.raises(ProviderCredentialError):
        hsm_bench.provider(pin=secret(hsm_bench, wrong_pin)).key_info(KEY)
    assert hsm_bench.administration().create(KEY) == 1
    assert len(logins) == 2


def test_all_doors_of_a_process_share_one_login(hsm_bench: HsmBench, logins: list[str]) -> None:
    hsm_bench.administration().create(KEY)
    for _ in range(3):
        hsm_bench.provider().generate(KEY, 1, [CONTEXT])
    assert len(logins) == 1


def test_two_pins_for_one_token_are_refused(hsm_bench: HsmBench, wrong_pin: str) -> None:
    hsm_bench.administration().create(KEY)
    with pytest.raises(ProviderMisconfiguredError, match="give every provider of this token the same"):
        hsm_bench.provider(pin=secret(hsm_bench, wrong_pin)).key_info(KEY)
    assert hsm_bench.provider().key_info(KEY).versions


def test_opening_a_door_does_not_touch_the_token(hsm_bench: HsmBench, logins: list[str]) -> None:
    shutil.rmtree(hsm_bench.hsm.tokens)
    hsm_bench.provider()
    hsm_bench.administration()
    assert logins == []


def test_an_absent_token_is_for_later(hsm_bench: HsmBench) -> None:
    provider = hsm_bench.provider(token_label="nobody")
    with pytest.raises(ProviderUnavailableError, match="there is no token 'nobody' in any slot"):
        provider.key_info(KEY)
    capabilities = provider.capabilities()
    assert (capabilities.binds_context, capabilities.is_remote) == (False, True)


def test_a_token_without_a_configuration_is_for_later(hsm_bench: HsmBench) -> None:
    hsm_bench.hsm.configuration.unlink()
    with pytest.raises(ProviderUnavailableError, match="does not work"):
        hsm_bench.provider().key_info(KEY)


def test_two_tokens_of_one_label_are_refused_and_the_serial_number_tells_them_apart(
    hsm_bench: HsmBench,
) -> None:
    hsm_bench.hsm.add_token(LABEL)
    with pytest.raises(ProviderMisconfiguredError, match=f"2 tokens are called '{LABEL}'") as caught:
        hsm_bench.provider().key_info(KEY)
    hsm_bench.close()
    serials = str(caught.value).partition("serial numbers ")[2].partition(")")[0].split(", ")
    assert len(set(serials)) == 2
    chosen = [hsm_bench.administration(token_label=None, token_serial=each) for each in serials]
    assert [each.create(KEY) for each in chosen] == [1, 1]
    assert chosen[0].rotate(KEY) == 2
    with pytest.raises(ProviderUnavailableError, match="serial number 'ffff'"):
        hsm_bench.provider(token_label=None, token_serial="ffff").key_info(KEY)
    # The search for the third one voided the handles of the first two.
    versions = [
        len(hsm_bench.provider(token_label=None, token_serial=each).key_info(KEY).versions)
        for each in serials
    ]
    assert versions == [2, 1]


def test_a_user_is_shown_before_the_pin(hsm_bench: HsmBench) -> None:
    hsm_bench.hsm.pin.write_text(f"app:{PIN}")
    hsm_bench.hsm.add_token("with-user")
    administration = hsm_bench.administration(token_label="with-user", user="app", pin=secret(hsm_bench, PIN))
    assert administration.create(KEY) == 1


def test_a_library_that_is_none_is_refused(hsm_bench: HsmBench) -> None:
    (hsm_bench.hsm.folder / "text.so").write_text("no library")
    with pytest.raises(ProviderMisconfiguredError, match="no PKCS#11 library for this machine"):
        hsm_bench.provider(module="./text.so").key_info(KEY)


def test_a_library_without_pkcs11_is_refused(hsm_bench: HsmBench) -> None:
    other = next(Path("/usr/lib").rglob("libcrypto.so*"))
    with pytest.raises(KeyProviderError, match="no PKCS#11 library"):
        hsm_bench.provider(module=str(other)).key_info(KEY)


def test_a_token_without_a_user_pin_is_sealed(hsm_bench: HsmBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(token: object, options: object) -> object:
        assert token is not options
        raise pkcs11_token.UserPinNotInitialized

    with monkeypatch.context() as patch:
        patch.setattr(pkcs11_token, "_log_in", refused)
        provider = hsm_bench.provider()
        with pytest.raises(ProviderSealedError, match="no user PIN"):
            provider.key_info(KEY)
    assert hsm_bench.administration().create(KEY) == 1
    assert provider.key_info(KEY).versions


def test_a_folder_without_room_for_the_lock_is_named(hsm_bench: HsmBench) -> None:
    locks = hsm_bench.hsm.folder / "locks"
    locks.mkdir()
    (locks / "pkcs11-libsofthsm2.lock").mkdir()
    with pytest.raises(ProviderMisconfiguredError, match="set lock_folder"):
        hsm_bench.provider(lock_folder="locks").key_info(KEY)


def test_no_pin_shows(hsm_bench: HsmBench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    provider, administration = hsm_bench.provider(), hsm_bench.administration()
    administration.create(KEY)
    hsm_bench.hsm.tokens.rename(hsm_bench.hsm.folder / "away")
    with pytest.raises(ProviderUnavailableError) as caught:
        provider.generate(KEY, 1, [CONTEXT])
    shown = [provider, administration, provider._token, provider._options, caught.value, caplog.text]
    assert "opening it anew" in caplog.text
    for each in shown:
        assert PIN not in f"{each} {each!r}"
    assert PIN not in os.environ.values()
