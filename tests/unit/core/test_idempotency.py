"""Idempotency keys from inside: what is hashed, who holds a key, and how long it is kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keyproviders.interface import SecretBytes
from tests.in_process import HOUR, InProcess
from vault.api.problems import refusal_status
from vault.core.documents import parse_json
from vault.core.errors import InFlightError, RecordErasedError, UnprocessableError
from vault.core.idempotency import (
    KEPT_MINUTES,
    Claim,
    Fingerprint,
    Idempotency,
    RequestHasher,
    RequestName,
    check_key,
)
from vault.core.policy import Caller
from vault.core.ports import RecordKey
from vault.core.receipts import Receipt
from vault.core.record_drafts import NewDocument
from vault.storage.records import SqlRecordStore

if TYPE_CHECKING:
    from conftest import Lab  # tests/unit/core/conftest.py

CALLER = Caller(tenant="default", principal="admin", credential="00" * 8, role="administrator")
RECORDS = "/v1/collections/users/records"
NAME = RequestName("POST", RECORDS, "key-1")


def keys(*numbers: int) -> dict[int, SecretBytes]:
    return {number: SecretBytes(bytes([number]) * 32) for number in numbers}


@pytest.mark.parametrize("key", ["a", "0", "!", "~", "a,b", '"quoted"', "x" * 128, "import-7/batch#1"])
def test_a_key_of_the_documented_form_is_taken(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key", ["", " ", "a b", " a", "a ", "x" * 129, "a\n", "a\x00", "\x7f", "ü", "a\u00a0", "\u0660", "キー"]
)
def test_a_key_of_another_form_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(UnprocessableError) as refused:
        check_key(key)
    assert refused.value.code == "idempotency-key"
    assert not key.strip() or key not in refused.value.detail


class TestHashes:
    HASHER = RequestHasher(keys(1, 2), 2)

    def request(self, **changes: Any) -> bytes:
        values = {"tenant": "t", "principal": "p", "method": "POST", "path": "/a", "key": "k"} | changes
        caller = Caller(
            tenant=values["tenant"], principal=values["principal"], credential="0", role="administrator"
        )
        name = RequestName(values["method"], values["path"], values["key"])
        return self.HASHER.requests(caller, name)[0]

    def test_everything_that_a_key_belongs_to_makes_another_hash(self) -> None:
        changed = [{name: "x"} for name in ("tenant", "principal", "method", "path", "key")]
        # Parts that run into each other are other parts.
        moved: list[dict[str, str]] = [
            {"tenant": "tp", "principal": ""},
            {"path": "/ak", "key": ""},
            {"method": "POST/a", "path": ""},
        ]
        hashes = {self.request(**each) for each in ({}, *changed, *moved)}
        assert len(hashes) == 9
        assert all(len(each) == 32 for each in hashes)
        assert self.request() == self.request()

    def test_what_else_is_known_of_the_caller_makes_no_difference(self) -> None:
        other = Caller(
            tenant="default",
            principal="admin",
            credential="11" * 8,
            role="x",
            purpose="p",
            request_id="1",
            address="::1",
        )
        assert self.HASHER.requests(CALLER, NAME) == self.HASHER.requests(other, NAME)

    @pytest.mark.parametrize(
        "body",
        [
            {"a": 1, "b": 3},
            {"b": 2, "a": 1},
            {"a": 1.0, "b": 2},
            {"a": "1", "b": 2},
            {"a": 1, "b": 2, "c": None},
            {"a": True, "b": 2},
            [{"a": 1, "b": 2}],
            None,
        ],
    )
    def test_another_body_has_another_hash(self, body: Any) -> None:
        assert self.HASHER.body(body, mark=0) != self.HASHER.body({"a": 1, "b": 2}, mark=0)

    def test_the_mark_makes_another_hash(self) -> None:
        assert self.HASHER.body({}, mark=0) != self.HASHER.body({}, mark=1)

    def test_numbers_beyond_64_bits_and_deep_bodies_are_hashed(self) -> None:
        # As deep, and numbers as long, as the parser lets through.
        text = b'{"d":[' * 100 + b"9" * 4_300 + b",1e999999999" + b"]}" * 100
        deep = parse_json(text)
        assert len(self.HASHER.body(deep, mark=0)) == 32

    def test_the_current_key_comes_first_and_each_key_makes_its_own(self) -> None:
        old, new = RequestHasher(keys(1), 1), RequestHasher(keys(1, 2), 2)
        assert new.requests(CALLER, NAME)[1:] == old.requests(CALLER, NAME)
        assert new.body({}, mark=0, which=1) == old.body({}, mark=0)
        assert new.body({}, mark=0, which=0) != old.body({}, mark=0)


class Receipts:
    """A store of receipts in memory."""

    def __init__(self) -> None:
        self.kept: list[Receipt] = []

    def find(self, tenant: str, request_hash: bytes) -> list[Receipt]:
        found = [each for each in self.kept if (each.tenant, each.request_hash) == (tenant, request_hash)]
        return sorted(found, key=lambda each: each.position)


def claims(store: Receipts, hasher: RequestHasher | None = None, now: int = 1_000) -> Idempotency:
    made = hasher or RequestHasher(keys(1), 1)
    return Idempotency(store, lambda: now, status_of=refusal_status, hasher_of=lambda _: made)


def test_a_key_is_held_by_one_request_at_a_time() -> None:
    idempotency = claims(Receipts())
    with idempotency.claim(CALLER, NAME, [{}]):
        with pytest.raises(InFlightError) as refused, idempotency.claim(CALLER, NAME, [{"other": 1}]):
            pytest.fail("held twice")
        assert refused.value.retry_after_seconds == 1
        with idempotency.claim(CALLER, RequestName("POST", RECORDS, "key-2"), [{}]):
            pass
        with idempotency.claim(CALLER, RequestName("POST", RECORDS + "/bulk", "key-1"), [{}]):
            pass
    with idempotency.claim(CALLER, NAME, [{}]):
        pass


def test_a_key_is_free_again_after_a_failure() -> None:
    idempotency = claims(Receipts())
    with pytest.raises(ZeroDivisionError), idempotency.claim(CALLER, NAME, [{}]):
        raise ZeroDivisionError
    with idempotency.claim(CALLER, NAME, [{}]):
        pass


def test_a_refused_twin_does_not_let_go_of_the_key() -> None:
    idempotency = claims(Receipts())
    with idempotency.claim(CALLER, NAME, [{}]):
        for _ in range(2):
            with pytest.raises(InFlightError), idempotency.claim(CALLER, NAME, [{}]):
                pytest.fail("held twice")


def test_of_threads_that_want_one_key_one_has_it() -> None:
    idempotency = claims(Receipts())
    barrier, refused, done = threading.Barrier(8), threading.Semaphore(0), threading.Event()

    def attempt(_: int) -> bool:
        barrier.wait(10)
        try:
            with idempotency.claim(CALLER, NAME, [{}]):
                return done.wait(10)
        except InFlightError:
            refused.release()
            return False

    with ThreadPoolExecutor(8) as pool:
        running = pool.map(attempt, range(8))
        for _ in range(7):
            assert refused.acquire(timeout=10)
        done.set()
        assert sorted(running) == [False] * 7 + [True]


def receipt_of(claim: Claim, position: int = 0, **options: Any) -> Receipt:
    return claim.receipt(position, **{"status": 201, "collection": "users", "token": b"t" * 16} | options)


def test_receipts_made_under_an_older_key_are_found() -> None:
    store = Receipts()
    with claims(store, RequestHasher(keys(1), 1)).claim(CALLER, NAME, [{"a": 1}]) as claim:
        store.kept.append(receipt_of(claim))

    after_rotation = claims(store, RequestHasher(keys(1, 2), 2))
    with after_rotation.claim(CALLER, NAME, [{"a": 1}]) as claim:
        assert claim.earlier() == store.kept
    with after_rotation.claim(CALLER, NAME, [{"a": 2}]) as claim, pytest.raises(UnprocessableError):
        claim.earlier()


def test_only_the_same_operations_in_the_same_order_are_the_same_batch() -> None:
    store, bodies = Receipts(), [{"a": 1}, {"a": 2}, {"a": 3}]
    idempotency = claims(store)
    with idempotency.claim(CALLER, NAME, bodies) as claim:
        store.kept = [receipt_of(claim, place) for place in (-1, 0, 1, 2)]
    assert store.kept[0].body_hash is None

    with idempotency.claim(CALLER, NAME, bodies) as claim:
        assert [each.position for each in claim.earlier()] == [0, 1, 2]
    for other in (bodies[:2], [*bodies, {"a": 4}], bodies[::-1], [{"a": 1}] * 3):
        with idempotency.claim(CALLER, NAME, other) as claim, pytest.raises(UnprocessableError) as refused:
            claim.earlier()
        assert refused.value.code == "idempotency-mismatch"
    with idempotency.claim(CALLER, NAME, bodies, mark=1) as claim, pytest.raises(UnprocessableError):
        claim.earlier()


def test_a_receipt_is_kept_for_a_day() -> None:
    with claims(Receipts(), now=5).claim(CALLER, NAME, [{}]) as claim:
        assert receipt_of(claim).expires_at == 5 + 24 * HOUR
    assert KEPT_MINUTES == 24 * 60


def test_a_receipt_holds_hashes_only() -> None:
    body = {"data": {"email": "erika@example.org"}}
    with claims(Receipts()).claim(CALLER, NAME, [body]) as claim:
        text = repr(receipt_of(claim))
    for word in ("erika", "example.org", "key-1", "admin", RECORDS):
        assert word not in text


def test_a_fingerprint_counts_its_bodies() -> None:
    fingerprint = Fingerprint(RequestHasher(keys(1), 1), CALLER, NAME, [{}, {}], 0)
    assert fingerprint.bodies == 2
    assert fingerprint.body(0) == fingerprint.body(1)


def create_once(lab: Lab, key: str, **data: Any) -> Any:
    services = lab.vault.services
    name = RequestName("POST", RECORDS, key)
    with services.idempotency.claim(lab.caller, name, [data]) as claim:
        return services.records.create_once(lab.caller, "users", NewDocument(data), claim)


def test_a_twin_in_another_process_that_was_faster_is_answered_from(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found no receipt; the index in the database decides."""
    whole, twins = SqlRecordStore.create, []

    def overtaken(self: SqlRecordStore, write: Any) -> None:
        if not twins:
            twins.append(write)
            name = RequestName("POST", RECORDS, "key-1")
            data = {"login": "ada"}
            other = lab.reopened()
            with other.services.idempotency.claim(lab.caller, name, [data]) as claim:
                twins.append(
                    other.services.records.create_once(lab.caller, "users", NewDocument(data), claim)
                )
            other.close()
        whole(self, write)

    monkeypatch.setattr(SqlRecordStore, "create", overtaken)

    created = create_once(lab, "key-1", login="ada")

    assert (created.is_replay, created.is_unchanged) == (True, True)
    assert created.row.token == twins[1].row.token
    assert lab.execute("SELECT count(*) FROM record").fetchone() == (1,)
    assert lab.execute(
        "SELECT action, result, reason FROM audit_entry ORDER BY id DESC LIMIT 2"
    ).fetchall() == [
        ("record.create", "released", "replayed"),
        ("record.create", "done", None),
    ]
    assert lab.vault.verify(lambda: None).findings == []


