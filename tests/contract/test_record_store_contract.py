"""What every engine's record store does: whole operations, each with its entry, or nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.store_engines import (
    NOW,
    Bench,
    as_history,
    collection,
    definition,
    entry,
    index,
    key_of,
    keyring,
    new_write,
    next_generation,
    query,
    record,
    same,
    tombstone,
)
from vault.core.ports import DuplicateIndexError, Holder, Page, RecordStore, RecordWrite, StaleWriteError
from vault.core.rows import AuditRow, IndexRow, RecordHistoryRow, RecordRow

ALL = Page(limit=1_000)


@pytest.fixture
def records(bench: Bench) -> RecordStore:
    return bench.stores.records


def state(bench: Bench) -> list[list[Any]]:
    return [bench.rows(row_type) for row_type in (RecordRow, RecordHistoryRow, IndexRow, AuditRow)]


def created(records: RecordStore, *tags: str, **columns: Any) -> RecordRow:
    row = record(**columns)
    records.create(new_write(row, *(index(row, tag) for tag in tags)))
    found = records.find(key_of(row))
    assert found is not None
    return found


def look_up(
    records: RecordStore, tag: str, *, now: int = NOW, page: Page = ALL, **options: Any
) -> list[RecordRow]:
    found = records.lookup_for(
        query(tag, **options),
        now=now,
        page=page,
        entries_for=lambda rows: [entry() for _ in rows] or [entry()],
    )
    return [row for _, row in found]


def test_a_created_record_is_found_as_it_was_written(bench: Bench, records: RecordStore) -> None:
    row = record(expires_at=NOW + 1)
    write = new_write(row, index(row, "a"), index(row, "c", name="city", unique=False))

    records.create(write)

    assert same(records.find(key_of(row)), row)
    assert all(same(stored, sent) for stored, sent in zip(bench.rows(IndexRow), write.index, strict=True))
    assert same(bench.entries()[-1], write.entry)


def test_another_process_sees_it_at_once(bench: Bench, records: RecordStore) -> None:
    row = record()
    records.create(new_write(row))

    assert same(bench.open_again().records.find(key_of(row)), row)


@pytest.mark.parametrize(
    "columns",
    [
        {"created_at": 2**63 - 1, "updated_at": 0},
        {"sealed_document": b""},
        {"sealed_document": bytes(range(256)) * 4_500},
        {"wrapped_dek": b"\0" * 40},
        {"keyring": "default", "erased_versions": '[["Zoë ☃ 𝄞",1]]'},
        {"erased_at": 1, "wrapped_dek": None, "sealed_document": None},
        {"final_at": 7, "expires_at": None},
    ],
)
def test_values_come_back_exactly(records: RecordStore, columns: dict[str, Any]) -> None:
    row = record(**columns)
    records.create(new_write(row))

    assert same(records.find(key_of(row)), row)


def test_a_token_is_found_in_its_place_only(records: RecordStore) -> None:
    row = created(records)
    key = key_of(row)

    assert records.find(replace(key, collection="other")) is None
    assert records.find(replace(key, tenant="other")) is None
    assert records.find(replace(key, token=b"0" * 16)) is None


def test_a_taken_unique_value_is_refused_whole(bench: Bench, records: RecordStore) -> None:
    holder = created(records, "a")
    before = state(bench)
    other = record()

    with pytest.raises(DuplicateIndexError) as refused:
        records.create(new_write(other, index(other, "free", name="login"), index(other, "a")))

    assert refused.value.holders == {"email": Holder(holder.token, None)}
    assert state(bench) == before


def test_all_taken_fields_are_named_in_order(bench: Bench, records: RecordStore) -> None:
    first, second = record(), record()
    records.create(new_write(first, index(first, "p", name="phone")))
    records.create(new_write(second, index(second, "a")))
    other = record()

    with pytest.raises(DuplicateIndexError) as refused:
        records.create(
            new_write(
                other, index(other, "a"), index(other, "free", name="login"), index(other, "p", name="phone")
            )
        )

    assert list(refused.value.holders.items()) == [
        ("email", Holder(second.token, None)),
        ("phone", Holder(first.token, None)),
    ]
    assert len(bench.rows(RecordRow)) == 2


@pytest.mark.parametrize(
    "other_place",
    [{"tenant": "other"}, {"collection": "other"}, {"normaliser": "email/2"}, {"field": "login"}],
)
def test_a_value_is_unique_within_its_place(records: RecordStore, other_place: dict[str, Any]) -> None:
    created(records, "a")
    other = record()

    records.create(new_write(other, index(other, "a", **other_place)))

    assert records.find(key_of(other)) is not None


def test_a_lookup_value_may_repeat(records: RecordStore) -> None:
    rows = [record() for _ in range(3)]
    for row in rows:
        records.create(new_write(row, index(row, "rome", name="city", unique=False)))

    assert [row.token for row in look_up(records, "rome", name="city")] == [row.token for row in rows]


@pytest.mark.parametrize(
    ("columns", "cause"),
    [
        ({"key_version": 2}, "keys"),
        ({"keyring": "other"}, "keys"),
        ({"schema_version": 2}, "schema"),
        ({"collection": "other"}, "schema"),
    ],
)
def test_a_write_under_stale_facts_is_refused(
    bench: Bench, records: RecordStore, columns: dict[str, Any], cause: str
) -> None:
    before = state(bench)

    with pytest.raises(StaleWriteError) as refused:
        records.create(new_write(record(**columns)))

    assert refused.value.cause == cause
    assert state(bench) == before


@pytest.mark.parametrize("dead", ["pending", "deactivated", "retired", "destroyed"])
def test_only_an_active_key_version_is_written(bench: Bench, records: RecordStore, dead: str) -> None:
    keyring("old", first_key=10, state=dead).create(bench)
    live = created(records)
    before = state(bench)

    with pytest.raises(StaleWriteError) as refused:
        records.create(new_write(record(keyring="old")))
    assert refused.value.cause == "keys"
    with pytest.raises(StaleWriteError) as refused:
        records.replace(new_write(next_generation(live, keyring="old")), previous=live)
    assert refused.value.cause == "keys"
    assert state(bench) == before


@pytest.mark.parametrize("dead", ["pending", "deactivated", "retired", "destroyed"])
def test_only_an_active_index_key_is_written(bench: Bench, records: RecordStore, dead: str) -> None:
    keyring("old", first_key=10, index_state=dead).create(bench)
    live = created(records, "a")
    before = state(bench)

    for key_id in (11, 99):
        row = record()
        with pytest.raises(StaleWriteError) as refused:
            records.create(new_write(row, index(row, "b", index_key_id=key_id)))
        assert refused.value.cause == "keys"
        with pytest.raises(StaleWriteError) as refused:
            records.replace(
                new_write(next_generation(live), index(live, "b", index_key_id=key_id)), previous=live
            )
        assert refused.value.cause == "keys"
    assert state(bench) == before


def test_a_replaced_record_is_the_next_generation(bench: Bench, records: RecordStore) -> None:
    first = created(records, "a")
    second = next_generation(first)
    write = new_write(second, index(second, "b"))

    records.replace(write, previous=first)

    stored = records.find(key_of(first))
    assert same(stored, second)
    assert stored is not None
    assert stored.id == first.id
    assert look_up(records, "a") == []
    assert look_up(records, "b") == [stored]
    assert any(same(each, write.entry) for each in bench.entries())
    assert bench.rows(RecordHistoryRow) == []


def test_a_record_keeps_its_own_unique_value(records: RecordStore) -> None:
    first = created(records, "a")
    second = next_generation(first)

    records.replace(new_write(second, index(second, "a")), previous=first)

    assert [row.generation for row in look_up(records, "a")] == [2]


def test_a_replace_by_a_taken_value_changes_nothing(bench: Bench, records: RecordStore) -> None:
    holder = created(records, "a")
    mine = created(records, "b")
    before = state(bench)
    second = next_generation(mine)

    with pytest.raises(DuplicateIndexError) as refused:
        records.replace(
            new_write(second, index(second, "a"), history=as_history(mine), history_limit=3), previous=mine
        )

    assert refused.value.holders == {"email": Holder(holder.token, None)}
    assert state(bench) == before


def test_a_replace_of_a_changed_record_is_refused(bench: Bench, records: RecordStore) -> None:
    first = created(records, "a")
    second = next_generation(first)
    records.replace(new_write(second, index(second, "a")), previous=first)
    before = state(bench)

    for late in (
        lambda: records.replace(new_write(next_generation(first)), previous=first),
        lambda: records.erase(tombstone(first), previous=first, entry=entry()),
    ):
        with pytest.raises(StaleWriteError) as refused:
            late()
        assert refused.value.cause == "record"
    assert state(bench) == before


def test_of_many_racing_replaces_one_wins(bench: Bench, records: RecordStore) -> None:
    first = created(records, "a")
    others = bench.open_again().records

    def attempt(number: int) -> str:
        second = next_generation(first)
        try:
            store = records if number % 2 else others
            store.replace(new_write(second, index(second, "a")), previous=first)
        except StaleWriteError as error:
            return error.cause
        return "won"

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(attempt, range(24))) == {"won": 1, "record": 23}
    assert len(bench.rows(IndexRow)) == 1


def test_of_many_racing_creates_one_wins(bench: Bench, records: RecordStore) -> None:
    others = bench.open_again().records
    entries = len(bench.entries())

    def attempt(number: int) -> tuple[str, ...]:
        row = record()
        try:
            store = records if number % 2 else others
            store.create(new_write(row, index(row, "a"), index(row, f"l{number}", name="login")))
        except DuplicateIndexError as error:
            return tuple(error.holders)
        return ("won",)

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(attempt, range(24))) == {("won",): 1, ("email",): 23}
    assert len(bench.rows(RecordRow)) == 1
    assert len(bench.rows(IndexRow)) == 2
    assert len(bench.entries()) == entries + 1


@pytest.mark.parametrize("limit", [1, 2, 12])
def test_history_keeps_as_many_generations_as_asked(bench: Bench, records: RecordStore, limit: int) -> None:
    current = created(records)
    originals = {1: current}
    for _ in range(14):
        following = next_generation(current)
        records.replace(
            new_write(following, history=as_history(current), history_limit=limit), previous=current
        )
        found = records.find(key_of(current))
        assert found is not None
        current = found
        originals[current.generation] = current

    kept = bench.rows(RecordHistoryRow)
    assert [row.generation for row in kept] == list(range(15 - limit, 15))
    assert all(same(row, as_history(originals[row.generation])) for row in kept)


def test_history_that_is_switched_off_goes_with_the_next_write(bench: Bench, records: RecordStore) -> None:
    first = created(records)
    second = next_generation(first)
    records.replace(new_write(second, history=as_history(first), history_limit=2), previous=first)
    stored = records.find(key_of(first))
    assert stored is not None

    records.replace(new_write(next_generation(stored)), previous=stored)

    assert bench.rows(RecordHistoryRow) == []


def test_an_erased_record_leaves_its_tombstone_only(bench: Bench, records: RecordStore) -> None:
    first = created(records, "a")
    other = created(records, "b")
    second = next_generation(first)
    records.replace(
        new_write(second, index(second, "a"), history=as_history(first), history_limit=2), previous=first
    )
    current = records.find(key_of(first))
    assert current is not None
    erasure = entry(action="record.erase")

    records.erase(tombstone(current), previous=current, entry=erasure)

    assert same(records.find(key_of(first)), tombstone(current))
    assert [row.token for row in bench.rows(IndexRow)] == [other.token]
    assert bench.rows(RecordHistoryRow) == []
    assert same(bench.entries()[-1], erasure)
    assert look_up(records, "a") == []
    # The value is free again.
    created(records, "a")


def read_for(
    records: RecordStore, row: RecordRow, entry_for: Callable[..., AuditRow], generation: int | None = None
) -> RecordRow | None:
    return records.read_for(key_of(row), generation=generation, entry_for=entry_for)


def test_a_read_commits_its_entry(bench: Bench, records: RecordStore) -> None:
    row = created(records)
    made = entry(action="record.read")
    seen: list[Any] = []

    def entry_for(current: RecordRow, wanted: RecordRow | None) -> AuditRow:
        seen.append((current, wanted))
        return made

    assert read_for(records, row, entry_for) == row
    assert seen == [(row, row)]
    assert same(bench.entries()[-1], made)


def test_a_read_of_nothing_asks_for_no_entry(bench: Bench, records: RecordStore) -> None:
    before = bench.entries()

    assert read_for(records, record(), lambda *_: pytest.fail("asked")) is None

    assert bench.entries() == before


class RefusedError(Exception):
    """What core raises when it refuses."""


def refuse(*_: object) -> AuditRow:
    raise RefusedError


def test_a_refused_read_writes_nothing(bench: Bench, records: RecordStore) -> None:
    row = created(records, "a")
    before = bench.entries()

    with pytest.raises(RefusedError):
        read_for(records, row, refuse)
    with pytest.raises(RefusedError):
        records.lookup_for(query("a"), now=NOW, page=ALL, entries_for=refuse)  # type: ignore[arg-type]

    assert bench.entries() == before
    # The store is free for the next one.
    created(records, "b")


def test_an_earlier_generation_is_read_beside_the_current_one(records: RecordStore) -> None:
    first = created(records)
    second = next_generation(first)
    records.replace(new_write(second, history=as_history(first), history_limit=2), previous=first)
    seen: list[tuple[int, int | None]] = []

    def entry_for(current: RecordRow, wanted: RecordRow | None) -> AuditRow:
        seen.append((current.generation, wanted and wanted.generation))
        return entry()

    older = read_for(records, first, entry_for, generation=1)
    assert isinstance(older, RecordHistoryRow)
    assert same(older, as_history(first))
    newest = read_for(records, first, entry_for, generation=2)
    assert newest is not None
    assert newest.generation == 2
    assert read_for(records, first, entry_for, generation=3) is None
    assert seen == [(2, 1), (2, 2), (2, None)]


def test_a_lookup_finds_live_unexpired_records_of_its_place(bench: Bench, records: RecordStore) -> None:
    bench.stores.collections.define(
        collection("other"), definition("other"), previous=None, entry=entry(), only_if_empty=False
    )

    def with_city(**columns: Any) -> RecordRow:
        row = record(**columns)
        records.create(new_write(row, index(row, "rome", name="city", unique=False)))
        return row

    alive = [with_city(), with_city(expires_at=NOW + 1)]
    with_city(expires_at=NOW)
    with_city(expires_at=NOW - 1)
    with_city(erased_at=1)
    with_city(collection="other")
    elsewhere = record()
    records.create(new_write(elsewhere, index(elsewhere, "oslo", name="city", unique=False)))

    found = look_up(records, "rome", name="city")

    assert [row.token for row in found] == [row.token for row in alive]
    assert look_up(records, "rome", name="city", tenant="other") == []
    assert look_up(records, "rome", name="city", index_key_id=3) == []


def test_a_lookup_gives_each_index_row_beside_its_record(bench: Bench, records: RecordStore) -> None:
    row = created(records, "a")
    entries = [entry(action="record.lookup"), entry(action="record.lookup")]
    seen: list[Any] = []

    def entries_for(found: Sequence[tuple[IndexRow, RecordRow]]) -> list[AuditRow]:
        seen.extend(found)
        return entries

    found = records.lookup_for(query("a"), now=NOW, page=ALL, entries_for=entries_for)

    assert found == seen == [(bench.rows(IndexRow)[0], row)]
    assert all(same(stored, made) for stored, made in zip(bench.entries()[-2:], entries, strict=True))


def test_a_lookup_in_vain_commits_its_entry(bench: Bench, records: RecordStore) -> None:
    made = entry(action="record.lookup", result="not-found")

    assert records.lookup_for(query("x"), now=NOW, page=ALL, entries_for=lambda _: [made]) == []

    assert same(bench.entries()[-1], made)


def test_pages_follow_each_other_without_gap(records: RecordStore) -> None:
    rows = [record() for _ in range(11)]
    for row in rows:
        records.create(new_write(row, index(row, "rome", name="city", unique=False)))
    seen: dict[str, list[bytes]] = {"lookup": [], "list": []}
    for name, fetch in (
        ("lookup", lambda page: look_up(records, "rome", name="city", page=page)),
        ("list", lambda page: list_page(records, page)),
    ):
        page = Page(limit=4)
        while batch := fetch(page):
            assert len(batch) <= 4
            seen[name] += [row.token for row in batch]
            page = Page(limit=4, after=batch[-1].id)

    assert seen["lookup"] == seen["list"] == [row.token for row in rows]


def list_page(
    records: RecordStore, page: Page = ALL, *, tenant: str = "default", name: str = "people"
) -> list[RecordRow]:
    return records.list_page(tenant, name, now=NOW, page=page, entry=entry(action="record.list"))


def test_a_list_shows_live_unexpired_records_and_commits_its_entry(
    bench: Bench, records: RecordStore
) -> None:
    alive = [created(records), created(records, expires_at=NOW + 1)]
    created(records, expires_at=NOW)
    created(records, erased_at=1)
    before = len(bench.entries())

    assert list_page(records) == alive
    assert list_page(records, tenant="other") == []
    assert list_page(records, name="other") == []

    assert [each.action for each in bench.entries()[before:]] == ["record.list"] * 3


def test_index_rows_with_a_tag(bench: Bench, records: RecordStore) -> None:
    row = created(records, "a")
    before = bench.entries()

    assert [found.token for found in records.index_rows_with(query("a"))] == [row.token]
    assert records.index_rows_with(query("b")) == []
    assert records.index_rows_with(query("a", tenant="other")) == []
    assert bench.entries() == before


def test_an_entry_that_cannot_be_written_takes_the_write_with_it(bench: Bench, records: RecordStore) -> None:
    """An entry id that exists already stands for a log that refuses."""
    first = created(records, "a")
    taken = bench.entries()[0]
    before = state(bench)
    second = next_generation(first)
    other = record()
    attempts: list[Callable[[], object]] = [
        lambda: records.create(RecordWrite(other, [index(other, "b")], taken)),
        lambda: records.replace(RecordWrite(second, [index(second, "b")], taken), previous=first),
        lambda: records.erase(tombstone(first), previous=first, entry=taken),
        lambda: read_for(records, first, lambda *_: taken),
        lambda: records.lookup_for(query("a"), now=NOW, page=ALL, entries_for=lambda _: [entry(), taken]),
        lambda: records.list_page("default", "people", now=NOW, page=ALL, entry=taken),
    ]
    for attempt in attempts:
        with pytest.raises(Exception, match="nothing was written"):
            attempt()
        assert state(bench) == before
