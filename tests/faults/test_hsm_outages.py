"""A token that goes away, comes back, is wiped, or loses its keys and our login while a server works with it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

import pytest

from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import DataKey, HealthStatus, SecretBytes, UnwrapItem, WrapItem
from keyproviders.pkcs11_mechanisms import GcmKek
from keyproviders.pkcs11_runtime import Pkcs11KeyProvider
from tests.servers.softhsm import KEY, LABEL, HsmBench
from vault.cli.dev_hsm import SoftHsm

CONTEXT = b"tenant|collection|token"
PATIENCE_SECONDS = 10.0
ALGORITHMS = pytest.mark.parametrize("algorithm", ["A256GCM", "A256KWP"])
Child = Callable[[Callable[[], None]], int]


def ready(bench: HsmBench, algorithm: str = "A256GCM") -> tuple[Pkcs11KeyProvider, DataKey]:
    bench.administration(algorithm).create(KEY)
    provider = bench.provider()
    return provider, data_key(provider)


def data_key(provider: Pkcs11KeyProvider, version: int = 1) -> DataKey:
    (made,) = provider.generate(KEY, version, [CONTEXT])
    assert isinstance(made, DataKey)
    return made


def opens(provider: Pkcs11KeyProvider, made: DataKey) -> bool:
    (result,) = provider.unwrap([UnwrapItem(made.wrapped, CONTEXT)])
    assert isinstance(result, SecretBytes), result
    return result.reveal() == made.plaintext.reveal()


def every_call(provider: Pkcs11KeyProvider, made: DataKey, version: int = 1) -> list[Callable[[], object]]:
    item = UnwrapItem(made.wrapped, CONTEXT)
    return [
        lambda: provider.generate(KEY, version, [CONTEXT]),
        lambda: provider.wrap(KEY, version, [WrapItem(made.plaintext, CONTEXT)]),
        lambda: provider.unwrap([item]),
        lambda: provider.rewrap([item], version),
        lambda: provider.key_info(KEY),
    ]


def until_it_works(call: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            call()
        except ProviderUnavailableError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        else:
            return


@ALGORITHMS
@pytest.mark.parametrize("call", range(5))
def test_a_logout_by_somebody_else_is_mended_within_the_call(
    hsm_bench: HsmBench, algorithm: str, call: int
) -> None:
    provider, made = ready(hsm_bench, algorithm)
    provider._token._keeper.close()  # type: ignore[union-attr]  # logs out every session of the process
    every_call(provider, made)[call]()
    assert opens(provider, made)


@ALGORITHMS
@pytest.mark.parametrize("call", range(5))
def test_lost_sessions_are_mended_within_the_call(hsm_bench: HsmBench, algorithm: str, call: int) -> None:
    provider, made = ready(hsm_bench, algorithm)
    provider._token._module._library.finalize()  # type: ignore[union-attr]  # another component ended the library
    every_call(provider, made)[call]()
    assert opens(provider, made)


def test_after_a_logout_nothing_is_said_to_be_missing_and_nothing_is_made(hsm_bench: HsmBench) -> None:
    provider, made = ready(hsm_bench)
    administration = hsm_bench.administration()
    administration.rotate(KEY)
    provider._token._keeper.close()  # type: ignore[union-attr]
    # A version that this process has not looked up yet: the search is empty, but not for lack of a key.
    assert data_key(provider, 2).wrapped.version == 2
    provider._token._keeper.close()  # type: ignore[union-attr]
    assert administration.rotate(KEY) == 3
    assert [each.version for each in provider.key_info(KEY).versions] == [1, 2, 3]
    assert opens(provider, made)


@ALGORITHMS
def test_a_token_that_is_removed_is_for_later_and_works_when_it_is_back(
    hsm_bench: HsmBench, algorithm: str
) -> None:
    provider, made = ready(hsm_bench, algorithm)
    other = hsm_bench.provider()
    away = hsm_bench.hsm.folder / "away"
    hsm_bench.hsm.tokens.rename(away)
    for _ in range(2):
        for call in every_call(provider, made):
            with pytest.raises(ProviderUnavailableError):
                call()
    assert provider.health(UnwrapItem(made.wrapped, CONTEXT)).status is HealthStatus.DOWN
    with pytest.raises(ProviderUnavailableError):
        hsm_bench.administration().rotate(KEY)
    away.rename(hsm_bench.hsm.tokens)
    until_it_works(lambda: opens(provider, made))
    assert opens(other, made)
    assert hsm_bench.administration().rotate(KEY) == 2


@pytest.mark.parametrize("call", range(5))
def test_whatever_is_called_first_after_a_removal_says_try_later(hsm_bench: HsmBench, call: int) -> None:
    provider, made = ready(hsm_bench)
    hsm_bench.administration().rotate(KEY)
    hsm_bench.hsm.tokens.rename(hsm_bench.hsm.folder / "away")
    with pytest.raises(ProviderUnavailableError):
        every_call(provider, made, version=2)[call]()


def test_a_wiped_token_has_no_key_and_none_is_made(hsm_bench: HsmBench) -> None:
    provider, made = ready(hsm_bench)
    hsm_bench.hsm.wipe_token(LABEL)
    (result,) = provider.unwrap([UnwrapItem(made.wrapped, CONTEXT)])
    assert type(result) is KeyNotFoundError
    for call in (lambda: provider.generate(KEY, 1, [CONTEXT]), lambda: provider.key_info(KEY)):
        with pytest.raises(KeyNotFoundError):
            call()
    assert hsm_bench.by_hand("print(list(session.get_objects({A.TOKEN: True})))") == "[]"


def test_a_key_destroyed_by_another_process_is_not_found(hsm_bench: HsmBench) -> None:
    provider, made = ready(hsm_bench)
    second = hsm_bench.administration().rotate(KEY)
    kept = data_key(provider, second)
    hsm_bench.by_hand(f"session.get_key(label='{KEY}/v1').destroy()")
    gone, good = provider.unwrap([UnwrapItem(each.wrapped, CONTEXT) for each in (made, kept)])
    assert type(gone) is KeyNotFoundError
    assert isinstance(good, SecretBytes)
    with pytest.raises(KeyNotFoundError):
        provider.generate(KEY, 1, [CONTEXT])


def test_a_key_replaced_by_another_of_its_name_rejects_what_the_first_one_wrapped(
    hsm_bench: HsmBench,
) -> None:
    provider, made = ready(hsm_bench)
    hsm_bench.by_hand(f"session.get_key(label='{KEY}/v1').destroy(); make('{KEY}/v1')")
    (result,) = provider.unwrap([UnwrapItem(made.wrapped, CONTEXT)])
    assert type(result) is WrappedKeyRejectedError


def test_changes_by_another_process_are_seen_without_a_restart(hsm_bench: HsmBench) -> None:
    provider, made = ready(hsm_bench)
    with pytest.raises(KeyNotFoundError):
        provider.generate(KEY, 2, [CONTEXT])
    wrapped = hsm_bench.elsewhere(f"""
