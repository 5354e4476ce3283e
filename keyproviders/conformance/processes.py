"""Checks of threads, processes and the life of a door: rotation under readers, fork, reopening, closing."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from keyproviders.conformance.bench import CONTEXT, Bench, at, expect, expect_raised, good
from keyproviders.errors import ProviderUnavailableError
from keyproviders.interface import HealthStatus, KeyAdministration

__all__ = [
    "closed",
    "fork_after_use",
    "health",
    "reopened",
    "rotation_under_readers",
    "two_administrators",
]

_READERS = 4
_LEAST_ROUNDS = 5
_ROTATIONS = 3
_CHILD_SECONDS = 60.0
_CALLS_EACH = 25


def rotation_under_readers(bench: Bench) -> None:
    """Four threads on one door open old keys and make new ones while versions are added; each gets its own keys."""
    administration, provider = bench.administration(), bench.provider()
    made = [bench.data_keys(provider, 5) for _ in range(_READERS)]
    rotated = threading.Event()
    start = threading.Barrier(_READERS)

    def read(reader: int) -> int:
        rounds = 0
        start.wait()
        while not (rotated.is_set() and rounds >= _LEAST_ROUNDS):
            opened = provider.unwrap([at(each.wrapped) for each in made[reader]])
            expect(
                [good(each).reveal() for each in opened]
                == [each.plaintext.reveal() for each in made[reader]],
                "a thread was given the keys of another thread, or wrong ones",
            )
            fresh = bench.data_key(provider)
            bench.opens(provider, fresh.wrapped, fresh.plaintext)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(_READERS) as pool:
        readers = [pool.submit(read, reader) for reader in range(_READERS)]
        try:
            versions = [administration.rotate(bench.key) for _ in range(_ROTATIONS)]
        finally:
            rotated.set()
        for reader in readers:
            reader.result()
    listed = [each.version for each in provider.key_info(bench.key).versions]
    missing = [version for version in versions if version not in listed]
    expect(not missing, f"an open door does not list the new versions {missing}")
    fresh = bench.data_key(provider, versions[-1])
    bench.opens(provider, fresh.wrapped, fresh.plaintext)


def two_administrators(bench: Bench) -> None:
    """Rotations at the same time give every number once, and every one of them works."""
    doors = [bench.administration(), bench.administration()]
    start = threading.Barrier(len(doors))

    def rotate(door: KeyAdministration) -> list[int]:
        start.wait()
        return [door.rotate(bench.key) for _ in range(_ROTATIONS)]

    with ThreadPoolExecutor(len(doors)) as pool:
        versions = sorted(version for made in pool.map(rotate, doors) for version in made)
    expect(len(set(versions)) == len(versions), f"two administrators were given the same version: {versions}")
    provider = bench.provider()
    for version in versions:
        fresh = bench.data_key(provider, version)
        bench.opens(provider, fresh.wrapped, fresh.plaintext)


def fork_after_use(bench: Bench) -> None:
    """Parent and child go on at the same time with a door that was used, and with one that was only opened."""
    warm, cold = bench.provider(), bench.provider()
    ours, theirs = bench.data_key(warm), bench.data_key(warm)

    def child() -> None:
        for provider in (warm, cold):
            for _ in range(_CALLS_EACH):
                bench.opens(provider, theirs.wrapped, theirs.plaintext)
            fresh = bench.data_key(provider)
            bench.opens(provider, fresh.wrapped, fresh.plaintext)

    def parent() -> None:
        for provider in (warm, cold):
            for _ in range(_CALLS_EACH):
                bench.opens(provider, ours.wrapped, ours.plaintext)

    expect(_beside(child, parent), "a door that was open before a fork does not work in the child")
    bench.opens(warm, theirs.wrapped, theirs.plaintext)


def reopened(bench: Bench) -> None:
    """A door that is closed and opened again, here and in a new process, opens what was wrapped before."""
    before = bench.provider()
    made = bench.data_key(before)
    listed = before.key_info(bench.key)
    before.close()
    after = bench.provider()
    bench.opens(after, made.wrapped, made.plaintext)
    expect(after.key_info(bench.key) == listed, "after reopening the key has other versions")
    expect(
        _beside(lambda: bench.opens(bench.subject.open(), made.wrapped, made.plaintext), lambda: None),
        "a door that is opened in a new process does not open what was wrapped before",
    )


def health(bench: Bench) -> None:
    """Good canary OK, damaged canary rejected, canary of an unknown key missing; it never raises."""
    provider = bench.provider()
    canary = bench.data_key(provider).wrapped
    damaged = replace(canary, blob=canary.blob[:-1] + bytes([canary.blob[-1] ^ 1]))
    unknown = replace(canary, key=bench.unknown_key)
    for what, wrapped, allowed in (
        ("good", canary, {HealthStatus.OK}),
        ("damaged", damaged, {HealthStatus.CANARY_REJECTED}),
        ("unknown", unknown, {HealthStatus.KEY_MISSING, HealthStatus.DENIED}),
    ):
        found = provider.health(at(wrapped))
        expect(found.status in allowed, f"a {what} canary gives health {found.status.value!r}")
        expect(bool(found.detail), f"the health of a {what} canary says nothing in its detail")
    provider.close()
    found = provider.health(at(canary))
    expect(found.status is HealthStatus.DOWN, f"a closed door gives health {found.status.value!r}")


def closed(bench: Bench) -> None:
    """After close every call raises ProviderUnavailableError, a second close nothing; other doors stay open."""
    provider, other = bench.provider(), bench.provider()
    version = bench.newest(provider)
    made = bench.data_key(provider, version)
    bench.opens(other, made.wrapped, made.plaintext)
    provider.close()
    provider.close()
    calls: dict[str, Callable[[], object]] = {
        "generate": lambda: provider.generate(bench.key, version, [CONTEXT]),
        "unwrap": lambda: provider.unwrap([at(made.wrapped)]),
        "rewrap": lambda: provider.rewrap([at(made.wrapped)], version),
        "key_info": lambda: provider.key_info(bench.key),
    }
    for name, call in calls.items():
        expect_raised(call, ProviderUnavailableError, what=f"{name} on a closed door")
    bench.opens(other, made.wrapped, made.plaintext)
    if bench.subject.open_administration is not None:
        administration = bench.administration()
        administration.close()
        expect_raised(
            lambda: administration.rotate(bench.key),
            ProviderUnavailableError,
            what="rotate on a closed door",
        )


def _beside(in_child: Callable[[], object], in_parent: Callable[[], object]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork beside threads
        child = os.fork()
    if not child:
        code = 1
        try:
            in_child()
            code = 0
        finally:
            os._exit(code)
    try:
        in_parent()
    finally:
        ended = _wait(child)
    return ended


def _wait(child: int) -> bool:
    deadline = time.monotonic() + _CHILD_SECONDS
    while time.monotonic() < deadline:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status) == 0
        time.sleep(0.01)
    # It hangs, most likely in a lock that another thread held at the fork.
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False
