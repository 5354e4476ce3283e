"""Bad weather around a good provider: sealed, slow, lying, logged out. For the checks that need somebody outside."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from keyproviders.canary import prove_by_canary
from keyproviders.conformance import Hooks
from keyproviders.errors import KeyProviderError, ProviderUnavailableError
from keyproviders.interface import (
    DataKey,
    Health,
    ItemResult,
    KeyAdministration,
    KeyProvider,
    SecretBytes,
    UnwrapItem,
    WrapItem,
    WrappedKey,
)
from tests.conformance.broken_doors import Door


@dataclass
class Weather:
    """What the backend is like at the moment."""

    is_sealed: bool = False
    is_slow: bool = False
    is_lying: bool = False
    is_logged_out: bool = False

    def hooks(self, *, patience_seconds: float = 5.0) -> Hooks:
        """Let the kit make the weather."""
        return Hooks(
            seal=lambda: setattr(self, "is_sealed", True),
            unseal=lambda: setattr(self, "is_sealed", False),
            disturb=lambda: setattr(self, "is_logged_out", True),
            expire_credential=lambda: setattr(self, "is_logged_out", True),
            slow_down=lambda: setattr(self, "is_slow", True),
            speed_up=lambda: setattr(self, "is_slow", False),
            lie=lambda: setattr(self, "is_lying", True),
            stop_lying=lambda: setattr(self, "is_lying", False),
            patience_seconds=patience_seconds,
        )


class Umbrella(Door):
    """A provider that does the right thing in any weather. Its children each do one thing wrong."""

    def __init__(self, inner: KeyProvider, administration: KeyAdministration, weather: Weather) -> None:
        super().__init__(inner, administration)
        self.weather = weather

    def check(self) -> None:
        self.log_in()
        if self.weather.is_sealed:
            self.when_sealed()
        if self.weather.is_slow:
            self.when_slow()

    def log_in(self) -> None:
        self.weather.is_logged_out = False

    def when_sealed(self) -> None:
        raise ProviderUnavailableError("sealed", provider=self.name)

    def when_slow(self) -> None:
        raise ProviderUnavailableError("no answer in time", provider=self.name)

    def when_lying(self, count: int) -> list[ItemResult[object]]:
        raise ProviderUnavailableError(f"nonsense instead of {count} answers", provider=self.name)

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        self.check()
        if self.weather.is_lying:
            return self.when_lying(len(contexts))  # type: ignore[return-value]
        return super().generate(key, version, contexts)

    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        self.check()
        if self.weather.is_lying:
            return self.when_lying(len(items))  # type: ignore[return-value]
        return super().wrap(key, version, items)

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        self.check()
        if self.weather.is_lying:
            return self.when_lying(len(items))  # type: ignore[return-value]
        return super().unwrap(items)

    def rewrap(self, items: Sequence[UnwrapItem], to_version: int) -> list[ItemResult[WrappedKey]]:
        self.check()
        if self.weather.is_lying:
            return self.when_lying(len(items))  # type: ignore[return-value]
        return super().rewrap(items, to_version)

    def health(self, canary: UnwrapItem) -> Health:
        return prove_by_canary(self, canary)


class SealedIsNotFound(Umbrella):
    """What a PKCS#11 search says when nobody is logged in."""

    def when_sealed(self) -> None:
        from keyproviders.errors import KeyNotFoundError

        raise KeyNotFoundError("nothing found", provider=self.name)


class StaysSealed(Umbrella):
    def when_sealed(self) -> None:
        self.when_sealed_for_ever = True
        raise ProviderUnavailableError("sealed", provider=self.name)

    def check(self) -> None:
        if getattr(self, "when_sealed_for_ever", False):
            raise ProviderUnavailableError("still sealed", provider=self.name)
        super().check()


class StaysLoggedOut(Umbrella):
    def log_in(self) -> None:
        if self.weather.is_logged_out:
            raise KeyProviderError("permission denied", provider=self.name)


class WaitsForEver(Umbrella):
    def when_slow(self) -> None:
        while self.weather.is_slow:
            time.sleep(0.01)


class BelievesAnything(Umbrella):
    def when_lying(self, count: int) -> list[ItemResult[object]]:
        return [SecretBytes(bytes(32))] * count


class LosesItsTemper(Umbrella):
    def when_lying(self, count: int) -> list[ItemResult[object]]:
        raise ValueError(f"Expecting value: line {count} column 1")


class LosesAnswers(Umbrella):
    def when_lying(self, count: int) -> list[ItemResult[object]]:
        return [SecretBytes(bytes(32))] * (count - 1)


BAD_IN_WEATHER = {
    SealedIsNotFound: "a sealed provider says try later, and recovers",
    StaysSealed: "a sealed provider says try later, and recovers",
    StaysLoggedOut: "an expired credential is renewed",
    WaitsForEver: "a slow provider is given up in time",
    BelievesAnything: "a lying provider is not believed",
    LosesItsTemper: "a lying provider is not believed",
    LosesAnswers: "a lying provider is not believed",
}