print(administration.rotate("{KEY}"))
print(provider.generate("{KEY}", 2, [{CONTEXT!r}])[0].wrapped.version)
""")
    assert wrapped.split() == ["2", "2"]
    fresh = data_key(provider, 2)
    hsm_bench.elsewhere(f'administration.retire("{KEY}", 1)')
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        (result,) = provider.unwrap([UnwrapItem(made.wrapped, CONTEXT)])
        if isinstance(result, KeyProviderError):
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert type(result) is KeyVersionRetiredError
    hsm_bench.elsewhere(f'administration.destroy("{KEY}", 1)')
    (result,) = provider.unwrap([UnwrapItem(made.wrapped, CONTEXT)])
    assert type(result) is KeyNotFoundError
    assert "was destroyed" in str(result)
    assert opens(provider, fresh)


# --- bad bytes and a sick token say the same, so the canary decides


def test_a_sick_token_is_no_alarm(hsm_bench: HsmBench, monkeypatch: pytest.MonkeyPatch) -> None:
    provider, made = ready(hsm_bench)

    def sick(*_: object, **__: object) -> SecretBytes:
        from pkcs11.exceptions import GeneralError

        raise GeneralError

    with monkeypatch.context() as patch:
        patch.setattr(GcmKek, "unwrap", sick)
        with pytest.raises(ProviderUnavailableError, match="GeneralError"):
            provider.unwrap([UnwrapItem(made.wrapped, CONTEXT)])
    assert opens(provider, made)


def test_a_token_that_was_sick_for_one_call_is_no_alarm_either(
    hsm_bench: HsmBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider, made = ready(hsm_bench)
    unwrap = GcmKek.unwrap
    calls: list[bytes] = []

    def once(self: GcmKek, blob: bytes, context: bytes) -> SecretBytes:
        from pkcs11.exceptions import FunctionFailed

        calls.append(blob)
        if len(calls) == 1:
            raise FunctionFailed
        return unwrap(self, blob, context)

    monkeypatch.setattr(GcmKek, "unwrap", once)
    assert opens(provider, made)
    assert len(calls) == 3


def test_bad_bytes_do_not_open_the_token_anew(hsm_bench: HsmBench, caplog: pytest.LogCaptureFixture) -> None:
    provider, made = ready(hsm_bench)
    (result,) = provider.unwrap([UnwrapItem(made.wrapped, b"another context")])
    assert type(result) is WrappedKeyRejectedError
    assert caplog.text == ""


# --- forks


@pytest.fixture(params=[False, True], ids=["keeps-on-fork", "resets-on-fork"])
def forking(request: pytest.FixtureRequest, hsm_bench: HsmBench) -> HsmBench:
    hsm_bench.hsm = SoftHsm(hsm_bench.hsm.folder, reset_on_fork=request.param)
    text = hsm_bench.hsm.configuration.read_text()
    wanted = f"library.reset_on_fork = {str(request.param).lower()}"
    hsm_bench.hsm.configuration.write_text(text.replace("library.reset_on_fork = false", wanted))
    assert wanted in hsm_bench.hsm.configuration.read_text()
    return hsm_bench


@ALGORITHMS
def test_a_forked_child_logs_in_by_itself_and_the_parent_goes_on(
    forking: HsmBench, algorithm: str, exit_code_of_child: Child
) -> None:
    provider, made = ready(forking, algorithm)

    def child() -> None:
        assert opens(provider, made)
        assert opens(provider, data_key(provider))
        assert exit_code_of_child(grandchild) == 0
        provider.close()

    def grandchild() -> None:
        assert opens(provider, made)

    for _ in range(3):
        assert exit_code_of_child(child) == 0
        assert opens(provider, made)


def test_a_child_may_close_its_doors_without_using_them(forking: HsmBench, exit_code_of_child: Child) -> None:
    provider, made = ready(forking)
    assert exit_code_of_child(forking.close) == 0
    assert opens(provider, made)


def test_a_child_of_a_process_whose_token_is_away_finds_it(
    forking: HsmBench, exit_code_of_child: Child
) -> None:
    provider, made = ready(forking)
    away = forking.hsm.folder / "away"
    forking.hsm.tokens.rename(away)
    with pytest.raises(ProviderUnavailableError):
        opens(provider, made)
    away.rename(forking.hsm.tokens)

    def child() -> None:
        until_it_works(lambda: opens(provider, made))

    assert exit_code_of_child(child) == 0
    until_it_works(lambda: opens(provider, made))


def test_a_door_that_is_closed_lets_the_token_go(hsm_bench: HsmBench) -> None:
    provider, made = ready(hsm_bench)
    hsm_bench.close()
    shutil.rmtree(hsm_bench.hsm.tokens)
    with pytest.raises(ProviderUnavailableError, match="closed"):
        opens(provider, made)
    hsm_bench.hsm.tokens.mkdir()
    hsm_bench.hsm.add_token(LABEL)
    with pytest.raises(KeyNotFoundError):
        hsm_bench.provider().key_info(KEY)
