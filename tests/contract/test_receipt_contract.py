"""What every engine does with receipts of requests that carried a key: one for each request, gone blank at erasure."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.store_engines import (
    Bench,
    collection,
    definition,
    entry,
    index,
    key_of,
    new_write,
    receipt,
    record,
    tombstone,
)
from vault.core.ports import DuplicateIndexError, RecordStore, StaleWriteError
from vault.core.receipts import Receipt, ReceiptExistsError, ReceiptStore
from vault.core.rows import AuditRow, IndexRow, RecordRow


@pytest.fixture
def records(bench: Bench) -> RecordStore:
    return bench.stores.records


@pytest.fixture
def receipts(bench: Bench) -> ReceiptStore:
    return bench.stores.receipts


def create(records: RecordStore, *tags: str, kept: Receipt | None = None, **columns: Any) -> RecordRow:
    row = record(**columns)
    kept = replace(kept, token=row.token) if kept else None
    records.create(new_write(row, *(index(row, tag) for tag in tags), receipt=kept))
    found = records.find(key_of(row))
    assert found is not None
    return found


def state(bench: Bench) -> list[Any]:
    return [bench.rows(row_type) for row_type in (RecordRow, IndexRow, AuditRow)]


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"code": "duplicate-value", "status": 409, "token": None, "generation": None},
        {"body_hash": None, "position": -1},
        {"expires_at": 2**63 - 1, "generation": 2**63 - 1},
        {"request_hash": bytes(range(32)), "body_hash": b"\0" * 32},
    ],
)
def test_a_receipt_comes_back_as_it_was_kept(
    records: RecordStore, receipts: ReceiptStore, columns: dict[str, Any]
) -> None:
    kept = receipt(**columns)
    row = record()

    records.create(new_write(row, receipt=kept))

    assert receipts.find(kept.tenant, kept.request_hash) == [kept]


def test_a_receipt_is_found_by_tenant_and_request_only(records: RecordStore, receipts: ReceiptStore) -> None:
    kept = receipt()
    create(records, kept=kept)

    assert receipts.find("other", kept.request_hash) == []
    assert receipts.find("default", bytes(32)) == []
    create(records, kept=replace(kept, tenant="other"))
    assert len(receipts.find("default", kept.request_hash)) == 1


def test_a_second_write_of_one_request_keeps_nothing(
    bench: Bench, records: RecordStore, receipts: ReceiptStore
) -> None:
    kept = receipt()
    first = create(records, "a", kept=kept)
    before = state(bench)

    # The receipt decides before anything else could: a taken value, a stale key.
    for tags, columns in ((("a",), {}), (("b",), {}), ((), {"key_version": 9})):
        with pytest.raises(ReceiptExistsError):
            create(records, *tags, kept=kept, **columns)

    assert state(bench) == before
    (found,) = receipts.find("default", kept.request_hash)
    assert found.token == first.token


def test_a_refused_write_leaves_no_receipt(records: RecordStore, receipts: ReceiptStore) -> None:
    create(records, "a")
    kept = receipt()

    with pytest.raises(DuplicateIndexError):
        create(records, "a", kept=kept)
    with pytest.raises(StaleWriteError):
        create(records, "b", kept=kept, key_version=9)

    assert receipts.find("default", kept.request_hash) == []
    create(records, "b", kept=kept)
    assert len(receipts.find("default", kept.request_hash)) == 1


def test_of_many_racing_twins_one_writes(bench: Bench, records: RecordStore, receipts: ReceiptStore) -> None:
    kept = receipt()
    others = bench.open_again().records
    entries = len(bench.entries())

    def attempt(number: int) -> str:
        try:
            create(records if number % 2 else others, f"t{number}", kept=kept)
        except ReceiptExistsError:
            return "twin"
        return "won"

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(attempt, range(24))) == {"won": 1, "twin": 23}
    (found,) = receipts.find("default", kept.request_hash)
    (row,) = bench.rows(RecordRow)
    assert found.token == row.token
    assert len(bench.entries()) == entries + 1


def test_erasing_a_record_blanks_what_was_derived_from_it_and_nothing_else(
    bench: Bench, records: RecordStore, receipts: ReceiptStore
) -> None:
    bench.stores.collections.define(
        collection("pets"), definition("pets"), previous=None, entry=entry(), only_if_empty=False
    )
    mine, others, elsewhere = receipt(), receipt(), receipt(collection="pets")
    row = create(records, "a", kept=mine)
    create(records, "b", kept=others)
    # The same token in another collection is another record.
    create(records, "c", kept=elsewhere, collection="pets", token=row.token)

    records.erase(tombstone(row), previous=row, entry=entry(action="record.erase"))

    (blank,) = receipts.find("default", mine.request_hash)
    assert blank == replace(mine, token=row.token, body_hash=None)
    for kept in (others, elsewhere):
        (found,) = receipts.find("default", kept.request_hash)
        assert found.body_hash == kept.body_hash


def test_all_receipts_that_name_a_record_go_blank(records: RecordStore, receipts: ReceiptStore) -> None:
    first, second = receipt(), receipt()
    row = create(records, "a", kept=first)
    # As a later request that changed the same record leaves it.
    other = record()
    records.create(new_write(other, receipt=replace(second, token=row.token, generation=2)))

    records.erase(tombstone(row), previous=row, entry=entry(action="record.erase"))

    for kept in (first, second):
        (blank,) = receipts.find("default", kept.request_hash)
        assert (blank.body_hash, blank.token) == (None, row.token)


def test_an_erasure_that_is_refused_blanks_nothing(records: RecordStore, receipts: ReceiptStore) -> None:
    kept = receipt()
    row = create(records, "a", kept=kept)

    with pytest.raises(StaleWriteError):
        records.erase(tombstone(row), previous=replace(row, revision=7), entry=entry(action="record.erase"))

    (found,) = receipts.find("default", kept.request_hash)
    assert found.body_hash == kept.body_hash
