"""What a check works with: the two doors of the provider under test, a scratch key, and the words for a finding."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

from keyproviders.errors import KeyProviderError, ProviderMisconfiguredError
from keyproviders.interface import (
    DataKey,
    ItemResult,
    KeyAdministration,
    KeyProvider,
    SecretBytes,
    UnwrapItem,
    VersionState,
    WrappedKey,
)

__all__ = [
    "CONTEXT",
    "SCRATCH_KEY",
    "Bench",
    "CheckFailedError",
    "Hooks",
    "NotApplicableError",
    "Subject",
    "at",
    "expect",
    "expect_errors",
    "expect_raised",
    "good",
    "not_applicable",
]

T = TypeVar("T")

CONTEXT = b"strongroom/conformance|tenant|collection|token"
"""The encryption context of every item that is not about contexts."""

SCRATCH_KEY = "strongroom-conformance"
"""The key that the kit makes and ends. One name for all runs: a key's name and its numbers are never free again."""


class CheckFailedError(Exception):
    """A promise of the door is not kept. The sentence says which, and what was seen instead."""


class NotApplicableError(Exception):
    """This check cannot be asked of this subject. The sentence says why."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The provider under test.

    Attributes:
        name: the configured name, for the report.
        open: opens the run-time door anew at each call.
        open_administration: opens the administration door anew at each call; None leaves out every check that
            makes, rotates or ends a key.
        key: with administration the name of the scratch key; without, an existing key that is only used.
        secrets: what must never be shown besides data keys: the PIN, token or password of the provider.
    """

    name: str
    open: Callable[[], KeyProvider]
    open_administration: Callable[[], KeyAdministration] | None = None
    key: str = SCRATCH_KEY
    secrets: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Hooks:
    """What only somebody outside can do to a backend. A check whose hooks are missing does not apply.

    Attributes:
        seal: make the backend refuse everything until ``unseal``: seal it, stop it, take the token out.
        unseal: let it work again.
        disturb: break what is open, so that the provider must find its way back by itself: log out, restart.
        expire_credential: end the present login, while a new one is allowed.
        slow_down: let answers take longer than the provider waits, until ``speed_up``.
        speed_up: let answers come in time again.
        lie: let the backend answer nonsense, until ``stop_lying``.
        stop_lying: let it answer truly again.
        patience_seconds: how long a call or a recovery may take before it counts as never.
    """

    seal: Callable[[], object] | None = None
    unseal: Callable[[], object] | None = None
    disturb: Callable[[], object] | None = None
    expire_credential: Callable[[], object] | None = None
    slow_down: Callable[[], object] | None = None
    speed_up: Callable[[], object] | None = None
    lie: Callable[[], object] | None = None
    stop_lying: Callable[[], object] | None = None
    patience_seconds: float = 20.0


