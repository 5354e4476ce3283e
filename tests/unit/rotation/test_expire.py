"""The job that erases expired records: every one of them, each once, and never one that is not what the vault wrote."""

from __future__ import annotations

import logging
import uuid
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.small_vault import CALLER, SmallVault, erase, people_key, record_row, store
from vault.audit.entry import read_entry
from vault.bootstrap import Vault
from vault.core.clock import system_clock
from vault.core.errors import RecordErasedError, UnavailableError
from vault.core.expiry import EXPIRED, Expiry, Place
from vault.core.job_ports import LeaseLostError, Turn
from vault.core.reading import View
from vault.core.rows import AuditRow, IndexRow, RecordHistoryRow, RecordRow
from vault.rotation import expire, job
from vault.rotation.expire import ExpireRecords
from vault.rotation.job import lease_end, standing_job
from vault.storage.statements import RowMapper

if TYPE_CHECKING:
    from tests.unit.rotation.conftest import Past


def expire_job(vault: Vault) -> ExpireRecords:
    return ExpireRecords(vault.stores.expiry, Expiry(vault.keyrings, vault.services.trail), system_clock)


def turn_on(vault: Vault, work: ExpireRecords, owner: bytes = b"o" * 16, later: int = 0) -> Turn:
    now = system_clock() + later
    turn = vault.stores.jobs.take(standing_job(work, now), owner=owner, now=now, until=lease_end(now))
    assert turn is not None
    return turn


def run(vault: Vault, work: ExpireRecords | None = None) -> Turn:
    """One whole pass."""
    work = work or expire_job(vault)
    turn = turn_on(vault, work)
    is_more = True
    while is_more:
        step = work.step(turn)
        turn, is_more = step.turn, step.is_more
    vault.stores.jobs.give_back(turn)
    return turn


def erase_entries(vault: Vault) -> list[AuditRow]:
    return [row for row in vault.stores.inspector.rows(AuditRow) if row.action == "record.erase"]


def test_a_pass_erases_what_is_over_and_nothing_else(vault: Vault, past: Past) -> None:
    over = [past.store(n) for n in range(5)]
    live = [
        store(vault, {"email": "soon@example.org"}, expires_at=system_clock() + 10**12).token,
        store(vault, {"email": "ever@example.org"}).token,
    ]
    work = expire_job(vault)
    assert work.is_waiting()

    turn = run(vault, work)

    assert not work.is_waiting()
    assert (turn.job.done, turn.job.failed, turn.job.error) == (5, 0, None)
    for token in over:
        row = record_row(vault, token)
        assert row.erased_at is not None
        assert (row.wrapped_dek, row.sealed_document) == (None, None)
        with pytest.raises(RecordErasedError):
            vault.services.reading.read(CALLER, people_key(token), view=View(plain=True), generation=None)
    for token in live:
        assert record_row(vault, token).erased_at is None
    assert vault.verify(lambda: None).findings == []


def test_each_erasure_has_one_entry_in_nobody_s_name(vault: Vault, past: Past) -> None:
    token = past.store(1)

    run(vault)

    (row,) = erase_entries(vault)
    event, origin = read_entry(row.canonical)
    assert (event.token, event.collection, event.tenant) == (token, "people", "default")
    assert (event.principal, event.credential, event.address, event.request_id) == (None,) * 4
    assert (event.result, event.reason, event.generation) == ("done", EXPIRED, 1)
    assert origin.boot_id == vault.services.trail.boot_id
    assert b"principal" not in row.canonical


def test_history_index_and_unique_values_go_with_it(vault: Vault, past: Past) -> None:
    token = past.store(7)
    row = record_row(vault, token)
    history = RecordHistoryRow(
        **{column.name: getattr(row, column.name) for column in fields(row)} | {"id": None}
    )
    mapper = RowMapper(RecordHistoryRow)
    with vault.engine.write() as database:
        mapper.insert().run(database, mapper.values(vault.keyrings.authenticator("default").sign(history)))

    run(vault)

    assert list(vault.stores.inspector.rows(IndexRow)) == []
    assert list(vault.stores.inspector.rows(RecordHistoryRow)) == []
    again = store(vault, {"email": "r7@example.org"})
    assert record_row(vault, again.token).erased_at is None
    assert vault.verify(lambda: None).findings == []


def test_a_tombstone_names_the_key_versions_that_open_a_backup(vault: Vault, past: Past) -> None:
    token = past.store(1)

    run(vault)

    state = vault.services.erasures.state(CALLER, people_key(token))
    assert state.opened_by == [("default", 1)]


def test_it_works_in_batches(vault: Vault, past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "BATCH_ROWS", 4)
    for n in range(10):
        past.store(n)
    work = expire_job(vault)
    turn = turn_on(vault, work)

    steps = []
    for _ in range(3):
        steps.append(work.step(turn))
        turn = steps[-1].turn

    assert [(step.done, step.failed, step.is_more) for step in steps] == [
        (4, 0, True), (4, 0, True), (2, 0, False),
    ]  # fmt: skip
    assert turn.job.done == 10


