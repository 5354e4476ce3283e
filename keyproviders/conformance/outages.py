"""Checks that need somebody outside: a sealed, disturbed, slow or lying backend, and a login that ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from keyproviders.conformance.bench import CONTEXT, Bench, at, expect, not_applicable
from keyproviders.errors import KeyProviderError, ProviderUnavailableError
from keyproviders.interface import (
    DataKey,
    HealthStatus,
    ItemResult,
    KeyProvider,
    SecretBytes,
    WrapItem,
    WrappedKey,
)

__all__ = ["disturbed", "expired_credential", "lying", "sealed", "slow"]

_PAUSE_SECONDS = 0.1
Results = list[ItemResult[SecretBytes]] | list[ItemResult[WrappedKey]] | list[ItemResult[DataKey]]


def sealed(bench: Bench) -> None:
    """While it is sealed every call says try later, and afterwards the same door works again."""
    seal, unseal = _needed(bench.hooks.seal, "seal"), _needed(bench.hooks.unseal, "unseal")
    provider = bench.provider()
    version = bench.newest(provider)
    made = bench.data_key(provider, version)
    seal()
    try:
        _every_call_is_unavailable(bench, _calls(bench, provider, made, version), "sealed")
        status = provider.health(at(made.wrapped)).status
        expect(
            status in {HealthStatus.SEALED, HealthStatus.DOWN},
            f"a sealed provider gives health {status.value!r}",
        )
    finally:
        unseal()
    _works_again(bench, provider, made)


def disturbed(bench: Bench) -> None:
    """After a logout or a restart the same door works again; until then it says try later and nothing else."""
    disturb = _needed(bench.hooks.disturb, "disturb")
    provider = bench.provider()
    made = bench.data_key(provider)
    disturb()
    _works_again(bench, provider, made)


def expired_credential(bench: Bench) -> None:
    """When the login has ended, the next call logs in again and works."""
    expire = _needed(bench.hooks.expire_credential, "expire_credential")
    provider = bench.provider()
    version = bench.newest(provider)
    made = bench.data_key(provider, version)
    expire()
    bench.opens(provider, made.wrapped, made.plaintext)
    expire()
    fresh = bench.data_key(provider, version)
    bench.opens(provider, fresh.wrapped, fresh.plaintext)


def slow(bench: Bench) -> None:
    """A call that is not answered is given up in time, as unavailable, and later calls are not answered by it."""
    slow_down, speed_up = (
        _needed(bench.hooks.slow_down, "slow_down"),
        _needed(bench.hooks.speed_up, "speed_up"),
    )
    provider = bench.provider()
    version = bench.newest(provider)
    made, other = bench.data_key(provider, version), bench.data_key(provider, version)
    slow_down()
    try:
        _every_call_is_unavailable(bench, _calls(bench, provider, other, version), "slow")
    finally:
        speed_up()
    _works_again(bench, provider, made)


def lying(bench: Bench) -> None:
    """Nonsense instead of answers becomes a KeyProviderError, and never another key."""
    lie, stop_lying = _needed(bench.hooks.lie, "lie"), _needed(bench.hooks.stop_lying, "stop_lying")
    provider = bench.provider()
    version = bench.newest(provider)
    made = bench.data_key(provider, version)
    lie()
    try:
        for name, call in _calls(bench, provider, made, version).items():
            outcome = _in_time(bench, call, f"{name} on a lying provider")
            expect(
                isinstance(outcome, KeyProviderError)
                or (
                    isinstance(outcome, list)
                    and len(outcome) == 1
                    and isinstance(outcome[0], KeyProviderError)
                ),
                f"{name} believes a lying provider: it ends in {_named(outcome)}",
            )
    finally:
        stop_lying()
    _works_again(bench, provider, made)


def _needed(hook: Callable[[], object] | None, name: str) -> Callable[[], object]:
    if hook is None:
        not_applicable(f"the hook {name} was not given")
    return hook


def _calls(
    bench: Bench, provider: KeyProvider, made: DataKey, version: int
) -> dict[str, Callable[[], Results]]:
    plaintext = WrapItem(made.plaintext, CONTEXT)
    return {
        "generate": lambda: provider.generate(bench.key, version, [CONTEXT]),
        "wrap": lambda: provider.wrap(bench.key, version, [plaintext]),
        "unwrap": lambda: provider.unwrap([at(made.wrapped)]),
        "rewrap": lambda: provider.rewrap([at(made.wrapped)], version),
    }


def _every_call_is_unavailable(bench: Bench, calls: dict[str, Callable[[], Results]], state: str) -> None:
    for name, call in calls.items():
        outcome = _in_time(bench, call, f"{name} on a {state} provider")
        # "Not found" or "rejected" would be a lie with consequences: somebody might make a key, or raise an alarm.
        expect(
            isinstance(outcome, ProviderUnavailableError),
            f"{name} on a {state} provider ends in {_named(outcome)}, not in ProviderUnavailableError",
        )


def _in_time(bench: Bench, call: Callable[[], object], what: str) -> object:
    """What the call ended in: its results, or what it raised."""
    outcome: list[object] = []

    def ask() -> None:
        try:
            outcome.append(call())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            outcome.append(error)

    caller = threading.Thread(target=ask, daemon=True)
    caller.start()
    caller.join(bench.hooks.patience_seconds)
    expect(bool(outcome), f"{what} does not end within {bench.hooks.patience_seconds:g} seconds")
    return outcome[0]


def _works_again(bench: Bench, provider: KeyProvider, made: DataKey) -> None:
    deadline = time.monotonic() + bench.hooks.patience_seconds
    while True:
        try:
            bench.opens(provider, made.wrapped, made.plaintext)
        except ProviderUnavailableError as error:
            expect(time.monotonic() < deadline, f"it does not come back: {error}")
            time.sleep(_PAUSE_SECONDS)
        else:
            break
    fresh = bench.data_key(provider)
    bench.opens(provider, fresh.wrapped, fresh.plaintext)
    status = provider.health(at(made.wrapped)).status
    expect(status is HealthStatus.OK, f"it works again, but its health is {status.value!r}")


def _named(outcome: object) -> str:
    if isinstance(outcome, list):
        return ", ".join(_named(each) for each in outcome) or "an empty list"
    return type(outcome).__name__ if isinstance(outcome, BaseException) else "success"
