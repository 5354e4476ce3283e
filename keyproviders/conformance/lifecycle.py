"""Checks of what exists: unknown names and numbers, rotation, retirement, destruction, and who may do which."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from keyproviders.conformance.bench import CONTEXT, Bench, at, expect, expect_errors, expect_raised, good
from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderDeniedError,
    ProviderMisconfiguredError,
)
from keyproviders.interface import (
    KeyProvider,
    SecretBytes,
    UnwrapItem,
    VersionState,
    WrapItem,
    WrappedKey,
)

__all__ = [
    "destroyed",
    "end",
    "no_verbs_of_administration",
    "nothing_is_made",
    "refusals_of_administration",
    "retired",
    "unknown_key",
    "unknown_version",
]

# A server that knows its roles does not tell a stranger's key from none.
_UNKNOWN = (KeyNotFoundError, ProviderDeniedError)
_VERBS = ("create", "rotate", "retire", "destroy")
_HIGHEST_NUMBER = 2**31


def unknown_key(bench: Bench) -> None:
    """A key that is not there is not found, by every call."""
    provider = bench.provider()
    _refused_everywhere(provider, bench.unknown_key, 1, at(bench.data_key(provider).wrapped))
    expect_raised(lambda: provider.key_info(bench.unknown_key), *_UNKNOWN, what="key_info of an unknown key")


def unknown_version(bench: Bench) -> None:
    """A version that is not there is not found: below the first, above the newest, far above it."""
    provider = bench.provider()
    item = at(bench.data_key(provider).wrapped)
    newest = max(each.version for each in provider.key_info(bench.key).versions)
    for version in (-1, 0, newest + 1, newest * 10 + 10, _HIGHEST_NUMBER):
        _refused_everywhere(provider, bench.key, version, item)
        expect_errors(
            provider.rewrap([item], version), *_UNKNOWN, count=1, what=f"rewrap to unknown version {version}"
        )


def nothing_is_made(bench: Bench) -> None:
    """After every run-time call with an unknown key or version, the versions are what they were."""
    provider = bench.provider()
    before = provider.key_info(bench.key)
    newest = before.versions[-1].version
    item = at(bench.data_key(provider).wrapped)
    plaintext = WrapItem(SecretBytes(bytes(32)), CONTEXT)
    ghost = replace(item.wrapped, key=bench.unknown_key, version=1)
    for key, version in ((bench.unknown_key, 1), (bench.key, newest + 1)):
        for call in (provider.generate, provider.wrap):
            with contextlib.suppress(KeyProviderError):
                call(key, version, [CONTEXT if call == provider.generate else plaintext])  # type: ignore[list-item]
    for items in ([at(ghost)], [at(ghost), item]):
        with contextlib.suppress(KeyProviderError):
            provider.unwrap(items)
        with contextlib.suppress(KeyProviderError):
            provider.rewrap(items, newest + 1)
    with contextlib.suppress(KeyProviderError):
        provider.key_info(bench.unknown_key)
    provider.health(at(ghost))
    expect(bench.provider().key_info(bench.key) == before, "a run-time call changed the versions of the key")
    expect_raised(
        lambda: bench.provider().key_info(bench.unknown_key), *_UNKNOWN, what="key_info after run-time calls"
    )
    if bench.subject.open_administration is not None:
        expect_raised(
            lambda: bench.administration().rotate(bench.unknown_key),
            *_UNKNOWN,
            what="rotate of a key that only run-time calls named",
        )


def no_verbs_of_administration(bench: Bench) -> None:
    """Whoever holds the run-time door has nothing to call that changes a key."""
    provider = bench.provider()
    found = [verb for verb in _VERBS if hasattr(provider, verb)]
    expect(not found, f"the run-time door offers {', '.join(found)}")


def refusals_of_administration(bench: Bench) -> None:
    """Administration invents nothing: no second key of a name, no rotation or end of what is not there."""
    administration = bench.administration()
    unknown, beyond = bench.unknown_key, _HIGHEST_NUMBER
    expect_raised(
        lambda: administration.create(bench.key),
        ProviderMisconfiguredError,
        what="create of a key that exists",
    )
    expect_raised(lambda: administration.rotate(unknown), *_UNKNOWN, what="rotate of an unknown key")
    expect_raised(lambda: administration.retire(unknown, 1), *_UNKNOWN, what="retire of an unknown key")
    expect_raised(lambda: administration.destroy(unknown, 1), *_UNKNOWN, what="destroy of an unknown key")
    for version in (0, beyond):
        expect_raised(
            lambda version=version: administration.retire(bench.key, version),  # type: ignore[misc]
            KeyNotFoundError,
            what=f"retire of unknown version {version}",
        )
    expect_raised(
        lambda: administration.destroy(bench.key, beyond),
        KeyNotFoundError,
        what=f"destroy of unknown version {beyond}",
    )


def retired(bench: Bench) -> None:
    """Every version up to the named one refuses every call; the next one works; retiring less takes nothing back."""
    administration, provider = bench.administration(), bench.provider()
    versions = bench.versions(provider, 3)
    newest, limit = versions[-1], versions[-2]
    old = [bench.data_key(provider, version) for version in versions[-3:-1]]
    kept = bench.data_key(provider, newest)
    administration.retire(bench.key, limit)
    administration.retire(bench.key, versions[-3])
    for each in old:
        version = each.wrapped.version
        _refused_everywhere(provider, bench.key, version, at(each.wrapped), KeyVersionRetiredError)
        expect_errors(
            provider.rewrap([at(each.wrapped)], newest),
            KeyVersionRetiredError,
            count=1,
            what=f"rewrap from retired version {version}",
        )
        expect_errors(
            provider.rewrap([at(kept.wrapped)], version),
            KeyVersionRetiredError,
            count=1,
            what=f"rewrap to retired version {version}",
        )
    bench.opens(provider, kept.wrapped, kept.plaintext)
    states = {each.version: each.state for each in provider.key_info(bench.key).versions}
    expect(
        states.get(newest) is VersionState.ENABLED, f"version {newest} was not retired, but is not enabled"
    )
    wrong = [
        version
        for version in versions[:-1]
        if states.get(version, VersionState.RETIRED) != VersionState.RETIRED
    ]
    expect(not wrong, f"retired up to {limit}, but {wrong} are enabled")


def destroyed(bench: Bench) -> None:
    """Only a retired version is destroyed; it is gone for every call, and its number is not given out again."""
    administration, provider = bench.administration(), bench.provider()
    target = bench.newest(provider)
    made = bench.data_key(provider, target)
    expect_raised(
        lambda: administration.destroy(bench.key, target),
        ProviderMisconfiguredError,
        what="destroy of a version that is not retired",
    )
    bench.opens(provider, made.wrapped, made.plaintext)
    next_version = administration.rotate(bench.key)
    expect(next_version > target, f"rotate after version {target} gives version {next_version}")
    administration.retire(bench.key, target)
    # Oldest first: some backends can only cut off the beginning.
    for version in [each.version for each in provider.key_info(bench.key).versions if each.version <= target]:
        administration.destroy(bench.key, version)
    listed = [each.version for each in provider.key_info(bench.key).versions]
    expect(target not in listed, f"destroyed version {target} is still listed")
    _refused_everywhere(provider, bench.key, target, at(made.wrapped), KeyNotFoundError)
    expect_raised(
        lambda: administration.destroy(bench.key, target), KeyNotFoundError, what="destroy, a second time"
    )
    fresh = bench.data_key(provider, next_version)
    bench.opens(provider, fresh.wrapped, fresh.plaintext)
    again = administration.rotate(bench.key)
    expect(again > next_version, f"rotate gives version {again} after {next_version}")


def end(bench: Bench, *, key: str, kept: list[str]) -> None:
    """Retire and destroy every version of a key that the kit made.

    Args:
        bench: whose key it is.
        key: its name; one that was never made is left alone.
        kept: gains a sentence for each version that is still there.
    """
    administration, provider = bench.administration(), bench.provider()
    try:
        versions = [each.version for each in provider.key_info(key).versions]
    except (KeyNotFoundError, ProviderDeniedError):
        return
    for last in versions[-2:]:
        # Some backends keep the newest version in use as long as the key is there.
        with contextlib.suppress(KeyProviderError):
            administration.retire(key, last)
    for version in versions:
        try:
            administration.destroy(key, version)
        except KeyProviderError as error:
            kept.append(f"version {version} of key {key!r}: {error}")


def _refused_everywhere(
    provider: KeyProvider, key: str, version: int, item: UnwrapItem, *kinds: type[KeyProviderError]
) -> None:
    expected = kinds or _UNKNOWN
    where = f"version {version} of key {key!r}"
    plaintext = WrapItem(SecretBytes(bytes(32)), CONTEXT)
    expect_raised(
        lambda: provider.generate(key, version, [CONTEXT]), *expected, what=f"generate under {where}"
    )
    expect_raised(lambda: provider.wrap(key, version, [plaintext]), *expected, what=f"wrap under {where}")
    moved: WrappedKey = replace(item.wrapped, key=key, version=version)
    beside = [at(moved), item] if moved != item.wrapped and key == item.wrapped.key else [at(moved)]
    results = _unwrapped(provider, beside)
    expect_errors(results[:1], *expected, count=1, what=f"unwrap of {where}")
    for result in results[1:]:
        good(result)


def _unwrapped(provider: KeyProvider, items: list[UnwrapItem]) -> list[SecretBytes | KeyProviderError]:
    # Where the role does not reach the key at all, the whole call may be denied.
    try:
        return provider.unwrap(items)
    except ProviderDeniedError as error:
        return [error]