def test_a_body_is_not_compared_once_its_record_is_erased(lab: Lab) -> None:
    created = create_once(lab, "key-1", login="ada")
    lab.vault.services.erasures.erase(
        lab.caller, RecordKey("default", "users", created.row.token), if_match=None
    )

    with pytest.raises(RecordErasedError):
        create_once(lab, "key-1", login="another")
    assert lab.execute("SELECT body_hash FROM idempotency_key").fetchall() == [(None,)]


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[InProcess]:
    made = InProcess.create(tmp_path / "data")
    yield made
    assert made.findings() == []
    made.close()


def test_a_key_is_forgotten_after_a_day(vault: InProcess) -> None:
    def create() -> Any:
        return vault.post(RECORDS, {"data": {"n": 1}}, Idempotency_Key="k")

    first = create().gives(201)["token"]
    vault.ahead = 24 * HOUR - 60_000_000
    vault.work()
    again = create()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.gives(201)["token"] == first

    vault.ahead = 24 * HOUR + 60_000_000
    vault.work()
    assert vault.rows("SELECT count(*) FROM idempotency_key") == [(0,)]
    anew = create()
    assert "Idempotency-Replayed" not in anew.headers
    assert anew.gives(201)["token"] != first


def test_a_batch_is_forgotten_whole_after_a_day(vault: InProcess) -> None:
    body = {"operations": [{"op": "create", "data": {"n": n}} for n in range(700)]}
    first = vault.post(f"{RECORDS}/bulk", body, Idempotency_Key="k").gives(200)
    assert vault.rows("SELECT count(*) FROM idempotency_key") == [(701,)]

    vault.ahead = 24 * HOUR + 60_000_000
    vault.work()

    assert vault.rows("SELECT count(*) FROM idempotency_key") == [(0,)]
    again = vault.post(f"{RECORDS}/bulk", body, Idempotency_Key="k")
    assert "Idempotency-Replayed" not in again.headers
    assert not {item["token"] for item in again.gives(200)["items"]} & {i["token"] for i in first["items"]}


