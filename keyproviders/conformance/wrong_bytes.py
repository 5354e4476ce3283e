"""Checks of what must not open: changed, cut, extended and moved blobs, one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from keyproviders.conformance.bench import Bench, at, expect, expect_errors, not_applicable
from keyproviders.errors import ProviderDeniedError, ProviderMisconfiguredError, WrappedKeyRejectedError
from keyproviders.interface import DATA_KEY_BYTES, KeyProvider, WrappedKey

__all__ = ["another_algorithm", "another_key", "another_version", "extended", "flipped", "truncated"]


def flipped(bench: Bench) -> None:
    """One changed bit in any byte, and it does not open."""
    provider = bench.provider()
    wrapped = bench.data_key(provider).wrapped
    expect(len(wrapped.blob) >= DATA_KEY_BYTES, f"a wrapped key has only {len(wrapped.blob)} bytes")
    _none_opens(
        provider,
        wrapped,
        (
            wrapped.blob[:position]
            + bytes([wrapped.blob[position] ^ 1 << position % 8])
            + wrapped.blob[position + 1 :]
            for position in range(len(wrapped.blob))
        ),
        "with one bit flipped",
    )


def truncated(bench: Bench) -> None:
    """Cut off at any place, down to nothing, and it does not open."""
    provider = bench.provider()
    wrapped = bench.data_key(provider).wrapped
    cuts = [wrapped.blob[:length] for length in range(len(wrapped.blob))]
    _none_opens(provider, wrapped, [*cuts, wrapped.blob[1:]], "cut off")


def extended(bench: Bench) -> None:
    """With anything before or after it, it does not open."""
    provider = bench.provider()
    wrapped = bench.data_key(provider).wrapped
    blobs = [wrapped.blob + bytes(extra) for extra in (1, 7, 8, 16, 4096)]
    blobs += [wrapped.blob + b"\n", wrapped.blob + b" ", bytes(8) + wrapped.blob, wrapped.blob * 2]
    _none_opens(provider, wrapped, blobs, "extended")


def another_algorithm(bench: Bench) -> None:
    """A blob that says another algorithm is not tried."""
    provider = bench.provider()
    wrapped = bench.data_key(provider).wrapped
    items = [
        at(replace(wrapped, algorithm=each)) for each in ("", wrapped.algorithm + "x", "none", "A512GCM")
    ]
    expect_errors(provider.unwrap(items), WrappedKeyRejectedError, count=len(items), what="another algorithm")


def another_version(bench: Bench) -> None:
    """A blob opens under the version that wrapped it and under no other."""
    provider = bench.provider()
    versions = bench.versions(provider, 10)
    made = {version: bench.data_key(provider, version) for version in (versions[0], versions[1], versions[9])}
    for version, each in made.items():
        moved = [at(replace(each.wrapped, version=other)) for other in versions if other != version]
        expect_errors(
            provider.unwrap(moved),
            WrappedKeyRejectedError,
            count=len(moved),
            what=f"a blob of version {version} under another version",
        )
        bench.opens(provider, each.wrapped, each.plaintext)


def another_key(bench: Bench) -> None:
    """A blob opens under the key that wrapped it and under no other."""
    administration = bench.administration()
    try:
        try:
            version = administration.create(bench.other_key)
        except ProviderMisconfiguredError:  # an earlier run left it
            version = administration.rotate(bench.other_key)
    except ProviderDeniedError:
        not_applicable(f"the administration role may not make key {bench.other_key!r}")
    provider = bench.provider()
    moved = at(replace(bench.data_key(provider).wrapped, key=bench.other_key, version=version))
    try:
        results = provider.unwrap([moved])
    except ProviderDeniedError:
        not_applicable(f"the run-time role may not use key {bench.other_key!r}")
    expect_errors(results, WrappedKeyRejectedError, count=1, what="a blob of another key")


def _none_opens(provider: KeyProvider, wrapped: WrappedKey, blobs: Iterable[bytes], what: str) -> None:
    items = [at(replace(wrapped, blob=blob)) for blob in blobs]
    expect_errors(provider.unwrap(items), WrappedKeyRejectedError, count=len(items), what=f"unwrap {what}")
    some = items[:: max(1, len(items) // 8)]
    expect_errors(
        provider.rewrap(some, wrapped.version),
        WrappedKeyRejectedError,
        count=len(some),
        what=f"rewrap {what}",
    )
