"""Expiry that is killed, stopped or fails at any instant: each record expired or untouched, each entry written once."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.expired_records import ExpiringWorker, store_expired
from tests.faults.live_server import wait_for
from tests.faults.small_vault import IS_GATE, SmallVault, make_empty_vault, say
from tests.faults.statement_steps import (
    EXIT_CODE,
    MOST_STEPS,
    Steps,
    dump,
    exit_now,
    raise_now,
)
from tests.forked_child import run_in_child
from vault import bootstrap
from vault.bootstrap import Vault
from vault.core.clock import system_clock
from vault.core.errors import UnavailableError
from vault.core.expiry import Expiry
from vault.rotation.expire import ExpireRecords
from vault.rotation.job import lease_end, standing_job

pytestmark = pytest.mark.sqlite_only("reaches into SQLite's own file")

ROUNDS = 100 if IS_GATE else 10
RECORDS = 300
TRUSTED = ("job", "job_lease", "idempotency_key")


def rows(made: SmallVault, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{made.database}?mode=ro", uri=True)) as connection:
        return connection.execute(statement).fetchall()


def erased(made: SmallVault) -> set[bytes]:
    return {token for (token,) in rows(made, "SELECT token FROM record WHERE erased_at IS NOT NULL")}


def check_whole(made: SmallVault, tokens: set[bytes]) -> set[bytes]:
    """Assert that each record is expired with one entry or untouched without; give the expired ones."""
    gone = erased(made)
    entries = [
        token for (token,) in rows(made, "SELECT token FROM audit_entry WHERE action = 'record.erase'")
    ]
    assert len(entries) == len(set(entries))
    assert set(entries) == gone <= tokens
    for table in ("index_entry", "record_history"):
        kept = {token for (token,) in rows(made, f"SELECT token FROM {table}")}  # noqa: S608  # our own names
        assert not kept & gone
    assert rows(made, "SELECT sum(done) FROM job") == [(len(gone),)]
    assert made.findings() == []
    return gone


@pytest.fixture
def made(tmp_path: Path) -> SmallVault:
    return make_empty_vault(tmp_path / "data", history=2)


def test_expiry_that_is_killed_is_whole_for_each_record(made: SmallVault, tmp_path: Path) -> None:
    rng = random.Random(7)
    tokens: set[bytes] = set()
    gone: set[bytes] = set()
    in_mid_work = 0
    for _ in range(ROUNDS):
        tokens |= set(store_expired(made, range(len(tokens), len(gone) + RECORDS)))
        worker = ExpiringWorker(made, tmp_path / "worker.log")
        # Never sleep and hope: the kill comes after a batch of this round has committed.
        wait_for(lambda before=gone: before < erased(made), "a batch")  # type: ignore[misc]
        time.sleep(rng.uniform(0, 0.15))
        worker.kill()

        before, gone = gone, check_whole(made, tokens)

        in_mid_work += before < gone < tokens
    worker = ExpiringWorker(made, tmp_path / "worker.log")
    wait_for(lambda: erased(made) == tokens, "everything expired")
    assert worker.stop() == 0
    assert check_whole(made, tokens) == tokens
    assert "Traceback" not in worker.log
    assert "job-failed" not in worker.log
    say(f"{ROUNDS} kills, {in_mid_work} of them in mid-work; {len(tokens):,} records, each with one entry")
    assert in_mid_work >= 0.9 * ROUNDS


STOPPING = """
import os, signal
from vault.storage.expiry import SqlExpiryStore
genuine, calls = SqlExpiryStore.erase, []
def stopping(*arguments, **options):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGSTOP)
    return genuine(*arguments, **options)