def tamper(vault: Vault, token: bytes, **columns: Any) -> None:
    assignments = ", ".join(f"{name} = ?" for name in columns)
    with vault.engine.write() as database:
        database.execute_sql(
            f"UPDATE record SET {assignments} WHERE token = ?",  # noqa: S608  # our own names
            [*columns.values(), token],
        )


@pytest.mark.parametrize(
    ("columns", "finding"),
    [
        ({"generation": 2}, "row-mac"),
        ({"keyring": "nobody"}, "unknown-keyring"),
        ({"tenant": "nobody"}, "unknown-keyring"),
        ({"mac": b"0" * 32}, "row-mac"),
        ({"mac_key_id": 99}, "row-mac"),
        ({"expires_at": 1.5}, "row-mac"),
        ({"sealed_document": "text"}, "row-mac"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_row_that_the_vault_did_not_write_is_left_and_reported(
    vault: Vault, past: Past, caplog: pytest.LogCaptureFixture, columns: dict[str, Any], finding: str
) -> None:
    tokens = [past.store(n, minutes_ago=30 - n) for n in range(3)]
    tamper(vault, tokens[0], **columns)
    with vault.engine.read() as database:
        query = "SELECT * FROM record WHERE token = ?"
        before = database.execute_sql(query, (tokens[0],)).fetchall()

    turn = run(vault)

    with vault.engine.read() as database:
        assert database.execute_sql(query, (tokens[0],)).fetchall() == before
    assert [row.token for row in erase_entries(vault)] == tokens[1:]
    assert (turn.job.done, turn.job.failed) == (2, 1)
    assert turn.job.error is not None
    assert turn.job.error.startswith(f"{finding}: record {uuid.UUID(bytes=tokens[0])}")
    (line,) = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    assert f"row-unsound job=expire finding={finding}" in line.getMessage()
    assert str(uuid.UUID(bytes=tokens[0])) in line.getMessage()


def test_unsound_rows_do_not_stand_in_the_way_of_the_others(
    vault: Vault, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "BATCH_ROWS", 2)
    tokens = [past.store(n, minutes_ago=30 - n) for n in range(8)]
    for token in tokens[:5]:
        tamper(vault, token, generation=9)

    turn = run(vault)

    assert [row.token for row in erase_entries(vault)] == tokens[5:]
    assert (turn.job.done, turn.job.failed) == (3, 5)


def test_many_that_end_at_one_moment_are_all_met(
    vault: Vault, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "BATCH_ROWS", 2)
    moment = system_clock() - 30 * 60 * 1_000_000
    monkeypatch.setattr("tests.unit.rotation.conftest.system_clock", lambda: moment + 30 * 60 * 1_000_000)
    tokens = [past.store(n) for n in range(7)]
    assert len({record_row(vault, token).expires_at for token in tokens}) == 1
    tamper(vault, tokens[0], generation=9)
    tamper(vault, tokens[3], generation=9)

    turn = run(vault)

    assert (turn.job.done, turn.job.failed) == (5, 2)


def test_a_row_is_named_once_and_counted_as_long_as_it_is_there(
    vault: Vault, past: Past, caplog: pytest.LogCaptureFixture
) -> None:
    tokens = [past.store(n) for n in range(2)]
    row = record_row(vault, tokens[0])
    tamper(vault, tokens[0], generation=9)
    work = expire_job(vault)

    first = run(vault, work)
    second = run(vault, work)
    assert (first.job.failed, second.job.failed) == (1, 1)
    assert caplog.text.count("row-unsound") == 1

    tamper(vault, tokens[1], generation=9)
    tamper(vault, tokens[0], generation=row.generation)
    third = run(vault, work)
    assert (third.job.done, third.job.failed, third.job.error) == (2, 0, None)


def test_a_restarted_worker_names_it_again(
    vault: Vault, past: Past, caplog: pytest.LogCaptureFixture
) -> None:
    tamper(vault, past.store(1), generation=9)

    for _ in range(2):
        assert run(vault).job.failed == 1

    assert caplog.text.count("row-unsound") == 2


def test_of_very_many_the_first_are_named_and_all_are_counted(
    vault: Vault, past: Past, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expire, "_MOST_NAMED", 2)
    for n in range(5):
        tamper(vault, past.store(n), generation=9)
    work = expire_job(vault)

    assert run(vault, work).job.failed == 5
    assert run(vault, work).job.failed == 5

    assert caplog.text.count("row-unsound") == 2


class TestRaces:
    """What happens between reading a row and committing its erasure."""

    def meanwhile(self, vault: Vault, monkeypatch: pytest.MonkeyPatch, happens: Any) -> None:
        genuine = vault.stores.expiry.erase

        def overtaken(*arguments: Any, **options: Any) -> Turn:
            happens()
            return genuine(*arguments, **options)

        monkeypatch.setattr(vault.stores.expiry, "erase", overtaken)

    def test_somebody_else_erases_it_first(
        self, vault: Vault, past: Past, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = past.store(1)
        self.meanwhile(vault, monkeypatch, lambda: erase(vault, token))

        turn = run(vault)

        (row,) = erase_entries(vault)
        assert (row.principal, row.reason) == ("admin", None)
        assert turn.job.done == 0

    def test_its_time_was_changed(self, vault: Vault, past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
        token = past.store(1)
        row = record_row(vault, token)
        longer = vault.keyrings.authenticator("default").sign(
            replace(row, revision=row.revision + 1, expires_at=row.expires_at + 10**12)  # type: ignore[operator]
        )

        def prolong() -> None:
            tamper(vault, token, revision=longer.revision, expires_at=longer.expires_at, mac=longer.mac)

        self.meanwhile(vault, monkeypatch, prolong)

        turn = run(vault)

        assert turn.job.done == 0
        assert record_row(vault, token).erased_at is None
        assert erase_entries(vault) == []

    def test_the_lease_went_to_another_worker(
        self, vault: Vault, past: Past, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = past.store(1)
        self.meanwhile(vault, monkeypatch, lambda: turn_on(vault, expire_job(vault), b"p" * 16, later=10**8))

        with pytest.raises(LeaseLostError):
            run(vault)

        assert record_row(vault, token).erased_at is None
        assert erase_entries(vault) == []


def test_two_workers_in_turns_write_no_entry_twice(
    vault: Vault, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "BATCH_ROWS", 2)
    tokens = {past.store(n) for n in range(9)}
    one, two = expire_job(vault), expire_job(vault)
    while one.is_waiting():
        for work, owner in ((one, b"1" * 16), (two, b"2" * 16)):
            turn = turn_on(vault, work, owner)
            vault.stores.jobs.give_back(work.step(turn).turn)

    entries = [row.token for row in erase_entries(vault)]
    assert len(entries) == len(tokens)
    assert set(entries) == tokens
    (row,) = vault.stores.jobs.jobs()
    assert row.done == 9


def test_without_a_disk_nothing_is_erased(vault: Vault, past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    token = past.store(1)
    work = expire_job(vault)
    turn = turn_on(vault, work)

    def full(*_arguments: Any) -> None:
        raise UnavailableError("full", code="store-unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(vault.stores.expiry._records, "append", full)
        with pytest.raises(UnavailableError):
            work.step(turn)
    assert record_row(vault, token).erased_at is None

    # The same turn goes on once there is room.
    assert work.step(turn).done == 1


def test_expiry_needs_no_key_provider(
    made: SmallVault, vault: Vault, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    past.store(1)
    for provider in vault.keyrings._providers.values():
        monkeypatch.setattr(provider, "unwrap", lambda *_: pytest.fail("asked for a key"), raising=False)

    assert run(vault).job.done == 1
    assert made.findings() == []


def test_a_key_version_that_came_after_the_start_is_named_too(
    vault: Vault, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = past.store(1)
    known = vault.keyrings._rings
    ((place, ring),) = known.items()
    monkeypatch.setattr(vault.keyrings, "_rings", {place: replace(ring, versions={})})

    run(vault)

    assert vault.services.erasures.state(CALLER, people_key(token)).opened_by == [("default", 1)]


def test_in_the_middle_of_a_pass_what_the_last_one_found_still_counts(
    vault: Vault, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "BATCH_ROWS", 2)
    for n in range(3):
        tamper(vault, past.store(n, minutes_ago=30 - n), generation=9)
    work = expire_job(vault)
    assert run(vault, work).job.failed == 3
    turn = turn_on(vault, work)

    turn = work.step(turn).turn

    assert turn.job.failed == 3
    assert turn.job.error is not None
    assert work.step(turn).turn.job.failed == 3


def test_a_record_that_was_prolonged_or_erased_since_it_was_found_due_is_let_be(
    vault: Vault, past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = store(vault, {"email": "live@example.org"}, expires_at=system_clock() + 10**12)
    gone = past.store(1)
    erase(vault, gone)
    places = [Place(row.expires_at or 0, row.id or 0) for row in vault.stores.inspector.rows(RecordRow)]
    assert len(places) == 2
    monkeypatch.setattr(vault.stores.expiry, "due", lambda *_, **__: [*places, Place(1, 999)])
    work = expire_job(vault)

    step = work.step(turn_on(vault, work))

    assert (step.done, step.failed) == (0, 0)
    assert record_row(vault, live.token).erased_at is None
    assert len(erase_entries(vault)) == 1
