"""The loop: whose turn it is, how long it pauses, and what it does when something goes wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.contract.store_engines import NOW, bench_over
from vault.core.errors import IntegrityError, UnavailableError
from vault.core.job_ports import JobRow, JobStore, LeaseLostError, LeaseRow, Progress, Turn
from vault.rotation import worker
from vault.rotation.job import Step, progress_at
from vault.rotation.worker import Outcome, Worker

OWNER = b"w" * 16
CANARY = "hildegard@example.org"


class Jobs:
    """A job store in memory, with one owner too many if ``held``."""

    def __init__(self) -> None:
        self.rows: dict[str, JobRow] = {}
        self.held: set[str] = set()
        self.log: list[tuple[str, str]] = []
        self.is_away = False

    def take(self, job: JobRow, *, owner: bytes, now: int, until: int) -> Turn | None:
        self._check()
        assert until > now
        self.log.append(("take", job.name))
        if job.name in self.held:
            return None
        row = self.rows.setdefault(job.name, job)
        return Turn(LeaseRow(name=job.name, owner=owner, epoch=1, expires_at=until), row)

    def advance(self, turn: Turn, progress: Progress) -> Turn:
        row = replace(turn.job, failed=progress.failed, revision=turn.job.revision + 1)
        self.rows[row.name] = row
        return Turn(turn.lease, row)

    def give_back(self, turn: Turn) -> None:
        self._check()
        self.log.append(("give back", turn.job.name))

    def jobs(self) -> list[JobRow]:
        return list(self.rows.values())

    def _check(self) -> None:
        if self.is_away:
            raise UnavailableError("gone", code="store-unavailable")


@dataclass
class Script:
    """A job that does as many batches as there are rows for, each with the commit time that it says."""

    name: str
    store: Jobs
    batches: list[float] = field(default_factory=list)
    failed: int = 0
    trouble: Exception | None = None
    turns: list[Turn] = field(default_factory=list)

    @property
    def operation(self) -> str:
        return "test"

    def is_waiting(self) -> bool:
        return bool(self.batches)

    def step(self, turn: Turn) -> Step:
        self.turns.append(turn)
        if self.trouble is not None:
            trouble, self.trouble = self.trouble, None
            raise trouble
        seconds = self.batches.pop(0)
        following = self.store.advance(turn, progress_at(NOW, failed=self.failed))
        return Step(following, 10, self.failed, seconds, is_more=bool(self.batches))


class Stop:
    """Stops after so many waits, and keeps what it was asked to wait for."""

    def __init__(self, after: int) -> None:
        self.waits: list[float] = []
        self._after = after

    def is_set(self) -> bool:
        return len(self.waits) >= self._after

    def wait(self, timeout: float) -> bool:
        self.waits.append(timeout)
        return self.is_set()


class Meter:
    def __init__(self) -> None:
        self.batches: list[tuple[str, int, int]] = []
        self.idle: list[str] = []

    def batch(self, job: str, rows_done: int, rows_failed: int, seconds: float) -> None:
        assert seconds >= 0
        self.batches.append((job, rows_done, rows_failed))

    def nothing_waits(self, job: str) -> None:
        self.idle.append(job)


@pytest.fixture
def jobs() -> Jobs:
    return Jobs()


@pytest.fixture
def meter() -> Meter:
    return Meter()


@pytest.fixture
def make(jobs: Jobs, meter: Meter) -> Callable[..., Worker]:
    def build(*scripts: Any, store: JobStore | None = None) -> Worker:
        return Worker(
            scripts, store or jobs, owner=OWNER, clock=lambda: NOW, meter=meter, interval_seconds=1000
        )

    return build


def test_it_pauses_as_long_as_the_last_commit_took(make: Callable[..., Worker], jobs: Jobs) -> None:
    stop = Stop(after=3)

    make(Script("a", jobs, [0.2, 0.001, 3.0])).run(stop)

    assert stop.waits[:3] == [0.2, worker.LEAST_PAUSE_SECONDS, 3.0]


def test_while_nothing_waits_nothing_is_written(
    make: Callable[..., Worker], jobs: Jobs, meter: Meter
) -> None:
    make(Script("a", jobs), Script("b", jobs)).run(Stop(after=5))

    assert jobs.log == []
    # But that somebody looked is known: an alert must not take a job without work for one that stands still.
    assert {*meter.idle} == {"a", "b"}
    assert meter.batches == []


def test_a_job_that_is_finished_gives_its_lease_back_and_rests(
    make: Callable[..., Worker], jobs: Jobs, meter: Meter
) -> None:
    script = Script("a", jobs, [0.0, 0.0])

    make(script).run(Stop(after=5))

    assert jobs.log == [("take", "a"), ("give back", "a")]
    assert meter.batches == [("a", 10, 0), ("a", 10, 0)]
    # One lease for all batches, and each batch with what the one before gave it.
    assert [turn.job.revision for turn in script.turns] == [1, 2]


def test_jobs_take_turns(make: Callable[..., Worker], jobs: Jobs, meter: Meter) -> None:
    make(Script("a", jobs, [0.0] * 3), Script("b", jobs, [0.0] * 2)).run(Stop(after=5))

    assert [name for name, _, _ in meter.batches] == ["a", "b", "a", "b", "a"]


def test_what_another_worker_does_is_left_to_it(
    make: Callable[..., Worker], jobs: Jobs, meter: Meter
) -> None:
    jobs.held = {"a"}

    make(Script("a", jobs, [0.0]), Script("b", jobs, [0.0])).run(Stop(after=4))

    assert meter.batches == [("b", 10, 0)]
    assert jobs.log.count(("take", "a")) == 1, "it rests before it asks again"


def test_told_to_stop_it_finishes_the_batch_and_lets_go(
    make: Callable[..., Worker], jobs: Jobs, meter: Meter
) -> None:
    script = Script("a", jobs, [0.0] * 9)

    make(script).run(Stop(after=1))

    assert len(meter.batches) == 1
    assert jobs.log == [("take", "a"), ("give back", "a")]


def test_told_to_stop_before_it_began_it_does_nothing(make: Callable[..., Worker], jobs: Jobs) -> None:
    make(Script("a", jobs, [0.0])).run(Stop(after=0))

    assert jobs.log == []


class TestTrouble:
    """One job's trouble is not the others'."""

    def run(
        self, make: Callable[..., Worker], jobs: Jobs, trouble: Exception, monkeypatch: pytest.MonkeyPatch
    ) -> Script:
        # Without its rest it tries again at once.
        monkeypatch.setattr(worker._Bench, "rest", lambda _bench, _at_most=0.0: None)
        script = Script("a", jobs, [0.0, 0.0], trouble=trouble)
        make(script, Script("b", jobs, [0.0] * 20)).run(Stop(after=6))
        assert len(script.turns) == 3
        return script

    def test_a_lost_lease_is_taken_anew(
        self,
        make: Callable[..., Worker],
        jobs: Jobs,
        meter: Meter,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self.run(make, jobs, LeaseLostError("a"), monkeypatch)

        assert [entry for entry in jobs.log if entry[1] == "a"][:3] == [
            ("take", "a"), ("take", "a"), ("give back", "a"),
        ]  # fmt: skip
        assert "lease-lost job=a" in caplog.text
        assert ("b", 10, 0) in meter.batches

    def test_an_outage_keeps_the_lease(
        self,
        make: Callable[..., Worker],
        jobs: Jobs,
        meter: Meter,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        error = UnavailableError(CANARY, code="keys-unavailable")

        script = self.run(make, jobs, error, monkeypatch)

        assert script.turns[0] == script.turns[1]
        assert jobs.log.count(("take", "a")) == 1
        assert "job-waits job=a code=keys-unavailable" in caplog.text
        assert ("b", 10, 0) in meter.batches

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (RuntimeError(CANARY), "unexpected"),
            (IntegrityError("stored-key", where="stored_key 1"), "integrity"),
        ],
    )
    def test_a_fault_is_told_by_type_and_place_only(
        self,
        make: Callable[..., Worker],
        jobs: Jobs,
        meter: Meter,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        error: Exception,
        code: str,
    ) -> None:
        self.run(make, jobs, error, monkeypatch)

        (line,) = [each for each in caplog.records if "job-failed" in each.getMessage()]
        assert line.levelno == logging.CRITICAL
        assert f"job=a code={code}" in line.getMessage()
        assert type(error).__name__ in line.getMessage()
        assert "hildegard" not in caplog.text
        assert ("b", 10, 0) in meter.batches

    def test_a_lease_that_cannot_be_given_back_ends_by_itself(
        self, make: Callable[..., Worker], jobs: Jobs, caplog: pytest.LogCaptureFixture
    ) -> None:
        class GoneInTheEnd(Stop):
            def wait(self, timeout: float) -> bool:
                jobs.is_away = True
                return super().wait(timeout)

        make(Script("a", jobs, [0.0] * 5)).run(GoneInTheEnd(after=1))

        assert "lease-kept job=a code=store-unavailable" in caplog.text

    def test_after_trouble_it_rests(self, make: Callable[..., Worker], jobs: Jobs) -> None:
        script = Script("a", jobs, [0.0], trouble=UnavailableError("gone"))

        make(script).run(Stop(after=6))

        assert len(script.turns) == 1


class TestOnce:
    """Everything that waits, and then the end."""

    def test_it_does_everything_and_says_what(self, make: Callable[..., Worker], jobs: Jobs) -> None:
        jobs.held = {"c"}

        outcomes = make(Script("a", jobs, [0.0] * 3), Script("b", jobs), Script("c", jobs, [0.0])).run_once(
            Stop(after=99)
        )

        assert outcomes == [
            Outcome("a", 30, 0, is_elsewhere=False),
            Outcome("b", 0, 0, is_elsewhere=False),
            Outcome("c", 0, 0, is_elsewhere=True),
        ]
        assert jobs.log == [("take", "a"), ("take", "c"), ("give back", "a")]

    def test_what_failed_is_said(self, make: Callable[..., Worker], jobs: Jobs) -> None:
        (outcome,) = make(Script("a", jobs, [0.0], failed=2)).run_once(Stop(after=99))

        assert outcome == Outcome("a", 10, 2, is_elsewhere=False)

    def test_an_outage_ends_it_and_the_leases_are_given_back(
        self, make: Callable[..., Worker], jobs: Jobs
    ) -> None:
        with pytest.raises(UnavailableError):
            make(Script("a", jobs, [0.0], trouble=UnavailableError("gone"))).run_once(Stop(after=99))

        assert jobs.log[-1] == ("give back", "a")

    def test_a_lost_lease_leaves_the_rest_to_the_new_owner(
        self, make: Callable[..., Worker], jobs: Jobs
    ) -> None:
        (outcome,) = make(Script("a", jobs, [0.0], trouble=LeaseLostError("a"))).run_once(Stop(after=99))

        assert outcome.is_elsewhere


class Walk:
    """A job that walks a table by id, as those of rotation will: it goes on where its row says."""

    name = operation = "walk"
    last = 1_000

    def __init__(self, store: JobStore, batches: int) -> None:
        self.seen: list[int] = []
        self._store = store
        self._batches = batches

    def is_waiting(self) -> bool:
        return self._batches > 0

    def step(self, turn: Turn) -> Step:
        if self._batches == 0:
            raise SystemExit("killed")
        self._batches -= 1
        position = min(turn.job.position + 100, self.last)
        self.seen += range(turn.job.position + 1, position + 1)
        following = self._store.advance(turn, progress_at(NOW, position=position))
        return Step(following, position - turn.job.position, 0, 0.0, is_more=position < self.last)


@pytest.fixture
def real_jobs(tmp_path: Path) -> Iterator[JobStore]:
    with bench_over(tmp_path / "jobs.db") as bench:
        yield bench.stores.jobs


def test_a_walk_goes_on_where_a_killed_worker_left_it(real_jobs: JobStore, meter: Meter) -> None:
    def run(walk: Walk, owner: bytes, now: int) -> None:
        Worker([walk], real_jobs, owner=owner, clock=lambda: now, meter=meter, interval_seconds=1000).run(
            Stop(after=15)
        )

    first, second = Walk(real_jobs, 3), Walk(real_jobs, 99)
    with pytest.raises(SystemExit):
        run(first, b"1" * 16, NOW)
    early = Walk(real_jobs, 99)
    run(early, b"2" * 16, NOW + 1)
    assert early.seen == [], "the lease of the killed worker still holds"

    run(second, b"3" * 16, NOW + 31 * 1_000_000)

    assert first.seen + second.seen == list(range(1, 1_001))
    (row,) = real_jobs.jobs()
    assert row.position == 1_000


def test_after_trouble_it_is_tried_again_soon_however_long_the_interval(
    make: Callable[..., Worker], jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    monkeypatch.setattr(
        worker._Bench, "rest", lambda bench, at_most=1e9: rests.append(min(bench.interval_seconds, at_most))
    )
    jobs.held = {"b"}

    make(
        Script("a", jobs, [0.0], trouble=UnavailableError("gone")),
        Script("b", jobs, [0.0]),
        Script("c", jobs),
    ).run(Stop(after=3))

    assert rests == [30.0, 30.0, 1000]
