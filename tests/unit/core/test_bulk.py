"""Batches from inside: what they plan from, what the log says of them, and what they leave behind."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from vault.audit.entry import read_entry
from vault.audit.events import Action, AuditEvent
from vault.core.bulk import MAX_OPERATIONS, SHOWN_LIMITS
from vault.core.bulk_items import ShownLimits
from vault.core.bulk_results import BulkResult, Found, ItemResult, OperationRefused, Written
from vault.core.collections import Settings
from vault.core.errors import (
    CollectionNotFoundError,
    DuplicateValueError,
    IntegrityError,
    NotAuthorizedError,
    RecordErasedError,
    UnavailableError,
    UnprocessableError,
    VaultError,
)
from vault.core.operations import (
    CreateOperation,
    EraseOperation,
    GetOperation,
    LookupOperation,
    Operation,
    UnreadableOperation,
    UpdateOperation,
)
from vault.core.ports import Page, RecordKey
from vault.core.reading import Lookup
from vault.core.record_access import MAX_ATTEMPTS
from vault.core.record_drafts import NewDocument, Patch
from vault.core.records import Records
from vault.core.releases import ShownRecord, View
from vault.core.rows import KeyState, RecordRow
from vault.storage.record_transaction import RecordTransaction
from vault.storage.records import SqlRecordStore

if TYPE_CHECKING:
    from conftest import Lab  # tests/unit/core/conftest.py

PLAIN = View(plain=True)


def to_create(expires_at: int | None = None, **data: Any) -> CreateOperation:
    return CreateOperation(NewDocument(data, expires_at))


def to_replace(row: RecordRow, **data: Any) -> UpdateOperation:
    return UpdateOperation(row.token, NewDocument(data), None)


def to_patch(row: RecordRow, **changes: Any) -> UpdateOperation:
    return UpdateOperation(row.token, Patch(changes), None)


def to_erase(row: RecordRow) -> EraseOperation:
    return EraseOperation(row.token, None)


def to_get(row: RecordRow) -> GetOperation:
    return GetOperation(row.token, None, PLAIN)


def to_look_up(field: str, value: str) -> LookupOperation:
    return LookupOperation(Lookup(field, value, None, PLAIN, Page(10)))


UNREADABLE = UnreadableOperation(
    Action.REQUEST, None, UnprocessableError("No operation.", code="body-members")
)


def run(lab: Lab, *operations: Operation, **options: Any) -> list[ItemResult]:
    result: BulkResult = lab.vault.services.bulk.run(lab.caller, "users", operations, **options)
    return result.items


def count(lab: Lab, table: str) -> int:
    number: int = lab.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608  # names in this file
    return number


def newest(lab: Lab, number: int) -> list[AuditEvent]:
    """The newest entries, oldest first."""
    rows = lab.execute("SELECT canonical FROM audit_entry ORDER BY id DESC LIMIT ?", number).fetchall()
    return [read_entry(canonical)[0] for (canonical,) in reversed(rows)]


def told(lab: Lab, number: int) -> list[tuple[str, str, str | None]]:
    return [(event.action, event.result, event.reason) for event in newest(lab, number)]


def codes(items: Sequence[ItemResult]) -> list[str | None]:
    return [item.code if isinstance(item, VaultError) else None for item in items]


@pytest.fixture
def later(lab: Lab) -> Callable[[int], None]:
    """Sets the clock of the lab's vault ahead."""
    ahead = 0
    access = lab.vault.services.records._access
    clock = access.clock

    def set_ahead(microseconds: int) -> None:
        nonlocal ahead
        ahead = microseconds

    moved = dataclasses.replace(access, clock=lambda: clock() + ahead)
    lab.vault = dataclasses.replace(lab.vault, services=_services_over(lab, moved))
    return set_ahead


def _services_over(lab: Lab, access: Any) -> Any:
    from vault.core.bulk import Bulk
    from vault.core.reading import Reading

    reading = Reading(access)
    return dataclasses.replace(
        lab.vault.services, records=Records(access), bulk=Bulk(access, reading), reading=reading
    )


def test_a_batch_does_each_operation(lab: Lab) -> None:
    one, two, three = (lab.create(login=login) for login in ("one", "two", "three"))

    made, replaced, patched, erased, shown, found = run(
        lab,
        to_create(login="four"),
        to_replace(one, login="uno"),
        to_patch(two, n=2),
        to_erase(three),
        to_get(lab.create(login="five")),
        to_look_up("login", "uno"),
    )

    for item, generation in ((made, 1), (replaced, 2), (patched, 2), (erased, 1)):
        assert isinstance(item, Written)
        assert item.row.generation == generation
    assert isinstance(shown, ShownRecord)
    assert shown.data == {"login": "five"}
    assert isinstance(found, Found)
    assert [each.data for each in found.records] == [{"login": "uno"}]
    assert told(lab, 6) == [
        ("record.create", "done", None),
        ("record.update", "done", None),
        ("record.update", "done", None),
        ("record.erase", "done", None),
        ("record.read", "released", None),
        ("record.lookup", "released", None),
    ]
    assert lab.vault.verify(lambda: None).findings == []