class Bench:
    """One run: opens doors for the checks and closes them after each.

    Args:
        subject: the provider under test.
        hooks: what the caller can do to its backend.
        large_batch: how many items the largest batch has.
    """

    def __init__(self, subject: Subject, hooks: Hooks, *, large_batch: int) -> None:
        self.subject = subject
        self.hooks = hooks
        self.key = subject.key
        self.other_key = f"{subject.key}-2"
        self.unknown_key = f"{subject.key}-ghost"
        self.large_batch = large_batch
        self.first_version: int | None = None
        self._opened: list[KeyProvider | KeyAdministration] = []

    def provider(self) -> KeyProvider:
        """Open the run-time door; it is closed after the check."""
        door = self.subject.open()
        self._opened.append(door)
        return door

    def administration(self) -> KeyAdministration:
        """Open the administration door; it is closed after the check.

        Raises:
            NotApplicableError: the subject has none.
        """
        if self.subject.open_administration is None:
            not_applicable("it needs the administration door, which was not given")
        door = self.subject.open_administration()
        self._opened.append(door)
        return door

    def close_doors(self) -> None:
        """Close every door that the last check opened."""
        while self._opened:
            self._opened.pop().close()

    def make_scratch_key(self) -> None:
        """Make the scratch key, or a fresh version of the one that an earlier run left."""
        administration = self.administration()
        try:
            self.first_version = administration.create(self.key)
        except ProviderMisconfiguredError:
            self.first_version = administration.rotate(self.key)

    def versions(self, provider: KeyProvider, count: int) -> list[int]:
        """Return the numbers of at least this many usable versions of the key, rotating where allowed.

        Raises:
            NotApplicableError: there are fewer, and no administration to make more.
        """
        enabled = self._enabled(provider)
        if len(enabled) < count:
            administration = self.administration()
            for _ in range(count - len(enabled)):
                administration.rotate(self.key)
            enabled = self._enabled(provider)
            expect(
                len(enabled) >= count,
                f"after rotations key_info lists {len(enabled)} usable versions, not {count}",
            )
        return enabled

    def newest(self, provider: KeyProvider) -> int:
        """Return the newest usable version of the key."""
        return self.versions(provider, 1)[-1]

    def data_key(self, provider: KeyProvider, version: int | None = None) -> DataKey:
        """Generate one data key under this version, or the newest."""
        return self.data_keys(provider, 1, version)[0]

    def data_keys(self, provider: KeyProvider, count: int, version: int | None = None) -> list[DataKey]:
        """Generate data keys under this version, or the newest."""
        named = self.newest(provider) if version is None else version
        results = provider.generate(self.key, named, [CONTEXT] * count)
        expect(len(results) == count, f"generate of {count} contexts gives {len(results)} results")
        return [good(each) for each in results]

    def opens(self, provider: KeyProvider, wrapped: WrappedKey, plaintext: SecretBytes) -> None:
        """Expect that a wrapped key opens to this plaintext."""
        results = provider.unwrap([at(wrapped)])
        expect(len(results) == 1, f"unwrap of 1 item gives {len(results)} results")
        expect(
            hmac.compare_digest(good(results[0]).reveal(), plaintext.reveal()),
            f"a key wrapped by version {wrapped.version} opens to another key",
        )

    def _enabled(self, provider: KeyProvider) -> list[int]:
        listed = [
            each.version
            for each in provider.key_info(self.key).versions
            if each.state is VersionState.ENABLED
        ]
        expect(listed == sorted(set(listed)), "key_info does not list each version once, oldest first")
        return [version for version in listed if self.first_version is None or version >= self.first_version]


def at(wrapped: WrappedKey) -> UnwrapItem:
    """Put a wrapped key into the context that the kit uses."""
    return UnwrapItem(wrapped, CONTEXT)


def expect(is_so: bool, otherwise: str) -> None:  # noqa: FBT001 - it reads as a sentence
    """Go on only if the promise is kept.

    Raises:
        CheckFailedError: it is not; ``otherwise`` says what was seen.
    """
    if not is_so:
        raise CheckFailedError(otherwise)


def good(result: ItemResult[T]) -> T:
    """Return the value of an item that must not have failed."""
    if isinstance(result, KeyProviderError):
        raise CheckFailedError(f"a good item came back as {type(result).__name__}: {result}") from result
    return result


def expect_errors(
    results: Sequence[ItemResult[T]], *kinds: type[KeyProviderError], count: int, what: str
) -> None:
    """Expect one result per item, every one an error of these kinds."""
    expect(len(results) == count, f"{what}: {count} items give {len(results)} results")
    for position, result in enumerate(results):
        seen = type(result).__name__ if isinstance(result, KeyProviderError) else "success"
        expect(
            isinstance(result, kinds),
            f"{what}: item {position} of {count} came back as {seen}, not as {_names(kinds)}",
        )


def expect_raised(call: Callable[[], object], *kinds: type[Exception], what: str) -> None:
    """Expect that a call raises one of these."""
    try:
        call()
    except kinds:
        return
    except KeyProviderError as error:
        raise CheckFailedError(f"{what}: raises {type(error).__name__}, not {_names(kinds)}") from error
    raise CheckFailedError(f"{what}: succeeds instead of raising {_names(kinds)}")


def not_applicable(reason: str) -> NoReturn:
    """Leave a check that cannot be asked here."""
    raise NotApplicableError(reason)


def _names(kinds: tuple[type[Exception], ...]) -> str:
    return " or ".join(kind.__name__ for kind in kinds)
