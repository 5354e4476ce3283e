"""Checks of lists: their order, their length, and one bad item among good ones."""

from __future__ import annotations

import os
from dataclasses import replace

from keyproviders.conformance.bench import CONTEXT, Bench, at, expect, good
from keyproviders.errors import KeyProviderError, WrappedKeyRejectedError
from keyproviders.interface import DATA_KEY_BYTES, SecretBytes, UnwrapItem, WrapItem

__all__ = ["empty", "one_bad_item", "order", "over_the_limit"]

_MOST_ITEMS = 20_000
_SMALL_BATCH = 7


def empty(bench: Bench) -> None:
    """Nothing in, nothing out."""
    provider = bench.provider()
    version = bench.newest(provider)
    for call, results in (
        ("generate", provider.generate(bench.key, version, [])),
        ("wrap", provider.wrap(bench.key, version, [])),
        ("unwrap", provider.unwrap([])),
        ("rewrap", provider.rewrap([], version)),
    ):
        expect(list(results) == [], f"{call} of nothing gives {len(results)} results")


def order(bench: Bench) -> None:
    """Every result stands where its item stood, each item with a context of its own."""
    provider = bench.provider()
    version = bench.newest(provider)
    contexts = [CONTEXT + str(number).encode() for number in range(30)]
    plaintexts = [SecretBytes(os.urandom(DATA_KEY_BYTES)) for _ in contexts]
    items = [WrapItem(each, context) for each, context in zip(plaintexts, contexts, strict=True)]
    wrapped = [good(each) for each in provider.wrap(bench.key, version, items)]
    backwards = [UnwrapItem(*each) for each in reversed(list(zip(wrapped, contexts, strict=True)))]
    expected = [each.reveal() for each in reversed(plaintexts)]
    rewrapped = [good(each) for each in provider.rewrap(backwards, version)]
    for what, again in (
        ("unwrap", backwards),
        ("rewrap", [replace(item, wrapped=each) for item, each in zip(backwards, rewrapped, strict=True)]),
    ):
        opened = [good(each).reveal() for each in provider.unwrap(again)]
        expect(opened == expected, f"the results of {what} do not stand in the order of the items")
    made = [good(each) for each in provider.generate(bench.key, version, contexts)]
    own = [UnwrapItem(each.wrapped, context) for each, context in zip(made, contexts, strict=True)]
    opened = [good(each).reveal() for each in provider.unwrap(own)]
    expect(
        opened == [each.plaintext.reveal() for each in made],
        "the results of generate do not stand in the order of the contexts",
    )


def one_bad_item(bench: Bench) -> None:
    """The bad item is rejected wherever it stands, and all the others come back."""
    provider = bench.provider()
    version = bench.newest(provider)
    made = bench.data_keys(provider, _SMALL_BATCH, version)
    for position in (0, _SMALL_BATCH // 2, _SMALL_BATCH - 1):
        items = [at(each.wrapped) for each in made]
        blob = bytearray(made[position].wrapped.blob)
        blob[-1] ^= 1
        items[position] = at(replace(made[position].wrapped, blob=bytes(blob)))
        for call, results in (
            ("unwrap", provider.unwrap(items)),
            ("rewrap", provider.rewrap(items, version)),
        ):
            expect(
                len(results) == len(items), f"{call} of {len(items)} items, one bad: {len(results)} results"
            )
            bad = [index for index, each in enumerate(results) if isinstance(each, KeyProviderError)]
            expect(bad == [position], f"{call} with item {position} bad reports items {bad} as bad")
            expect(
                isinstance(results[position], WrappedKeyRejectedError),
                f"{call} reports a bad item as {type(results[position]).__name__}",
            )
        for index, result in enumerate(provider.unwrap(items)):
            if index != position:
                expect(
                    good(result).reveal() == made[index].plaintext.reveal(),
                    f"item {index} opens to another key because item {position} is bad",
                )


def over_the_limit(bench: Bench) -> None:
    """More items than one round trip carries: all come back, in order, from every call."""
    provider = bench.provider()
    version = bench.newest(provider)
    max_batch = provider.capabilities().max_batch
    for count in sorted({min(2 * max_batch + 1, _MOST_ITEMS), bench.large_batch}):
        made = bench.data_keys(provider, count, version)
        plaintexts = [each.plaintext.reveal() for each in made]
        wrapped = provider.wrap(
            bench.key, version, [WrapItem(SecretBytes(each), CONTEXT) for each in plaintexts]
        )
        rewrapped = provider.rewrap([at(each.wrapped) for each in made], version)
        for call, results in (("wrap", wrapped), ("rewrap", rewrapped)):
            expect(len(results) == count, f"{call} of {count} items gives {len(results)} results")
            opened = provider.unwrap([at(good(each)) for each in results])
            expect(len(opened) == count, f"unwrap of {count} items gives {len(opened)} results")
            expect(
                [good(each).reveal() for each in opened] == plaintexts,
                f"{count} items come back from {call} as others than they went in",
            )
