"""What every engine's record store does with a batch: one transaction, each operation whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    receipt,
    record,
    same,
    tombstone,
)
from vault.core.batches import (
    Batch,
    BatchCreate,
    BatchErase,
    BatchItem,
    BatchLookup,
    BatchRead,
    BatchRefused,
    BatchRefusedError,
    BatchReplace,
    Outcome,
    Refusal,
)
from vault.core.errors import RecordErasedError, UnprocessableError, VaultError
from vault.core.ports import DuplicateIndexError, Holder, Page, RecordKey, RecordStore, StaleWriteError
from vault.core.receipts import Receipt, ReceiptExistsError
from vault.core.rows import AuditRow, IndexRow, RecordHistoryRow, RecordRow

TEN = Page(limit=10)
BOTH = pytest.mark.parametrize("is_atomic", [False, True], ids=["each", "atomic"])


@pytest.fixture
def records(bench: Bench) -> RecordStore:
    return bench.stores.records


def state(bench: Bench, *receipts_of: bytes) -> list[Any]:
    stored = [bench.rows(row_type) for row_type in (RecordRow, RecordHistoryRow, IndexRow, AuditRow)]
    return [*stored, *(bench.stores.receipts.find("default", each) for each in receipts_of)]


def created(records: RecordStore, *tags: str, **columns: Any) -> RecordRow:
    row = record(**columns)
    records.create(new_write(row, *(index(row, tag) for tag in tags)))
    found = records.find(key_of(row))
    assert found is not None
    return found


def refused_entry(refusal: Refusal) -> AuditRow:
    reason = ",".join(refusal.holders) if isinstance(refusal, DuplicateIndexError) else refusal.code
    return entry(result="refused", reason=reason)


def to_create(row: RecordRow, *index_rows: IndexRow) -> BatchCreate:
    return BatchCreate(new_write(row, *index_rows), refused_entry)


def new(*tags: str, **columns: Any) -> BatchCreate:
    row = record(**columns)
    return to_create(row, *(index(row, tag) for tag in tags))


def to_replace(previous: RecordRow, *tags: str, **options: Any) -> BatchReplace:
    row = next_generation(previous)
    write = new_write(row, *(index(row, tag) for tag in tags), **options)
    return BatchReplace(write, previous, refused_entry)


def to_erase(previous: RecordRow) -> BatchErase:
    return BatchErase(tombstone(previous), previous, entry(action="record.erase"))


def to_read(key: RecordKey, *, generation: int | None = None) -> BatchRead:
    def entry_for(current: RecordRow | None, wanted: RecordRow | None) -> tuple[RecordRow, AuditRow]:
        if current is None or wanted is None:
            raise UnprocessableError("There is none.", code="none")
        return wanted, entry(action="record.read", token=wanted.token)

    return BatchRead(key, generation, entry_for, refused_entry, lambda: None)


def to_look_up(tag: str, *, page: Page = TEN, **options: Any) -> BatchLookup:
    def entries_for(found: Sequence[tuple[IndexRow, RecordRow]]) -> list[AuditRow]:
        return [entry(action="record.lookup", token=row.token) for _, row in found] or [entry(reason="none")]

    return BatchLookup(query(tag, **options), page, entries_for, refused_entry, lambda: None)


def refused_before(code: str = "schema-violation") -> BatchRefused:
    return BatchRefused(UnprocessableError("No.", code=code), entry(result="refused", reason=code))


def batch(*items: BatchItem, now: int = NOW, **options: Any) -> Batch:
    return Batch(items=items, now=now, **options)


def written(outcome: Outcome, row: RecordRow) -> bool:
    return isinstance(outcome, RecordRow) and replace(outcome, id=None) == replace(row, id=None)


def told(bench: Bench, since: int) -> list[tuple[str, str | None]]:
    """Result and reason of the entries behind the first ``since``."""
    return [(each.result, each.reason) for each in bench.entries()[since:]]


@BOTH
def test_every_kind_of_operation_is_carried_out(bench: Bench, records: RecordStore, is_atomic: bool) -> None:  # noqa: FBT001
    to_change, to_go, to_see = created(records, "a"), created(records, "b"), created(records, "c")
    creation, change, erasure = new("d"), to_replace(to_change, "e"), to_erase(to_go)
    before = len(bench.entries())

    outcomes = records.batch(
        batch(
            creation, change, erasure, to_read(key_of(to_see)), to_look_up("c"), to_look_up("none"),
            is_atomic=is_atomic,
        )
    )  # fmt: skip

    assert written(outcomes[0], creation.write.record)
    assert written(outcomes[1], change.write.record)
    assert written(outcomes[2], erasure.tombstone)
    assert outcomes[3:] == [to_see, [to_see], []]
    assert same(records.find(key_of(creation.write.record)), creation.write.record)
    assert same(records.find(key_of(to_change)), change.write.record)
    assert same(records.find(key_of(to_go)), erasure.tombstone)
    assert sorted(row.tag.rstrip(b"\0") for row in bench.rows(IndexRow)) == [b"c", b"d", b"e"]
    entries = bench.entries()[before:]
    assert [each.action for each in entries] == [
        "record.create", "record.create", "record.erase", "record.read", "record.lookup", "record.create",
    ]  # fmt: skip
    assert same(entries[0], creation.write.entry)
    assert same(entries[2], erasure.entry)


def test_outcomes_and_entries_stand_in_the_order_of_the_operations(
    bench: Bench, records: RecordStore
) -> None:
    holder = created(records, "a")
    before = len(bench.entries())
    items = [new(f"t{n}") if n % 3 else new("a") if n % 2 else refused_before(f"code-{n}") for n in range(60)]

    outcomes = records.batch(batch(*items))

    for number, (item, outcome) in enumerate(zip(items, outcomes, strict=True)):
        if number % 3:
            assert isinstance(item, BatchCreate)
            assert written(outcome, item.write.record)
        elif number % 2:
            assert isinstance(outcome, DuplicateIndexError)
            assert outcome.holders == {"email": Holder(holder.token, None)}
        else:
            assert isinstance(item, BatchRefused)
            assert outcome is item.error
    reasons = [("done", None) if n % 3 else ("refused", "email" if n % 2 else f"code-{n}") for n in range(60)]
    assert told(bench, before) == reasons


def test_a_refused_create_leaves_its_entry_only(bench: Bench, records: RecordStore) -> None:
    created(records, "taken")
    before = state(bench)
    loser = record()
    # The first index row goes in before the second one is refused.
    item = to_create(loser, index(loser, "free", name="login"), index(loser, "taken"))

    (outcome,) = records.batch(batch(item))

    assert isinstance(outcome, DuplicateIndexError)
    assert records.find(key_of(loser)) is None
    after = state(bench)
    assert after[:3] == before[:3]
    assert [(each.result, each.reason) for each in after[3][len(before[3]) :]] == [("refused", "email")]
    # What it had taken on the way is free.
    winner = record()
    records.create(new_write(winner, index(winner, "free", name="login")))


def test_a_refused_replace_leaves_record_index_and_history_as_they_were(
    bench: Bench, records: RecordStore
) -> None:
    created(records, "taken")
    first = created(records, "mine")
    second = to_replace(first, "mine", history=as_history(first), history_limit=1)
    records.batch(batch(second))
    current = records.find(key_of(first))
    assert current is not None
    before = state(bench)

    (outcome,) = records.batch(
        batch(to_replace(current, "taken", history=as_history(current), history_limit=1))
    )

    assert isinstance(outcome, DuplicateIndexError)
    assert state(bench)[:3] == before[:3]
    (kept,) = bench.rows(RecordHistoryRow)
    assert kept.generation == 1


def test_history_is_kept_and_trimmed_as_for_single_writes(bench: Bench, records: RecordStore) -> None:
    current = created(records, "a")
    for _ in range(4):
        records.batch(batch(to_replace(current, "a", history=as_history(current), history_limit=2)))
        found = records.find(key_of(current))
        assert found is not None
        current = found
    assert [row.generation for row in bench.rows(RecordHistoryRow)] == [3, 4]

    older, older_still, gone = records.batch(
        batch(*(to_read(key_of(current), generation=number) for number in (4, 3, 2)))
    )
    assert isinstance(older, RecordRow | RecordHistoryRow)
    assert isinstance(older_still, RecordRow | RecordHistoryRow)
    assert (older.generation, older_still.generation) == (4, 3)
    assert isinstance(gone, VaultError)

    records.batch(batch(to_erase(current)))
    assert bench.rows(RecordHistoryRow) == []


def test_the_same_value_twice_in_a_batch_is_refused_the_second_time(records: RecordStore) -> None:
    first, second, third = new("a"), new("a"), new("a")

    outcomes = records.batch(batch(first, second, third))

    assert written(outcomes[0], first.write.record)
    for outcome in outcomes[1:]:
        assert isinstance(outcome, DuplicateIndexError)
        assert outcome.holders == {"email": Holder(first.write.record.token, None)}


@BOTH
def test_values_move_within_a_batch(bench: Bench, records: RecordStore, is_atomic: bool) -> None:  # noqa: FBT001
    one, two, three = created(records, "one"), created(records, "two"), created(records, "three")

    outcomes = records.batch(
        batch(
            to_erase(one), to_replace(two, "one"), to_replace(three, "two"), new("three"), is_atomic=is_atomic
        )
    )

    assert all(isinstance(outcome, RecordRow) for outcome in outcomes)
    holders = {row.tag.rstrip(b"\0"): row.token for row in bench.rows(IndexRow)}
    assert (holders[b"one"], holders[b"two"]) == (two.token, three.token)
    assert len(holders) == 3


def test_a_value_that_is_freed_too_late_is_refused(records: RecordStore) -> None:
    one = created(records, "one")

    taken, erased = records.batch(batch(new("one"), to_erase(one)))

    assert isinstance(taken, DuplicateIndexError)
    assert isinstance(erased, RecordRow)


def test_reads_and_lookups_see_what_stands_before_them(records: RecordStore) -> None:
    one, two = created(records, "one"), created(records, "two")
    made, moved = new("new"), to_replace(one, "moved")

    outcomes = records.batch(
        batch(
            to_look_up("new"), made, to_look_up("new"), to_read(key_of(made.write.record)),
            to_look_up("one"), moved, to_look_up("one"), to_look_up("moved"),
            to_erase(two), to_look_up("two"),
        )
    )  # fmt: skip

    def tokens(outcome: Outcome) -> list[bytes]:
        assert isinstance(outcome, list)
        return [row.token for row in outcome]

    assert tokens(outcomes[0]) == []
    assert tokens(outcomes[2]) == [made.write.record.token]
    assert same(outcomes[3], made.write.record)  # type: ignore[arg-type]
    assert tokens(outcomes[4]) == [one.token]
    assert tokens(outcomes[6]) == []
    assert tokens(outcomes[7]) == [one.token]
    assert tokens(outcomes[9]) == []


def test_a_lookup_is_paged_and_shows_no_expired_record(records: RecordStore) -> None:
    rows = [record() for _ in range(5)]
    rows[1] = replace(rows[1], expires_at=NOW)
    rows[2] = replace(rows[2], expires_at=NOW + 1)
    for row in rows:
        records.create(new_write(row, index(row, "rome", name="city", unique=False)))

    (first,) = records.batch(batch(to_look_up("rome", name="city", page=Page(limit=2))))
    assert isinstance(first, list)
    assert [row.token for row in first] == [rows[0].token, rows[2].token]
    after = first[-1].id
    assert after is not None
    (rest,) = records.batch(batch(to_look_up("rome", name="city", page=Page(limit=10, after=after))))
    assert isinstance(rest, list)
    assert [row.token for row in rest] == [rows[3].token, rows[4].token]


def test_a_read_that_is_refused_leaves_its_entry_and_the_others_alone(
    bench: Bench, records: RecordStore
) -> None:
    row = created(records, "a")
    before = len(bench.entries())

    missing, read, late = records.batch(
        batch(
            to_read(replace(key_of(row), token=b"0" * 16)),
            to_read(key_of(row)),
            to_read(key_of(row), generation=7),
        )
    )

    assert isinstance(missing, VaultError)
    assert read == row
    assert isinstance(late, VaultError)
    assert told(bench, before) == [("refused", "none"), ("done", None), ("refused", "none")]


def test_nothing_is_fetched_for_a_read_without_room(bench: Bench, records: RecordStore) -> None:
    row = created(records, "a")
    before = len(bench.entries())

    def full() -> None:
        raise UnprocessableError("No more.", code="full")

    def fails(*_: object) -> Any:
        pytest.fail("fetched")

    read = replace(to_read(key_of(row)), check_room=full, entry_for=fails)
    outcomes = records.batch(
        batch(read, replace(to_look_up("a"), check_room=full, entries_for=fails), new("b"))
    )

    assert [getattr(outcome, "code", None) for outcome in outcomes] == ["full", "full", None]
    assert told(bench, before) == [("refused", "full"), ("refused", "full"), ("done", None)]


@pytest.mark.parametrize("place", [0, 1, 2], ids=["first", "middle", "last"])
@pytest.mark.parametrize("refusal", ["duplicate", "before", "read", "lookup"])
def test_an_atomic_batch_that_is_refused_keeps_nothing(
    bench: Bench, records: RecordStore, place: int, refusal: str
) -> None:
    created(records, "taken")
    one, two = created(records, "one"), created(records, "two")
    claim, request = claim_of()
    before = state(bench, request)

    def refuse(*_: object) -> Any:
        raise RecordErasedError("Gone.")

    bad: dict[str, BatchItem] = {
        "duplicate": new("free", "taken"),
        "before": refused_before(),
        "read": replace(to_read(key_of(one)), entry_for=refuse),
        "lookup": replace(to_look_up("one"), entries_for=refuse),
    }
    items: list[BatchItem] = [new("x"), to_replace(one, "y", history=as_history(one), history_limit=3)]
    items.append(to_erase(two))
    items[place] = bad[refusal]

    with pytest.raises(BatchRefusedError) as refused:
        records.batch(batch(*items, is_atomic=True, claim=claim, receipts_for=receipts_for(request)))

    assert refused.value.position == place
    error = refused.value.error
    if refusal == "duplicate":
        assert isinstance(error, DuplicateIndexError)
        assert list(error.holders) == ["email"]
    else:
        assert isinstance(error, RecordErasedError | UnprocessableError)
    assert state(bench, request) == before


def test_an_atomic_batch_names_its_first_refusal(records: RecordStore) -> None:
    created(records, "taken")

    with pytest.raises(BatchRefusedError) as refused:
        records.batch(batch(new("a"), new("taken"), refused_before(), is_atomic=True))

    assert refused.value.position == 1


@BOTH
def test_a_dry_run_answers_and_keeps_nothing(bench: Bench, records: RecordStore, is_atomic: bool) -> None:  # noqa: FBT001
    one, two = created(records, "one"), created(records, "two")
    before = state(bench)
    items = [new("a"), to_replace(one, "b"), to_erase(two), new("two")]

    rehearsed = records.batch(batch(*items, is_dry_run=True, is_atomic=is_atomic))

    assert state(bench) == before
    assert len(rehearsed) == 4
    # The very same plan goes through afterwards.
    done = records.batch(batch(*items, is_atomic=is_atomic))
    assert [type(outcome) for outcome in rehearsed] == [type(outcome) for outcome in done]


def test_a_dry_run_says_what_would_be_refused(bench: Bench, records: RecordStore) -> None:
    holder = created(records, "taken")
    before = state(bench)

    outcomes = records.batch(batch(new("a"), new("taken"), new("a"), refused_before(), is_dry_run=True))

    assert isinstance(outcomes[0], RecordRow)
    assert isinstance(outcomes[1], DuplicateIndexError)
    assert outcomes[1].holders["email"].token == holder.token
    assert isinstance(outcomes[2], DuplicateIndexError)
    assert isinstance(outcomes[3], UnprocessableError)
    assert state(bench) == before


@pytest.mark.parametrize(
    ("columns", "cause"),
    [({"key_version": 2}, "keys"), ({"keyring": "other"}, "keys"), ({"schema_version": 2}, "schema")],
)
@BOTH
def test_a_stale_plan_keeps_nothing(
    bench: Bench,
    records: RecordStore,
    columns: dict[str, Any],
    cause: str,
    is_atomic: bool,  # noqa: FBT001
) -> None:
    one = created(records, "one")
    before = state(bench)

    with pytest.raises(StaleWriteError) as stale:
        records.batch(batch(new("a"), to_erase(one), new("b", **columns), new("c"), is_atomic=is_atomic))

    assert stale.value.cause == cause
    assert state(bench) == before


@pytest.mark.parametrize("dead", ["pending", "deactivated", "retired", "destroyed"])
def test_only_active_keys_are_written(bench: Bench, records: RecordStore, dead: str) -> None:
    keyring("old", first_key=10, state=dead, index_state=dead).create(bench)
    one = created(records, "one")
    before = state(bench)
    under_old_key, under_old_index = new("b", keyring="old"), record()

    for item in (
        under_old_key,
        to_create(under_old_index, index(under_old_index, "c", index_key_id=11)),
        BatchReplace(new_write(next_generation(one, keyring="old")), one, refused_entry),
    ):
        with pytest.raises(StaleWriteError) as stale:
            records.batch(batch(new("a"), item))
        assert stale.value.cause == "keys"
    assert state(bench) == before


@pytest.mark.parametrize("kind", ["replace", "erase"])
def test_a_record_that_changed_meanwhile_makes_the_whole_batch_stale(
    bench: Bench, records: RecordStore, kind: str
) -> None:
    first = created(records, "a")
    second = next_generation(first)
    records.replace(new_write(second, index(second, "a")), previous=first)
    before = state(bench)
    late = to_replace(first, "a") if kind == "replace" else to_erase(first)

    with pytest.raises(StaleWriteError) as stale:
        records.batch(batch(new("b"), late, new("c")))

    assert stale.value.cause == "record"
    assert state(bench) == before


@BOTH
def test_values_of_expired_records_make_the_plan_stale_and_all_are_named(
    bench: Bench,
    records: RecordStore,
    is_atomic: bool,  # noqa: FBT001
) -> None:
    over = [created(records, f"over{n}", expires_at=NOW) for n in range(8)]
    created(records, "live", expires_at=NOW + 1)
    mine = created(records, "mine")
    before = state(bench)
    items = [new(f"over{n}") for n in range(7)]

    with pytest.raises(StaleWriteError) as stale:
        records.batch(batch(new("a"), *items, to_replace(mine, "over7"), is_atomic=is_atomic))

    assert stale.value.cause == "expired"
    assert set(stale.value.tokens) == {row.token for row in over}
    assert state(bench) == before


def test_a_live_holder_is_no_expired_one(records: RecordStore) -> None:
    live = created(records, "live", expires_at=NOW + 1)

    (outcome,) = records.batch(batch(new("live")))

    assert isinstance(outcome, DuplicateIndexError)
    assert outcome.holders == {"email": Holder(live.token, NOW + 1)}


@BOTH
def test_a_dry_run_takes_over_expired_values_and_erases_nothing(
    bench: Bench,
    records: RecordStore,
    is_atomic: bool,  # noqa: FBT001
) -> None:
    created(records, "over", expires_at=NOW)
    mine = created(records, "mine")
    before = state(bench)

    outcomes = records.batch(
        batch(new("over"), to_replace(mine, "x"), new("mine"), new("a"), is_dry_run=True, is_atomic=is_atomic)
    )

    assert all(isinstance(outcome, RecordRow) for outcome in outcomes)
    assert state(bench) == before


def claim_of() -> tuple[Receipt, bytes]:
    header = receipt(position=-1, body_hash=None, token=None, generation=None)
    return header, header.request_hash


def receipts_for(request: bytes) -> Callable[[Sequence[Outcome]], list[Receipt]]:
    def make(outcomes: Sequence[Outcome]) -> list[Receipt]:
        return [
            receipt(
                request_hash=request,
                position=place,
                body_hash=bytes([place]) * 32,
                token=outcome.token if isinstance(outcome, RecordRow) else None,
                generation=outcome.generation if isinstance(outcome, RecordRow) else None,
                status=201 if isinstance(outcome, RecordRow) else 409,
                code=None if isinstance(outcome, RecordRow) else "duplicate-value",
            )
            for place, outcome in enumerate(outcomes)
        ]

    return make


@BOTH
def test_receipts_are_kept_with_what_they_name(bench: Bench, records: RecordStore, is_atomic: bool) -> None:  # noqa: FBT001
    created(records, "taken")
    claim, request = claim_of()
    items = [new("a"), new("b")] if is_atomic else [new("a"), new("taken")]

    outcomes = records.batch(
        batch(*items, is_atomic=is_atomic, claim=claim, receipts_for=receipts_for(request))
    )

    assert bench.stores.receipts.find("default", request) == [claim, *receipts_for(request)(outcomes)]


def test_the_claim_decides_before_anything_is_done(bench: Bench, records: RecordStore) -> None:
    created(records, "taken")
    claim, request = claim_of()
    records.batch(batch(new("a"), claim=claim, receipts_for=receipts_for(request)))
    before = state(bench, request)
    stale = new("b", key_version=9)

    for twin in (
        batch(new("a"), claim=claim, receipts_for=receipts_for(request)),
        batch(new("taken"), claim=claim, is_atomic=True, receipts_for=receipts_for(request)),
        batch(stale, claim=claim, receipts_for=receipts_for(request)),
    ):
        with pytest.raises(ReceiptExistsError):
            records.batch(twin)

    assert state(bench, request) == before


def test_a_batch_that_kept_nothing_leaves_its_claim_free(bench: Bench, records: RecordStore) -> None:
    created(records, "over", expires_at=NOW)
    claim, request = claim_of()
    options: dict[str, Any] = {"claim": claim, "receipts_for": receipts_for(request)}

    with pytest.raises(StaleWriteError):
        records.batch(batch(new("a", key_version=9), **options))
    with pytest.raises(StaleWriteError):
        records.batch(batch(new("over"), **options))
    with pytest.raises(BatchRefusedError):
        records.batch(batch(refused_before(), is_atomic=True, **options))
    assert bench.stores.receipts.find("default", request) == []

    records.batch(batch(new("a"), **options))
    assert len(bench.stores.receipts.find("default", request)) == 2


def test_an_entry_that_cannot_be_made_stops_the_batch(bench: Bench, records: RecordStore) -> None:
    created(records, "taken")
    before = state(bench)

    def fails(_: Refusal) -> AuditRow:
        raise ZeroDivisionError

    row = record()
    with pytest.raises(ZeroDivisionError):
        records.batch(batch(new("a"), BatchCreate(new_write(row, index(row, "taken")), fails), new("b")))

    assert state(bench) == before
    # The store is free for the next one.
    created(records, "a")


def test_a_thousand_operations_are_one_batch(bench: Bench, records: RecordStore) -> None:
    entries = len(bench.entries())

    outcomes = records.batch(batch(*(new(f"t{n // 2}") for n in range(1_000))))

    assert [type(outcome) for outcome in outcomes] == [RecordRow, DuplicateIndexError] * 500
    assert len(bench.rows(RecordRow)) == len(bench.rows(IndexRow)) == 500
    assert len(bench.entries()) == entries + 1_000


def test_another_process_sees_all_of_it(bench: Bench, records: RecordStore) -> None:
    first, second = new("a"), new("b")

    records.batch(batch(first, second))

    there = bench.open_again().records
    assert same(there.find(key_of(first.write.record)), first.write.record)
    assert same(there.find(key_of(second.write.record)), second.write.record)


def test_many_are_found_by_token_in_their_place_only(bench: Bench, records: RecordStore) -> None:
    rows = [created(records) for _ in range(4)]
    bench.stores.collections.define(
        collection("pets"), definition("pets"), previous=None, entry=entry(), only_if_empty=False
    )
    created(records, collection="pets", token=b"p" * 16)
    before = bench.entries()
    wanted = [rows[2].token, b"0" * 16, rows[0].token, b"p" * 16, rows[2].token]

    found = records.find_many("default", "people", wanted)

    assert found == {rows[2].token: rows[2], rows[0].token: rows[0]}
    assert records.find_many("other", "people", wanted) == {}
    assert records.find_many("default", "people", []) == {}
    assert bench.entries() == before


def test_tombstones_are_found_too(records: RecordStore) -> None:
    row = created(records, "a")
    records.batch(batch(to_erase(row)))

    found = records.find_many("default", "people", [row.token])

    assert same(found[row.token], tombstone(row))
