"""Checks of what works: keys come back as they went in, under every version and through rewrap."""

from __future__ import annotations

import os
from collections.abc import Callable

from keyproviders.conformance.bench import CONTEXT, Bench, at, expect, expect_raised, good
from keyproviders.errors import WrappedKeyRejectedError
from keyproviders.interface import DATA_KEY_BYTES, KeyProvider, SecretBytes, UnwrapItem, WrapItem

__all__ = [
    "another_context",
    "capabilities",
    "every_promised_length",
    "generated_keys_are_fresh",
    "generated_keys_open",
    "other_lengths",
    "rewrap_keeps_the_key",
    "several_versions",
]

_PROMISED_LENGTHS = (16, 17, 24, 31, 32, 33, 48, 63, 64)
_OTHER_LENGTHS = (0, 1, 15, 65)
_TENTH = 10


def generated_keys_open(bench: Bench) -> None:
    """A generated key has 32 bytes, says what wrapped it, and opens to itself."""
    provider = bench.provider()
    version = bench.newest(provider)
    made = bench.data_key(provider, version)
    expect(
        len(made.plaintext) == DATA_KEY_BYTES,
        f"a data key has {len(made.plaintext)} bytes, not {DATA_KEY_BYTES}",
    )
    expect(
        (made.wrapped.key, made.wrapped.version) == (bench.key, version),
        f"a key wrapped under version {version} of {bench.key!r} says "
        f"version {made.wrapped.version} of {made.wrapped.key!r}",
    )
    expect(
        made.plaintext.reveal() not in made.wrapped.blob,
        "the wrapped form contains the data key in the clear",
    )
    bench.opens(provider, made.wrapped, made.plaintext)


def generated_keys_are_fresh(bench: Bench) -> None:
    """No two generated keys are alike, within one call and over two."""
    provider = bench.provider()
    made = [*bench.data_keys(provider, 8), *bench.data_keys(provider, 8)]
    expect(len({each.plaintext.reveal() for each in made}) == len(made), "two generated data keys are equal")
    expect(
        len({each.wrapped.blob for each in made}) == len(made),
        "two generated keys have the same wrapped form",
    )


def several_versions(bench: Bench) -> None:
    """The first, second, ninth and tenth version wrap and open; the number is never compared as text."""
    provider = bench.provider()
    versions = bench.versions(provider, _TENTH)
    made = [bench.data_key(provider, versions[index]) for index in (0, 1, _TENTH - 2, _TENTH - 1)]
    for index, each in zip((0, 1, _TENTH - 2, _TENTH - 1), made, strict=True):
        expect(
            each.wrapped.version == versions[index],
            f"asked for version {versions[index]}, wrapped by {each.wrapped.version}",
        )
        bench.opens(provider, each.wrapped, each.plaintext)
        plaintext = SecretBytes(os.urandom(DATA_KEY_BYTES))
        (wrapped,) = provider.wrap(bench.key, versions[index], [WrapItem(plaintext, CONTEXT)])
        expect(
            good(wrapped).version == versions[index],
            f"asked for version {versions[index]}, wrapped by {good(wrapped).version}",
        )
        bench.opens(provider, good(wrapped), plaintext)


def every_promised_length(bench: Bench) -> None:
    """Key material of every length between 16 and 64 bytes comes back as it went in."""
    provider = bench.provider()
    plaintexts = [SecretBytes(os.urandom(length)) for length in _PROMISED_LENGTHS]
    results = provider.wrap(
        bench.key, bench.newest(provider), [WrapItem(each, CONTEXT) for each in plaintexts]
    )
    expect(len(results) == len(plaintexts), f"{len(plaintexts)} items give {len(results)} results")
    for plaintext, result in zip(plaintexts, results, strict=True):
        bench.opens(provider, good(result), plaintext)


def other_lengths(bench: Bench) -> None:
    """Key material of another length raises ValueError, a mistake of the caller, before anything is wrapped."""
    provider = bench.provider()
    version = bench.newest(provider)
    for length in _OTHER_LENGTHS:
        items = [WrapItem(SecretBytes(os.urandom(each)), CONTEXT) for each in (DATA_KEY_BYTES, length)]
        expect_raised(_wrap(provider, bench.key, version, items), ValueError, what=f"wrap of {length} bytes")


def rewrap_keeps_the_key(bench: Bench) -> None:
    """The same data key under another version, up, down and onto itself; the old form goes on opening."""
    provider = bench.provider()
    versions = bench.versions(provider, 2 if bench.subject.open_administration is not None else 1)
    oldest, newest = versions[0], versions[-1]
    for from_version, to_version in ((oldest, newest), (newest, oldest), (newest, newest)):
        made = bench.data_keys(provider, 3, from_version)
        results = provider.rewrap([at(each.wrapped) for each in made], to_version)
        expect(len(results) == len(made), f"rewrap of {len(made)} items gives {len(results)} results")
        for each, result in zip(made, results, strict=True):
            expect(
                (good(result).key, good(result).version) == (bench.key, to_version),
                f"rewrapped to version {to_version}, the result says {good(result).version}",
            )
            bench.opens(provider, good(result), each.plaintext)
            bench.opens(provider, each.wrapped, each.plaintext)


def capabilities(bench: Bench) -> None:
    """A batch holds at least one item, and two doors of one provider say the same."""
    provider, again = bench.provider(), bench.provider()
    said = provider.capabilities()
    expect(said.max_batch >= 1, f"max_batch is {said.max_batch}")
    expect(said == again.capabilities(), "two doors of the same provider disagree about capabilities")
    expect(provider.name == bench.subject.name, f"the door says that its name is {provider.name!r}")


def another_context(bench: Bench) -> None:
    """Exactly a backend that says it binds contexts refuses another one, also in rewrap."""
    provider = bench.provider()
    binds = provider.capabilities().binds_context
    version = bench.newest(provider)
    made = bench.data_key(provider, version)
    for context in (b"", CONTEXT + b"x", CONTEXT[:-1]):
        moved = [UnwrapItem(made.wrapped, context)]
        for call, (result,) in (
            ("unwrap", provider.unwrap(moved)),
            ("rewrap", provider.rewrap(moved, version)),
        ):
            refused = isinstance(result, WrappedKeyRejectedError)
            expect(
                refused is binds,
                f"{call} under another context {'is' if refused else 'is not'} refused, "
                f"but binds_context is {binds}",
            )


def _wrap(provider: KeyProvider, key: str, version: int, items: list[WrapItem]) -> Callable[[], object]:
    return lambda: provider.wrap(key, version, items)
