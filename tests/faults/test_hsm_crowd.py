"""Many at one token: threads that share a door, processes that log in at once, and nothing that piles up."""

from __future__ import annotations

import _ssl
import ctypes
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from pkcs11.constants import Attribute

from keyproviders.errors import ProviderUnavailableError, WrappedKeyRejectedError
from keyproviders.interface import DataKey, SecretBytes, UnwrapItem, WrapItem, WrappedKey
from keyproviders.pkcs11_runtime import Pkcs11KeyProvider
from tests.servers.softhsm import KEY, ROOT, HsmBench

CONTEXT = b"tenant|collection|token"
ALGORITHMS = pytest.mark.parametrize("algorithm", ["A256GCM", "A256KWP"])
THREADS = 4
CALLS = 2_000
PROCESSES = 4
CYCLES = 200 if os.environ.get("GATE_COUNTS") else 50

LOGIN_CYCLES = """
import sys
from keyproviders.interface import *
from keyproviders.registry import open_provider
from pathlib import Path
folder, module, label, key, cycles = sys.argv[1:]
settings = ProviderSettings("hsm", {"module": module, "token_label": label, "pin": {"file": "pin"}}, Path(folder))
print("ready", flush=True)
sys.stdin.readline()
for cycle in range(int(cycles)):
    provider = open_provider("pkcs11", settings)
    made, = provider.generate(key, 1, [b"context"])
    opened, = provider.unwrap([UnwrapItem(made.wrapped, b"context")])
    assert opened.reveal() == made.plaintext.reveal()
    provider.close()
print("done")
"""


def round_trip(provider: Pkcs11KeyProvider) -> None:
    (made,) = provider.generate(KEY, 1, [CONTEXT])
    assert isinstance(made, DataKey)
    (moved,) = provider.rewrap([UnwrapItem(made.wrapped, CONTEXT)], 2)
    assert isinstance(moved, WrappedKey)
    (again,) = provider.wrap(KEY, 2, [WrapItem(made.plaintext, CONTEXT)])
    assert isinstance(again, WrappedKey)
    (opened,) = provider.unwrap([UnwrapItem(moved, CONTEXT)])
    assert isinstance(opened, SecretBytes)
    assert opened.reveal() == made.plaintext.reveal()


@ALGORITHMS
def test_four_threads_share_a_door(hsm_bench: HsmBench, algorithm: str) -> None:
    administration = hsm_bench.administration(algorithm)
    administration.create(KEY)
    administration.rotate(KEY)
    provider = hsm_bench.provider()
    start = threading.Barrier(THREADS)

    def work() -> int:
        start.wait()
        trips = CALLS // 4 // THREADS
        for _ in range(trips):
            round_trip(provider)
        return trips * 4

    with ThreadPoolExecutor(THREADS) as pool:
        done = [each.result() for each in [pool.submit(work) for _ in range(THREADS)]]
    assert sum(done) == CALLS


def test_four_processes_log_in_at_once_again_and_again(hsm_bench: HsmBench) -> None:
    hsm_bench.administration().create(KEY)
    options = hsm_bench.settings().options
    arguments = [str(hsm_bench.hsm.folder), options["module"], options["token_label"], KEY, str(CYCLES)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LOGIN_CYCLES, *map(str, arguments)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for each in processes:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        for each in processes:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        ended = [each.communicate(timeout=120) for each in processes]
    finally:
        for each in processes:
            each.kill()
            each.wait()
    assert [(each.returncode, said) for each, said in zip(processes, ended, strict=True)] == [
        (0, ("done\n", ""))
    ] * PROCESSES


@ALGORITHMS
@pytest.mark.parametrize("options", [{}, {"generate_inside": True}], ids=["outside", "inside"])
def test_two_thousand_unwraps_leave_nothing_in_the_token(
    hsm_bench: HsmBench, algorithm: str, options: dict[str, bool]
) -> None:
    administration = hsm_bench.administration(algorithm)
    administration.create(KEY)
    administration.rotate(KEY)
    provider = hsm_bench.provider(**options)

    def objects() -> int:
        session = provider._token._work
        assert session is not None
        return sum(1 for _ in session.get_objects({Attribute.TOKEN: False}))

    made = [each for each in provider.generate(KEY, 1, [CONTEXT] * 100) if isinstance(each, DataKey)]
    items = [UnwrapItem(each.wrapped, CONTEXT) for each in made]
    bad = [UnwrapItem(each.wrapped, b"x" * 9) for each in made[:20]]
    before = objects()
    for _ in range(20):
        assert all(isinstance(each, SecretBytes) for each in provider.unwrap(items))
    provider.unwrap(bad)
    provider.rewrap(items, 2)
    provider.key_info(KEY)
    provider.capabilities()
    assert objects() == before == 0


def test_a_thread_that_does_not_get_its_turn_is_told_to_try_later(hsm_bench: HsmBench) -> None:
    hsm_bench.administration().create(KEY)
    provider = hsm_bench.provider(wait_seconds=0.1)
    provider.generate(KEY, 1, [CONTEXT])
    with ThreadPoolExecutor(1) as pool, provider._token._turn():
        waiting = pool.submit(provider.generate, KEY, 1, [CONTEXT])
        with pytest.raises(ProviderUnavailableError, match="busy"):
            waiting.result()
    assert provider.generate(KEY, 1, [CONTEXT])


def test_a_long_list_lets_others_between(hsm_bench: HsmBench) -> None:
    hsm_bench.administration().create(KEY)
    provider = hsm_bench.provider()
    turns: list[int] = []
    run = provider._token.run

    def counting(work: object) -> object:
        turns.append(1)
        return run(work)  # type: ignore[arg-type]

    provider._token.run = counting  # type: ignore[method-assign,assignment]
    assert len(provider.generate(KEY, 1, [CONTEXT] * 100)) == 100
    assert len(turns) == 4


def test_what_does_not_open_leaves_nothing_for_the_next_tls_connection_of_the_thread(
    hsm_bench: HsmBench,
) -> None:
    """SoftHSM leaves an error in the queue of OpenSSL, which Python's ssl module reads, too."""
    try:
        peek = ctypes.CDLL(_ssl.__file__).ERR_peek_error
    except (AttributeError, OSError):
        pytest.skip("this Python has its OpenSSL inside, where SoftHSM leaves nothing")
    hsm_bench.administration("A256GCM").create(KEY)
    provider = hsm_bench.provider()
    assert peek() == 0
    (made,) = provider.generate(KEY, 1, [CONTEXT])
    assert isinstance(made, DataKey)
    (refused,) = provider.unwrap([UnwrapItem(made.wrapped, b"another context")])
    assert isinstance(refused, WrappedKeyRejectedError)
    assert peek() == 0