def test_a_key_whose_day_is_over_counts_for_nothing_before_anybody_deletes_it(vault: InProcess) -> None:
    def create(n: int) -> Any:
        return vault.post(RECORDS, {"data": {"n": n}}, Idempotency_Key="k")

    create(1).gives(201)
    vault.ahead = 24 * HOUR + 60_000_000
    anew = create(2)
    assert "Idempotency-Replayed" not in anew.headers
    token = anew.gives(201)["token"]
    assert vault.rows("SELECT count(*) FROM idempotency_key") == [(1,)]
    assert create(2).gives(201)["token"] == token


def test_a_batch_of_which_half_is_forgotten_can_be_sent_anew(vault: InProcess) -> None:
    body = {"operations": [{"op": "create", "data": {"n": n}} for n in range(6)]}
    vault.post(f"{RECORDS}/bulk", body, Idempotency_Key="k").gives(200)
    vault.ahead = 24 * HOUR + 60_000_000
    with vault.vault.engine.write() as database:
        database.execute_sql("DELETE FROM idempotency_key WHERE position < 3")

    again = vault.post(f"{RECORDS}/bulk", body, Idempotency_Key="k")

    assert "Idempotency-Replayed" not in again.headers
    assert again.gives(200)["failed"] == 0
    assert vault.rows("SELECT count(*) FROM idempotency_key") == [(7,)]


def test_a_twin_whose_receipts_are_gone_again_is_told_to_come_back() -> None:
    with claims(Receipts()).claim(CALLER, NAME, [{}]) as claim, pytest.raises(InFlightError):
        claim.of_twin()