SqlExpiryStore.erase = stopping
"""


def test_a_worker_that_slept_past_its_lease_writes_nothing_stale(made: SmallVault, tmp_path: Path) -> None:
    """It is stopped between planning a batch and committing it, and woken when another has done all the work."""
    tokens = set(store_expired(made, range(60)))
    sleeper = ExpiringWorker(made, tmp_path / "sleeper.log", before=STOPPING)
    successor = None
    try:
        sleeper.wait_until_stopped()
        assert len(erased(made)) == 20
        successor = ExpiringWorker(made, tmp_path / "successor.log")
        wait_for(lambda: erased(made) == tokens, "the other worker takes over")
        assert successor.stop() == 0
        assert rows(made, "SELECT epoch FROM job_lease WHERE name = 'expire'") == [(2,)]
        before = dump(made) | {table: rows(made, f"SELECT * FROM {table}") for table in TRUSTED}  # noqa: S608

        os.kill(sleeper.pid, signal.SIGCONT)

        wait_for(lambda: "lease-lost" in sleeper.log, "it notices")
        after = dump(made) | {table: rows(made, f"SELECT * FROM {table}") for table in TRUSTED}  # noqa: S608
        assert after == before
        more = set(store_expired(made, range(60, 70)))
        wait_for(lambda: erased(made) == tokens | more, "it goes on with what comes next")
        assert sleeper.stop() == 0
    finally:
        for worker in (sleeper, successor):
            if worker is not None:
                worker.kill()
    check_whole(made, tokens | more)


@pytest.fixture
def template(tmp_path: Path) -> SmallVault:
    made = make_empty_vault(tmp_path / "template", history=2)
    tokens = store_expired(made, range(2))
    with made.opened() as vault, vault.engine.write() as database:
        database.execute_sql(
            "INSERT INTO idempotency_key (tenant, request_hash, position, body_hash, status, collection, token, "
            "generation, expires_at) VALUES ('default', ?, 0, ?, 201, 'people', ?, 1, ?)",
            (b"r" * 32, b"b" * 32, tokens[0], 2**62),
        )
    return made


def expire_all(vault: Vault, *, later: int = 0) -> None:
    work = ExpireRecords(vault.stores.expiry, Expiry(vault.keyrings, vault.services.trail), system_clock)
    now = system_clock() + later
    turn = vault.stores.jobs.take(
        standing_job(work, now), owner=os.urandom(16), now=now, until=lease_end(now)
    )
    assert turn is not None
    step = work.step(turn)
    assert not step.is_more
    vault.stores.jobs.give_back(step.turn)


def copies(template: SmallVault, folder: Path) -> Iterator[tuple[int, SmallVault]]:
    for k in range(1, MOST_STEPS):
        shutil.rmtree(folder, ignore_errors=True)
        yield k, template.copy_to(folder)
    pytest.fail("the sweep has no end")


def is_whole(made: SmallVault, before: dict[str, list[Any]], context: str) -> bool:
    """Both records expired, or nothing changed; return which."""
    gone = erased(made)
    assert made.findings() == [], context
    if not gone:
        assert dump(made) == before, context
        assert rows(made, "SELECT count(*) FROM idempotency_key WHERE body_hash IS NULL") == [(0,)]
        return False
    assert len(gone) == 2, context
    assert rows(made, "SELECT count(*) FROM audit_entry WHERE action = 'record.erase'") == [(2,)], context
    assert rows(made, "SELECT count(*) FROM index_entry") == [(0,)], context
    assert rows(made, "SELECT count(*) FROM record_history") == [(0,)], context
    assert rows(made, "SELECT body_hash, status FROM idempotency_key") == [(None, 201)], context
    assert rows(made, "SELECT done FROM job") == [(2,)], context
    return True


def test_each_statement_of_an_expiry_fails(template: SmallVault, tmp_path: Path) -> None:
    outcomes = []
    for k, made in copies(template, tmp_path / "data"):
        before = dump(made)
        with made.opened() as vault:
            with Steps(k, raise_now).watching() as steps, contextlib.suppress(UnavailableError):
                expire_all(vault)
            outcomes.append(is_whole(made, before, f"step {k}"))
            if not steps.has_failed:
                break
            # The same connection goes on: nothing of the failed attempt is left in it.
            expire_all(vault, later=10**8)
        assert is_whole(made, before, f"after step {k}")
    say(f"expiry: {len(outcomes)} steps")
    assert outcomes == sorted(outcomes)
    assert (outcomes[0], outcomes[-1]) == (False, True)
    assert len(outcomes) > 15


def test_the_process_ends_at_each_statement_of_an_expiry(template: SmallVault, tmp_path: Path) -> None:
    outcomes = []
    for k, made in copies(template, tmp_path / "data"):
        before = dump(made)

        def run_and_end(made: SmallVault = made, k: int = k) -> None:
            vault = bootstrap.open_vault(made.configuration)
            with Steps(k, exit_now).watching():
                expire_all(vault)

        code = run_in_child(run_and_end)
        assert code in {0, EXIT_CODE}, f"step {k}"
        outcomes.append(is_whole(made, before, f"step {k}"))
        with made.opened() as vault:
            expire_all(vault, later=10**8)
        assert is_whole(made, before, f"after step {k}")
        if code == 0:
            break
    assert outcomes == sorted(outcomes)
    assert (outcomes[0], outcomes[-1]) == (False, True)
