"""Leases, job rows and batches as every engine keeps them: the row in the database is the only truth."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.contract.store_engines import (
    NOW,
    TENANT,
    Bench,
    bench_over,
    collection,
    definition,
    entry,
    index,
    key_of,
    keyring,
    new_write,
    record,
)
from tests.servers.databases import ENGINES, new_database
from vault.core.expiry import START, Erasure, Place
from vault.core.job_ports import EVERY_TENANT, JobRow, JobState, LeaseLostError, ProcessRow, Turn
from vault.core.rows import IndexRow, RecordRow
from vault.rotation.job import progress_at
from vault.storage.expiry import SqlExpiryStore

SECOND = 1_000_000
LEASE = 30 * SECOND
ONE, TWO = b"1" * 16, b"2" * 16


@pytest.fixture(params=ENGINES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with bench_over(new_database(request, request.param, tmp_path)) as made:
        keyring().create(made)
        made.stores.collections.define(
            collection(), definition(), previous=None, entry=entry(), only_if_empty=False
        )
        yield made


def job(name: str = "expire") -> JobRow:
    return JobRow(
        name=name,
        tenant=EVERY_TENANT,
        operation=name,
        state=JobState.STANDING.value,
        created_at=NOW,
        updated_at=NOW,
    )


def take(bench: Bench, owner: bytes = ONE, now: int = NOW, name: str = "expire") -> Turn | None:
    return bench.stores.jobs.take(job(name), owner=owner, now=now, until=now + LEASE)


def taken(bench: Bench, owner: bytes = ONE, now: int = NOW) -> Turn:
    turn = take(bench, owner, now)
    assert turn is not None
    return turn


class TestLeases:
    """One owner at a time."""

    def test_the_first_to_come_makes_job_and_lease(self, bench: Bench) -> None:
        turn = taken(bench)

        assert (turn.lease.owner, turn.lease.epoch, turn.lease.expires_at) == (ONE, 1, NOW + LEASE)
        assert (turn.job.done, turn.job.failed, turn.job.position, turn.job.revision) == (0, 0, 0, 1)
        assert bench.stores.jobs.jobs() == [turn.job]

    def test_while_it_holds_nobody_else_gets_it(self, bench: Bench) -> None:
        taken(bench)

        assert take(bench, TWO, NOW + LEASE - 1) is None
        assert take(bench, ONE, NOW + 1) is None
        assert take(bench, TWO, name="another") is not None

    def test_after_its_end_the_next_owner_has_the_next_epoch(self, bench: Bench) -> None:
        first = taken(bench)

        second = taken(bench, TWO, NOW + LEASE)
        third = taken(bench, TWO, NOW + 2 * LEASE)

        assert [turn.lease.epoch for turn in (first, second, third)] == [1, 2, 3]
        assert second.job == first.job

    def test_a_renewed_lease_ends_later(self, bench: Bench) -> None:
        turn = bench.stores.jobs.advance(taken(bench), progress_at(NOW + 20 * SECOND))

        assert take(bench, TWO, NOW + LEASE) is None
        assert turn.lease.expires_at == NOW + 20 * SECOND + LEASE
        assert turn.lease.epoch == 1

    def test_given_back_it_is_free_at_once(self, bench: Bench) -> None:
        turn = taken(bench)

        bench.stores.jobs.give_back(turn)

        assert taken(bench, TWO, NOW + 1).lease.epoch == 2
        # Whoever gives back what is no longer his takes nothing from the new owner.
        bench.stores.jobs.give_back(turn)
        assert take(bench, ONE, NOW + 2) is None

    def test_a_lease_from_a_clock_that_was_ahead_does_not_hold_for_years(self, bench: Bench) -> None:
        taken(bench, ONE, NOW + 10**15)

        assert taken(bench, TWO, NOW).lease.epoch == 2

    def test_a_clock_that_is_a_little_ahead_is_respected(self, bench: Bench) -> None:
        taken(bench, ONE, NOW + LEASE)

        assert take(bench, TWO, NOW) is None

    def test_of_many_who_reach_for_it_one_gets_it(self, bench: Bench) -> None:
        doors = [bench.stores, *(bench.open_again() for _ in range(3))]

        def attempt(number: int) -> bool:
            store = doors[number % len(doors)].jobs
            return store.take(job(), owner=bytes([number]) * 16, now=NOW, until=NOW + LEASE) is not None

        with ThreadPoolExecutor(8) as pool:
            won = Counter(pool.map(attempt, range(32)))
        assert won[True] == 1


class TestProgress:
    """A batch commits with its lease and its job, or not at all."""

    def test_it_is_recorded(self, bench: Bench) -> None:
        progress = progress_at(NOW + 1, position=7, failed=2, error="row-mac: record x")

        turn = bench.stores.jobs.advance(taken(bench), progress)

        (row,) = bench.stores.jobs.jobs()
        assert row == turn.job
        assert (row.position, row.failed, row.error, row.updated_at, row.revision) == (
            7, 2, "row-mac: record x", NOW + 1, 2,
        )  # fmt: skip

    def test_a_turn_is_good_for_one_batch(self, bench: Bench) -> None:
        turn = taken(bench)
        bench.stores.jobs.advance(turn, progress_at(NOW + 1))

        with pytest.raises(LeaseLostError):
            bench.stores.jobs.advance(turn, progress_at(NOW + 2))

    def test_a_lapsed_lease_that_nobody_took_goes_on(self, bench: Bench) -> None:
        turn = bench.stores.jobs.advance(taken(bench), progress_at(NOW + 10 * LEASE))

        assert turn.lease.epoch == 1
        assert take(bench, TWO, NOW + 10 * LEASE + 1) is None

    def test_who_slept_past_the_lease_writes_nothing(self, bench: Bench) -> None:
        turn = taken(bench)
        successor = taken(bench, TWO, NOW + LEASE)

        with pytest.raises(LeaseLostError):
            bench.stores.jobs.advance(turn, progress_at(NOW + LEASE, position=99))

        assert bench.stores.jobs.jobs() == [successor.job]

    def test_a_job_that_somebody_else_changed_is_not_overwritten(self, bench: Bench) -> None:
        turn = taken(bench)
        other = dataclasses.replace(turn, job=dataclasses.replace(turn.job, revision=9))

        with pytest.raises(LeaseLostError):
            bench.stores.jobs.advance(other, progress_at(NOW + 1))

        # The lease was renewed in the same transaction, and with it given up again.
        assert bench.stores.jobs.advance(turn, progress_at(NOW + 1)).job.revision == 2


def expiring(bench: Bench, *at: int, **columns: Any) -> list[RecordRow]:
    for number, expires_at in enumerate(at):
        row = record(expires_at=expires_at, **columns)
        bench.stores.records.create(new_write(row, index(row, f"tag{number}.{expires_at}")))
    return bench.rows(RecordRow)


def erasure(row: RecordRow) -> Erasure:
    tombstone = dataclasses.replace(
        row,
        revision=row.revision + 1,
        wrapped_dek=None,
        sealed_document=None,
        erased_at=NOW,
        erased_versions="[]",
    )
    return Erasure(tombstone, entry(action="record.erase", token=row.token, principal=None))


class TestExpiry:
    """Finding and erasing what is over."""

    def test_due_are_expired_records_in_the_order_of_their_ends(self, bench: Bench) -> None:
        rows = expiring(bench, NOW, NOW - 5, NOW + 1, NOW - 5)
        bench.stores.records.create(new_write(record()))
        store = bench.stores.expiry

        due = store.due(NOW, after=START, limit=10)

        assert [place.id for place in due] == [rows[1].id, rows[3].id, rows[0].id]
        assert store.due(NOW, after=START, limit=2) == due[:2]
        assert [store.due(NOW, after=place, limit=10) for place in due] == [due[1:], due[2:], []]
        assert store.find(due[0]) == rows[1]
        assert store.find(Place(NOW, 999)) is None

    @pytest.mark.parametrize("bench", ["sqlite"], indirect=True)  # whose planner says it in so many words
    def test_finding_them_reads_the_index_alone(self, bench: Bench) -> None:
        store: SqlExpiryStore = bench.stores.expiry
        with store._engine.read() as database:
            values = {"now": NOW, "expires_at": 0, "id": 0, "limit": 100}
            plan = [
                row[-1]
                for row in database.execute_sql(
                    f"EXPLAIN QUERY PLAN {store._due.sql}",
                    [values.get(str(name), name) for name in store._due._parameters],
                )
            ]
        assert len(plan) == 1, plan
        assert "USING COVERING INDEX" in plan[0]
        assert "erased_at=? AND expires_at>? AND expires_at<?" in plan[0]

    def test_a_batch_erases_with_entries_and_progress(self, bench: Bench) -> None:
        rows = expiring(bench, NOW, NOW)
        entries = len(bench.entries())

        turn = bench.stores.expiry.erase(
            [erasure(row) for row in rows], turn=taken(bench), progress=progress_at(NOW)
        )

        assert turn.job.done == 2
        assert all(row.erased_at == NOW and row.sealed_document is None for row in bench.rows(RecordRow))
        assert bench.rows(IndexRow) == []
        assert [each.token for each in bench.entries()[entries:]] == [row.token for row in rows]
        assert bench.stores.expiry.due(NOW, after=START, limit=10) == []

    def test_a_record_that_changed_meanwhile_is_left_out(self, bench: Bench) -> None:
        rows = expiring(bench, NOW, NOW)
        prepared = [erasure(row) for row in rows]
        newer = dataclasses.replace(rows[0], revision=2, expires_at=None)
        bench.stores.records.replace(new_write(newer), previous=rows[0])
        entries = len(bench.entries())

        turn = bench.stores.expiry.erase(prepared, turn=taken(bench), progress=progress_at(NOW))

        assert turn.job.done == 1
        kept = bench.stores.records.find(key_of(rows[0]))
        assert kept is not None
        assert (kept.revision, kept.erased_at) == (2, None)
        assert [each.token for each in bench.entries()[entries:]] == [rows[1].token]

    def test_without_the_lease_nothing_is_erased(self, bench: Bench) -> None:
        rows = expiring(bench, NOW)
        turn = taken(bench)
        taken(bench, TWO, NOW + LEASE)
        entries = bench.entries()

        with pytest.raises(LeaseLostError):
            bench.stores.expiry.erase([erasure(row) for row in rows], turn=turn, progress=progress_at(NOW))

        assert bench.rows(RecordRow) == rows
        assert bench.entries() == entries


def idempotency_key(bench: Bench, expires_at: int, number: int) -> None:
    engine = bench.stores.forgetting._engine
    mark = engine.database.param
    with engine.write() as database:
        database.execute_sql(
            "INSERT INTO idempotency_key (tenant, request_hash, position, status, collection, expires_at) "  # noqa: S608  # marks only
            f"VALUES ({mark}, {mark}, 0, 201, 'people', {mark})",
            (TENANT, bytes([number]) * 32, expires_at),
        )


def keys_left(bench: Bench) -> list[int]:
    with bench.stores.forgetting._engine.read() as database:
        return [row[0] for row in database.execute_sql("SELECT expires_at FROM idempotency_key ORDER BY id")]


class TestForgetting:
    """What is kept for a time only."""

    def test_keys_go_oldest_first_and_not_before_their_time(self, bench: Bench) -> None:
        for number, expires_at in enumerate((NOW - 2, NOW - 1, NOW, NOW + 1, NOW + 2)):
            idempotency_key(bench, expires_at, number)
        store = bench.stores.forgetting
        assert store.has_keys_to_forget(NOW, limit=10)

        turn = store.forget_keys(limit=2, turn=taken(bench), progress=progress_at(NOW))
        assert (turn.job.done, keys_left(bench)) == (2, [NOW, NOW + 1, NOW + 2])
        turn = store.forget_keys(limit=10, turn=turn, progress=progress_at(NOW))
        assert (turn.job.done, keys_left(bench)) == (3, [NOW + 1, NOW + 2])
        assert not store.has_keys_to_forget(NOW, limit=10)
        turn = store.forget_keys(limit=10, turn=turn, progress=progress_at(NOW))
        assert turn.job.done == 3

    def test_a_key_from_a_clock_that_was_ahead_does_not_stand_in_the_way(self, bench: Bench) -> None:
        for number, expires_at in enumerate((NOW + 10**15, NOW - 1)):
            idempotency_key(bench, expires_at, number)

        bench.stores.forgetting.forget_keys(limit=10, turn=taken(bench), progress=progress_at(NOW))

        assert keys_left(bench) == []

    def test_without_the_lease_no_key_goes(self, bench: Bench) -> None:
        idempotency_key(bench, NOW - 1, 1)
        turn = taken(bench)
        taken(bench, TWO, NOW + LEASE)

        with pytest.raises(LeaseLostError):
            bench.stores.forgetting.forget_keys(limit=10, turn=turn, progress=progress_at(NOW))

        assert keys_left(bench) == [NOW - 1]

    def test_dead_processes_go(self, bench: Bench) -> None:
        for number, heartbeat_at in enumerate((NOW - 2, NOW - 1, NOW, NOW + 10**15)):
            bench.stores.processes.write(process(number, heartbeat_at=heartbeat_at))
        store = bench.stores.forgetting
        assert store.has_processes_to_forget(NOW - 1, now=NOW)

        turn = store.forget_processes(NOW - 1, limit=10, turn=taken(bench), progress=progress_at(NOW))

        assert turn.job.done == 2
        assert [row.heartbeat_at for row in bench.stores.processes.processes()] == [NOW - 1, NOW]
        assert not store.has_processes_to_forget(NOW - 1, now=NOW)


def process(number: int = 1, **columns: Any) -> ProcessRow:
    values: dict[str, Any] = {
        "boot_id": bytes([number]) * 16,
        "host": "a",
        "pid": 1,
        "role": "server",
        "release": "0.1.0",
        "started_at": NOW,
        "heartbeat_at": NOW,
    }
    return ProcessRow(**values | columns)


class TestProcesses:
    """Who is at work."""

    def test_a_heartbeat_is_kept_in_the_first_row(self, bench: Bench) -> None:
        bench.stores.processes.write(process())
        bench.stores.processes.write(process(heartbeat_at=NOW + 10))

        assert bench.stores.processes.processes() == [process(heartbeat_at=NOW + 10)]
        bench.stores.processes.remove(process().boot_id)
        bench.stores.processes.remove(process().boot_id)
        assert bench.stores.processes.processes() == []

    @pytest.mark.parametrize(
        ("now", "is_alive"),
        [
            (NOW, True),
            (NOW + 30 * SECOND, True),
            (NOW + 30 * SECOND + 1, False),
            (NOW - 30 * SECOND - 1, False),
        ],
    )
    def test_after_thirty_seconds_it_is_dead(self, now: int, *, is_alive: bool) -> None:
        assert process().is_alive(now) is is_alive