@pytest.mark.parametrize("number", [0, MAX_OPERATIONS + 1])
def test_a_batch_has_its_bounds(lab: Lab, number: int) -> None:
    with pytest.raises(UnprocessableError) as refused:
        run(lab, *[to_create(n=1)] * number)
    assert refused.value.code == "body-members"
    assert [(each.pointer, each.code) for each in refused.value.violations] == [("/operations", "range")]
    assert count(lab, "record") == 0


@pytest.mark.parametrize("is_atomic", [False, True])
def test_a_batch_takes_over_the_values_of_any_number_of_expired_records(
    lab: Lab,
    later: Callable[[int], None],
    is_atomic: bool,  # noqa: FBT001
) -> None:
    number = 3 * MAX_ATTEMPTS
    now = lab.vault.services.records._access.clock()
    run(lab, *(to_create(now + 60_000_000, login=f"l{n}", email=f"e{n}@example.com") for n in range(number)))
    mine = lab.create(login="mine")
    later(60_000_001)

    items = run(
        lab,
        *(to_create(login=f"L{n}") for n in range(number - 1)),
        to_patch(mine, login=f"l{number - 1}"),
        to_create(email="e0@example.com"),
        is_atomic=is_atomic,
    )

    assert codes(items) == [None] * (number + 1)
    expired = [event for event in newest(lab, 2 * number + 1) if event.reason == "expired"]
    assert len(expired) == number
    assert {event.action for event in expired} == {"record.erase"}
    assert lab.vault.verify(lambda: None).findings == []


def test_an_expired_holder_beside_a_live_one_is_no_way_around_it(
    lab: Lab, later: Callable[[int], None]
) -> None:
    now = lab.vault.services.records._access.clock()
    run(lab, to_create(now + 60_000_000, login="over"), to_create(email="live@example.com"))
    later(60_000_001)

    (item,) = run(lab, to_create(login="over", email="live@example.com"))

    assert isinstance(item, DuplicateValueError)
    assert item.fields == ("email",)


def test_a_dry_run_leaves_expired_records_and_says_what_would_happen(
    lab: Lab, later: Callable[[int], None]
) -> None:
    now = lab.vault.services.records._access.clock()
    run(lab, to_create(now + 60_000_000, login="over"))
    later(60_000_001)
    before = [lab.execute(f"SELECT * FROM {table}").fetchall() for table in ("record", "index_entry")]  # noqa: S608

    items = run(lab, to_create(login="over"), to_create(login="over"), is_dry_run=True)

    assert codes(items) == [None, "duplicate-value"]
    assert told(lab, 1) == [("record.rehearse", "done", None)]
    assert newest(lab, 1)[0].count == 2
    assert [
        lab.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608
        for table in ("record", "index_entry")
    ] == before


def test_a_collection_that_is_not_there_is_named_nowhere(lab: Lab) -> None:
    entries = count(lab, "audit_entry")

    for operations in ([UNREADABLE], [to_create(n=1)], [UNREADABLE, to_create(n=1)]):
        with pytest.raises(CollectionNotFoundError):
            lab.vault.services.bulk.run(lab.caller, "erika.mustermann", operations)

    assert count(lab, "audit_entry") == entries


def test_a_role_that_may_nothing_is_refused_each_operation(lab: Lab) -> None:
    row = lab.create(login="ada")
    nobody = dataclasses.replace(lab.caller, role="stranger")
    before = count(lab, "record"), count(lab, "index_entry")

    result = lab.vault.services.bulk.run(
        nobody, "users", [to_create(n=1), to_patch(row, n=1), to_erase(row), to_look_up("login", "ada")]
    )

    assert all(isinstance(item, NotAuthorizedError) for item in result.items)
    assert told(lab, 4) == [
        (action, "refused", "not-authorized")
        for action in ("record.create", "record.update", "record.erase", "record.lookup")
    ]
    assert (count(lab, "record"), count(lab, "index_entry")) == before


