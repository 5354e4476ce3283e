"""Doors with one planted fault each, around a good provider: what the conformance kit has to catch."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import (
    Capabilities,
    DataKey,
    Health,
    HealthStatus,
    ItemResult,
    KeyAdministration,
    KeyInfo,
    KeyProvider,
    SecretBytes,
    UnwrapItem,
    WrapItem,
    WrappedKey,
)

_log = logging.getLogger(__name__)


class Door:
    """Hands everything on. A fault overrides what it breaks; ``administration`` is there for those that misuse it."""

    def __init__(self, inner: KeyProvider, administration: KeyAdministration) -> None:
        self.inner = inner
        self.administration = administration
        self.pid = os.getpid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def name(self) -> str:
        return self.inner.name

    def capabilities(self) -> Capabilities:
        return self.inner.capabilities()

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        return self.inner.generate(key, version, contexts)

    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        return self.inner.wrap(key, version, items)

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        return self.inner.unwrap(items)

    def rewrap(self, items: Sequence[UnwrapItem], to_version: int) -> list[ItemResult[WrappedKey]]:
        return self.inner.rewrap(items, to_version)

    def key_info(self, key: str) -> KeyInfo:
        return self.inner.key_info(key)

    def health(self, canary: UnwrapItem) -> Health:
        return self.inner.health(canary)

    def close(self) -> None:
        self.inner.close()


class Administration:
    """Hands everything on."""

    def __init__(self, inner: KeyAdministration) -> None:
        self.inner = inner

    def create(self, key: str) -> int:
        return self.inner.create(key)

    def rotate(self, key: str) -> int:
        return self.inner.rotate(key)

    def retire(self, key: str, up_to_version: int) -> None:
        self.inner.retire(key, up_to_version)

    def destroy(self, key: str, version: int) -> None:
        self.inner.destroy(key, version)

    def close(self) -> None:
        self.inner.close()


class StaleKeys(Door):
    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        return [self.inner.generate(key, version, [b""])[0]] * len(contexts)


class ClearText(Door):
    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        return [
            replace(each, wrapped=replace(each.wrapped, blob=each.wrapped.blob + each.plaintext.reveal()))
            for each in self.inner.generate(key, version, contexts)
            if isinstance(each, DataKey)
        ]

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        return self.inner.unwrap([shortened(each, 32) for each in items])


class NewestVersion(Door):
    """Takes the named version for advice."""

    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        self.inner.wrap(key, version, [])
        return self.inner.wrap(key, self.inner.key_info(key).versions[-1].version, items)


class VersionsAsText(Door):
    """Lists version 10 before version 9."""

    def key_info(self, key: str) -> KeyInfo:
        info = self.inner.key_info(key)
        return replace(info, versions=tuple(sorted(info.versions, key=lambda each: str(each.version))))


class ShortKeysOnly(Door):
    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        results = self.inner.wrap(key, version, items)
        too_long = KeyProviderError("too long", provider=self.name)
        return [
            too_long if len(item.plaintext) > 32 else result
            for item, result in zip(items, results, strict=True)
        ]


class FreshKeyOnRewrap(Door):
    def rewrap(self, items: Sequence[UnwrapItem], to_version: int) -> list[ItemResult[WrappedKey]]:
        results = self.inner.rewrap(items, to_version)
        return [
            each
            if isinstance(each, KeyProviderError)
            else self.inner.wrap(each.key, to_version, [WrapItem(SecretBytes(os.urandom(32)), b"")])[0]
            for each in results
        ]


class PromisesToBind(Door):
    def capabilities(self) -> Capabilities:
        return replace(self.inner.capabilities(), binds_context=True)


class IgnoresTheEnd(Door):
    """Opens a blob although something follows it."""

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        return self.inner.unwrap(
            [replace(each, wrapped=replace(each.wrapped, blob=each.wrapped.blob[:40])) for each in items]
        )


class IgnoresTheFirstByte(Door):
    def __init__(self, inner: KeyProvider, administration: KeyAdministration) -> None:
        super().__init__(inner, administration)
        self.first: dict[bytes, bytes] = {}

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        made = self.inner.generate(key, version, contexts)
        self.first |= {each.wrapped.blob[1:]: each.wrapped.blob for each in made if isinstance(each, DataKey)}
        return made

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        return self.inner.unwrap(
            [
                replace(
                    each,
                    wrapped=replace(
                        each.wrapped, blob=self.first.get(each.wrapped.blob[1:], each.wrapped.blob)
                    ),
                )
                for each in items
            ]
        )


class DamageIsNotFound(Door):
    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        return [
            KeyNotFoundError("no such key", provider=self.name)
            if isinstance(each, WrappedKeyRejectedError)
            else each
            for each in self.inner.unwrap(items)
        ]


class IgnoresTheAlgorithm(Door):
    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        return self.inner.unwrap(
            [replace(each, wrapped=replace(each.wrapped, algorithm="A256KWP")) for each in items]
        )


class TriesEveryVersion(Door):
    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        return [self._try(each) for each in items]

    def _try(self, item: UnwrapItem) -> ItemResult[SecretBytes]:
        result = self.inner.unwrap([item])[0]
        if isinstance(result, WrappedKeyRejectedError):
            for version in self.inner.key_info(item.wrapped.key).versions:
                moved = replace(item, wrapped=replace(item.wrapped, version=version.version))
                found = self.inner.unwrap([moved])[0]
                if isinstance(found, SecretBytes):
                    return found
        return result


class DropsTheBad(Door):
    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        return [each for each in self.inner.unwrap(items) if isinstance(each, SecretBytes)]


class AllOrNothing(Door):
    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        results = self.inner.unwrap(items)
        bad = [each for each in results if isinstance(each, KeyProviderError)]
        return list(bad[:1] * len(results)) if bad else results


class BackToFront(Door):
    def rewrap(self, items: Sequence[UnwrapItem], to_version: int) -> list[ItemResult[WrappedKey]]:
        return self.inner.rewrap(items, to_version)[::-1]


class StopsAt500(Door):
    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        return self.inner.unwrap(items[:500])


class MakesKeys(Door):
    """What transit does when the policy says ``create``."""

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        try:
            return self.inner.generate(key, version, contexts)
        except KeyNotFoundError:
            try:
                self.administration.create(key)
            except KeyProviderError:
                self.administration.rotate(key)
            raise


class HasVerbs(Door):
    def rotate(self, key: str) -> int:
        return self.administration.rotate(key)


class ForeignErrors(Door):
    def key_info(self, key: str) -> KeyInfo:
        try:
            return self.inner.key_info(key)
        except KeyNotFoundError as error:
            raise LookupError(key) from error


class AlwaysHealthy(Door):
    def health(self, canary: UnwrapItem) -> Health:
        return Health(HealthStatus.OK, "fine") if canary else self.inner.health(canary)


class NeverCloses(Door):
    def close(self) -> None:
        pass


class OnlyInItsProcess(Door):
    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        if os.getpid() != self.pid:
            raise ProviderUnavailableError("the connection belongs to the parent", provider=self.name)
        return self.inner.unwrap(items)


class HangsAfterFork(Door):
    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        if os.getpid() != self.pid:
            time.sleep(3600)
        return self.inner.unwrap(items)


class MixesThreads(Door):
    """Answers one thread with what another asked, when two ask at once."""

    def __init__(self, inner: KeyProvider, administration: KeyAdministration) -> None:
        super().__init__(inner, administration)
        self.asked: Sequence[UnwrapItem] = ()

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        self.asked = items
        if threading.active_count() > 1:
            time.sleep(0.001)
        return self.inner.unwrap(self.asked)


class ListsOnlyOnce(Door):
    """Learns of no rotation by others."""

    def __init__(self, inner: KeyProvider, administration: KeyAdministration) -> None:
        super().__init__(inner, administration)
        self.known: dict[str, KeyInfo] = {}

    def key_info(self, key: str) -> KeyInfo:
        if key not in self.known:
            self.known[key] = self.inner.key_info(key)
        return self.known[key]


class SpeaksOfKeys(Door):
    """Puts the key into the error about it."""

    def wrap(self, key: str, version: int, items: Sequence[WrapItem]) -> list[ItemResult[WrappedKey]]:
        try:
            return self.inner.wrap(key, version, items)
        except KeyNotFoundError as error:
            raise KeyNotFoundError(
                f"cannot wrap {items[0].plaintext.reveal().hex()}", provider=self.name
            ) from error


class LogsKeys(Door):
    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        results = self.inner.unwrap(items)
        for each in results:
            if isinstance(each, SecretBytes):
                _log.debug("unwrapped %r", each.reveal())
        return results


class ShowsItsPin(Door):
    def __repr__(self) -> str:
        return "ShowsItsPin(pin='tr0ub4dor')"


class UsesWhatIsRetired(Door):
    """Keeps a handle on every key that it ever used."""

    def __init__(self, inner: KeyProvider, administration: KeyAdministration) -> None:
        super().__init__(inner, administration)
        self.kept: dict[bytes, bytes] = {}

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[ItemResult[DataKey]]:
        made = self.inner.generate(key, version, contexts)
        self.kept |= {
            each.wrapped.blob: each.plaintext.reveal() for each in made if isinstance(each, DataKey)
        }
        return made

    def unwrap(self, items: Sequence[UnwrapItem]) -> list[ItemResult[SecretBytes]]:
        results = self.inner.unwrap(items)
        return [
            SecretBytes(self.kept[item.wrapped.blob])
            if isinstance(result, KeyProviderError)
            and not isinstance(result, WrappedKeyRejectedError)
            and item.wrapped.blob in self.kept
            else result
            for item, result in zip(items, results, strict=True)
        ]


class DestroysAnything(Administration):
    def destroy(self, key: str, version: int) -> None:
        self.inner.retire(key, version)
        self.inner.destroy(key, version)


class DestroysNothing(Administration):
    def destroy(self, key: str, version: int) -> None:
        pass


class CreatesTwice(Administration):
    def create(self, key: str) -> int:
        try:
            return self.inner.create(key)
        except KeyProviderError:
            return 1


class CountsByItself(Administration):
    """Asks for the newest number first and adds one: two administrators get the same."""

    def rotate(self, key: str) -> int:
        return min(self.inner.rotate(key), 4)


@dataclass(frozen=True)
class Fault:
    """One planted fault, and the check that has to notice it."""

    plant: Callable[..., Any]
    caught_by: str

    @property
    def name(self) -> str:
        return str(self.plant.__name__)


FAULTS = (
    Fault(StaleKeys, "generated keys are fresh"),
    Fault(ClearText, "a generated key opens to itself"),
    Fault(NewestVersion, "versions 1, 2 and 10 each open what they wrapped"),
    Fault(VersionsAsText, "versions 1, 2 and 10 each open what they wrapped"),
    Fault(ShortKeysOnly, "keys of 16 to 64 bytes are wrapped"),
    Fault(FreshKeyOnRewrap, "rewrap keeps the data key"),
    Fault(PromisesToBind, "another context is refused where it is bound"),
    Fault(IgnoresTheEnd, "every extended blob is rejected"),
    Fault(IgnoresTheFirstByte, "every flipped byte is rejected"),
    Fault(DamageIsNotFound, "every truncated blob is rejected"),
    Fault(IgnoresTheAlgorithm, "another algorithm is rejected"),
    Fault(TriesEveryVersion, "another version is rejected"),
    Fault(DropsTheBad, "one bad item at first, middle or last spoils only itself"),
    Fault(AllOrNothing, "one bad item at first, middle or last spoils only itself"),
    Fault(BackToFront, "results come in the order of the items"),
    Fault(StopsAt500, "a batch over max_batch comes back whole"),
    Fault(MakesKeys, "no run-time call makes a key or version"),
    Fault(HasVerbs, "the run-time door has no verb of administration"),
    Fault(ForeignErrors, "an unknown key is not found"),
    Fault(AlwaysHealthy, "health is what the canary says"),
    Fault(NeverCloses, "a closed door says try later, and closes twice"),
    Fault(OnlyInItsProcess, "a forked child and its parent both go on"),
    Fault(HangsAfterFork, "a forked child and its parent both go on"),
    Fault(MixesThreads, "rotation goes on while four threads read"),
    Fault(ListsOnlyOnce, "rotation goes on while four threads read"),
    Fault(SpeaksOfKeys, "no secret is shown or logged"),
    Fault(LogsKeys, "no secret is shown or logged"),
    Fault(ShowsItsPin, "no secret is shown or logged"),
    Fault(UsesWhatIsRetired, "a retired version is refused, the next one works"),
    Fault(DestroysAnything, "a destroyed version is gone and its number spent"),
    Fault(DestroysNothing, "a destroyed version is gone and its number spent"),
    Fault(CreatesTwice, "administration refuses what is not there"),
    Fault(CountsByItself, "two administrators never share a version"),
)


def shortened(item: UnwrapItem, by: int) -> UnwrapItem:
    return replace(item, wrapped=replace(item.wrapped, blob=item.wrapped.blob[:-by]))