def test_all_operations_of_a_batch_follow_one_definition(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redefinition in the middle of planning: no document is stored by a definition that it was not checked by."""
    collections = lab.vault.services.collections
    row = lab.create(login="ada")
    source = collections.show(lab.caller, "users").source
    wider = source | {"properties": source["properties"] | {"age": {"type": "integer"}}}
    whole, asked = collections.current, []

    def redefined_after_the_first(tenant: str, name: str) -> Any:
        definition = whole(tenant, name)
        asked.append(definition.version)
        if len(asked) == 1:
            collections.define(lab.caller, "users", wider, Settings())
        return definition

    monkeypatch.setattr(collections, "current", redefined_after_the_first)

    items = run(lab, to_create(login=7), to_patch(row, n=1), to_create(age="as old as the hills"))

    assert codes(items) == ["schema-violation", None, "schema-violation"]
    assert 2 in asked
    assert [version for (version,) in lab.execute("SELECT schema_version FROM record").fetchall()] == [2]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_atomic_batch_is_refused_for_its_first_refusal(lab: Lab, place: int) -> None:
    """Whether a rule, a look at the record or the database refuses: the first in order counts."""
    gone = lab.create(login="gone")
    lab.vault.services.erasures.erase(lab.caller, RecordKey("default", "users", gone.token), if_match=None)
    lab.create(login="taken")
    refusals = [to_create(login="taken"), to_create(login=7), to_patch(gone, n=1)]
    reasons = ["duplicate-value", "schema-violation", "record-erased"]
    order = refusals[place:] + refusals[:place]
    before = count(lab, "record"), count(lab, "index_entry"), count(lab, "audit_entry")

    with pytest.raises(OperationRefused) as refused:
        run(lab, to_create(login="new"), *order, is_atomic=True)

    assert (refused.value.position, refused.value.error.code) == (1, reasons[place])
    assert refused.value.error.is_audited
    assert (count(lab, "record"), count(lab, "index_entry"), count(lab, "audit_entry")) == (
        before[0],
        before[1],
        before[2] + 1,
    )
    assert told(lab, 1)[0][1:] == ("refused", reasons[place])


@pytest.mark.parametrize("is_atomic", [False, True])
def test_a_row_that_is_not_as_the_vault_wrote_it_has_failed_and_was_not_refused(
    lab: Lab,
    is_atomic: bool,  # noqa: FBT001
) -> None:
    row = lab.create(login="ada")
    lab.execute("UPDATE record SET updated_at = updated_at + 1")

    if is_atomic:
        with pytest.raises(OperationRefused) as refused:
            run(lab, to_patch(row, n=1), is_atomic=True)
        assert isinstance(refused.value.error, IntegrityError)
    else:
        (item,) = run(lab, to_patch(row, n=1))
        assert isinstance(item, IntegrityError)
    assert told(lab, 1) == [("record.update", "failed", "integrity")]


def test_a_record_that_changes_meanwhile_is_planned_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    row, other = lab.create(login="ada"), lab.create(login="bob")
    key = RecordKey("default", "users", row.token)
    whole, attempts = SqlRecordStore.batch, []

    def overtaken(self: SqlRecordStore, batch: Any) -> Any:
        attempts.append([item.write.record.wrapped_dek for item in batch.items])
        if len(attempts) == 1:
            lab.vault.services.records.patch(lab.caller, key, {"by": "another"}, if_match=None)
        return whole(self, batch)

    monkeypatch.setattr(SqlRecordStore, "batch", overtaken)

    items = run(lab, to_patch(row, n=1), to_patch(other, n=1))

    assert [item.row.generation for item in items if isinstance(item, Written)] == [3, 2]
    shown = lab.vault.services.reading.read(lab.caller, key, view=PLAIN)
    assert shown.data == {"login": "ada", "by": "another", "n": 1}
    # Each attempt seals under data keys of its own.
    assert len(attempts) == 2
    assert not set(attempts[0]) & set(attempts[1])
    assert lab.vault.verify(lambda: None).findings == []


def test_a_record_erased_meanwhile_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    row = lab.create(login="ada")
    key = RecordKey("default", "users", row.token)
    whole, attempts = SqlRecordStore.batch, []

    def overtaken(self: SqlRecordStore, batch: Any) -> Any:
        attempts.append(1)
        if len(attempts) == 1:
            lab.vault.services.erasures.erase(lab.caller, key, if_match=None)
        return whole(self, batch)

    monkeypatch.setattr(SqlRecordStore, "batch", overtaken)

    refused, made = run(lab, to_patch(row, n=1), to_create(login="ada"))

    assert isinstance(refused, RecordErasedError)
    assert isinstance(made, Written)


def test_keys_that_changed_meanwhile_are_loaded(lab: Lab) -> None:
    lab.rotate()

    items = run(lab, to_create(login="ada"), to_create(login="bob"))

    assert [item.row.key_version for item in items if isinstance(item, Written)] == [2, 2]


def test_a_batch_that_is_always_overtaken_gives_up_and_leaves_nothing(lab: Lab) -> None:
    lab.vault.keyrings.load = lambda: None  # type: ignore[method-assign]
    lab.put(dataclasses.replace(lab.version(1), state=KeyState.DEACTIVATED.value))
    entries = count(lab, "audit_entry")

    with pytest.raises(UnavailableError) as refused:
        run(lab, to_create(login="ada"))

    assert refused.value.code == "contended"
    assert (count(lab, "record"), count(lab, "audit_entry")) == (0, entries)


@pytest.mark.parametrize("by", ["records", "bytes"])
def test_what_is_shown_has_a_limit(lab: Lab, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    rows = [lab.create(login=f"l{n}", note="n" * 1_000) for n in range(5)]
    size = len(rows[0].sealed_document or b"")
    limits = ShownLimits(3, 10**6) if by == "records" else ShownLimits(100, 3 * size + 100)
    monkeypatch.setattr(lab.vault.services.bulk._planner, "_limits", limits)

    items = run(lab, *map(to_get, rows), to_look_up("login", "l0"), to_create(login="new"))

    refused = "answer-too-large"
    assert codes(items) == [None, None, None, refused, refused, refused, None]
    assert told(lab, 7)[3:6] == [
        ("record.read", "refused", refused),
        ("record.read", "refused", refused),
        ("record.lookup", "refused", refused),
    ]
    # Each batch has its own.
    assert codes(run(lab, *map(to_get, rows[:3]))) == [None] * 3


def test_nothing_is_fetched_behind_the_first_that_did_not_fit(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = lab.create(note="n" * 5_000), lab.create(login="small")
    monkeypatch.setattr(lab.vault.services.bulk._planner, "_limits", ShownLimits(100, 1_000))
    fetched: list[str] = []
    for name in ("find", "lookup"):
        whole = getattr(RecordTransaction, name)

        def watched(self: Any, *arguments: Any, whole: Any = whole, name: str = name, **options: Any) -> Any:
            fetched.append(name)
            return whole(self, *arguments, **options)

        monkeypatch.setattr(RecordTransaction, name, watched)

    items = run(lab, to_get(small), to_get(large), to_get(lab.create()), to_look_up("login", "small"))

    assert codes(items) == [None, *["answer-too-large"] * 3]
    assert fetched == ["find"] * 2


def test_lookups_of_a_batch_show_five_thousand_records_together(lab: Lab) -> None:
    city = {"type": "object", "properties": {"city": {"type": "string", "x-index": "lookup"}}}
    lab.vault.services.collections.define(lab.caller, "places", city, Settings())
    bulk = lab.vault.services.bulk
    bulk.run(lab.caller, "places", [to_create(city="Ulm")] * 1_000)
    lookup = LookupOperation(Lookup("city", "Ulm", None, View(), Page(1_000)))

    result = bulk.run(lab.caller, "places", [*[lookup] * 7, to_create(city="Rom")])

    assert SHOWN_LIMITS.records == 5_000
    assert [len(item.records) for item in result.items if isinstance(item, Found)] == [1_000] * 5
    assert codes(result.items) == [*[None] * 5, *["answer-too-large"] * 2, None]


def test_a_token_stands_once_in_a_batch(lab: Lab) -> None:
    row, other = lab.create(login="ada"), lab.create(login="bob")

    items = run(lab, to_get(row), to_patch(row, n=1), to_get(other), to_erase(row), to_create(login="cyd"))

    assert codes(items) == [None, "repeated-token", None, "repeated-token", None]
    assert told(lab, 5) == [
        ("record.read", "released", None),
        ("record.update", "refused", "repeated-token"),
        ("record.read", "released", None),
        ("record.erase", "refused", "repeated-token"),
        ("record.create", "done", None),
    ]


def test_every_entry_of_a_batch_names_the_request(lab: Lab) -> None:
    caller = dataclasses.replace(lab.caller, request_id=uuid.uuid4().hex, purpose="move", address="::1")
    row = lab.create(login="ada")
    operations = [to_create(login="ada"), to_get(row), to_create(login="bob"), to_look_up("login", "bob")]

    lab.vault.services.bulk.run(caller, "users", operations)

    for event in newest(lab, 4):
        assert (event.request_id, event.purpose, event.address, event.principal, event.collection) == (
            caller.request_id,
            "move",
            "::1",
            "admin",
            "users",
        )
    assert [event.token for event in newest(lab, 4)[:2]] == [None, row.token]
    assert newest(lab, 1)[0].lookup_field == "login"
