"""What every engine's collection, key, credential and audit stores do, and its inspector."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.store_engines import (
    NOW,
    TENANT,
    Bench,
    as_history,
    collection,
    credential,
    definition,
    entry,
    index,
    keyring,
    new_write,
    next_generation,
    principal,
    record,
    same,
)
from vault.core.audit_ports import AuditCriteria, RefusalTally
from vault.core.errors import UnavailableError
from vault.core.ports import Page, StaleWriteError
from vault.core.rows import (
    AuditRow,
    CollectionRow,
    CollectionSchemaRow,
    CredentialRow,
    IndexRow,
    KeyringRow,
    KeyVersionRow,
    PrincipalRow,
    RecordRow,
    StoredKeyRow,
)

ALL = Page(limit=1_000)


class TestCollections:
    def test_a_definition_is_found_as_it_was_written(self, bench: Bench) -> None:
        made = entry(action="collection.define")
        pets, first = collection("pets"), definition("pets")

        bench.stores.collections.define(pets, first, previous=None, entry=made, only_if_empty=False)

        assert same(bench.stores.collections.get(TENANT, "pets"), pets)
        assert same(bench.stores.collections.get_schema(TENANT, "pets", 1), first)
        assert same(bench.entries()[-1], made)

    def test_what_is_not_there(self, bench: Bench) -> None:
        collections = bench.stores.collections
        assert collections.get(TENANT, "pets") is None
        assert collections.get("other", "people") is None
        assert collections.get_schema(TENANT, "people", 2) is None
        assert collections.get_schema("other", "people", 1) is None
        assert collections.list_all("other") == []

    def test_collections_are_listed_by_name(self, bench: Bench) -> None:
        for name in ("zebras", "ants"):
            bench.stores.collections.define(
                collection(name), definition(name), previous=None, entry=entry(), only_if_empty=False
            )

        assert [row.name for row in bench.stores.collections.list_all(TENANT)] == ["ants", "people", "zebras"]

    def test_versions_are_kept(self, bench: Bench) -> None:
        redefine(bench)

        row = bench.stores.collections.get(TENANT, "people")
        assert row is not None
        assert (row.schema_version, row.revision) == (2, 2)
        assert [each.version for each in bench.rows(CollectionSchemaRow)] == [1, 2]

    def test_settings_change_without_a_new_version(self, bench: Bench) -> None:
        before = bench.stores.collections.get(TENANT, "people")
        assert before is not None

        bench.stores.collections.define(
            replace(before, revision=2), None, previous=before, entry=entry(), only_if_empty=False
        )

        assert len(bench.rows(CollectionSchemaRow)) == 1

    @pytest.mark.parametrize("is_new", [True, False])
    def test_a_definition_that_was_overtaken_is_refused(self, bench: Bench, *, is_new: bool) -> None:
        previous = None if is_new else replace(collection(), revision=9)
        before = [bench.rows(kind) for kind in (CollectionRow, CollectionSchemaRow, AuditRow)]

        with pytest.raises(StaleWriteError) as refused:
            bench.stores.collections.define(
                replace(collection(), revision=10),
                definition(version=2),
                previous=previous,
                entry=entry(),
                only_if_empty=False,
            )

        assert refused.value.cause == "record"
        assert [bench.rows(kind) for kind in (CollectionRow, CollectionSchemaRow, AuditRow)] == before

    def test_a_breaking_change_needs_an_empty_collection(self, bench: Bench) -> None:
        row = record()
        bench.stores.records.create(new_write(row))
        before = [bench.rows(kind) for kind in (CollectionRow, CollectionSchemaRow, AuditRow)]

        with pytest.raises(StaleWriteError) as refused:
            redefine(bench, only_if_empty=True)

        assert refused.value.cause == "schema"
        assert [bench.rows(kind) for kind in (CollectionRow, CollectionSchemaRow, AuditRow)] == before

    def test_tombstones_and_other_collections_do_not_count_as_records(self, bench: Bench) -> None:
        bench.stores.collections.define(
            collection("pets"), definition("pets"), previous=None, entry=entry(), only_if_empty=True
        )
        bench.stores.records.create(new_write(record(erased_at=1, wrapped_dek=None, sealed_document=None)))
        bench.stores.records.create(new_write(record(collection="pets")))

        redefine(bench, only_if_empty=True)

    def test_of_racing_definitions_one_wins(self, bench: Bench) -> None:
        others = bench.open_again().collections

        def attempt(number: int) -> str:
            store = bench.stores.collections if number % 2 else others
            try:
                store.define(
                    collection("pets"), definition("pets"), previous=None, entry=entry(), only_if_empty=False
                )
            except StaleWriteError as error:
                return error.cause
            return "won"

        with ThreadPoolExecutor(6) as pool:
            assert Counter(pool.map(attempt, range(12))) == {"won": 1, "record": 11}

    def test_after_a_redefinition_the_old_version_is_not_written(self, bench: Bench) -> None:
        redefine(bench)

        with pytest.raises(StaleWriteError) as refused:
            bench.stores.records.create(new_write(record(schema_version=1)))
        assert refused.value.cause == "schema"
        bench.stores.records.create(new_write(record(schema_version=2)))


def redefine(bench: Bench, *, only_if_empty: bool = False) -> None:
    before = bench.stores.collections.get(TENANT, "people")
    assert before is not None
    bench.stores.collections.define(
        replace(before, schema_version=2, revision=2),
        definition(version=2),
        previous=before,
        entry=entry(),
        only_if_empty=only_if_empty,
    )


class TestKeys:
    def test_a_keyring_is_found_as_it_was_written(self, empty_bench: Bench) -> None:
        parts = keyring()
        parts.create(empty_bench)
        keys = empty_bench.stores.keys

        assert [same(row, parts.ring) for row in keys.keyrings()] == [True]
        assert [same(row, parts.version) for row in keys.key_versions()] == [True]
        stored = keys.stored_keys()
        assert [same(row, made) for row, made in zip(stored, parts.stored, strict=True)] == [True, True]
        assert [row.action for row in empty_bench.entries()] == ["vault.init"]

    def test_an_empty_database_has_no_keys(self, empty_bench: Bench) -> None:
        keys = empty_bench.stores.keys
        assert (keys.keyrings(), keys.key_versions(), keys.stored_keys()) == ([], [], [])
        assert dict(keys.census()) == {}
        assert dict(keys.index_census()) == {}

    def test_a_keyring_that_exists_is_refused_whole(self, bench: Bench) -> None:
        kinds: tuple[Any, ...] = (KeyringRow, KeyVersionRow, StoredKeyRow, AuditRow)
        before = [bench.rows(kind) for kind in kinds]

        with pytest.raises(UnavailableError):
            keyring(first_key=10).create(bench)
        # Only the last of its rows collides.
        with pytest.raises(UnavailableError):
            keyring("fresh", first_key=2).create(bench)

        assert [bench.rows(kind) for kind in kinds] == before

    def test_the_census_counts_what_depends_on_each_version(self, bench: Bench) -> None:
        keyring("second", first_key=10).create(bench)
        records = bench.stores.records
        for _ in range(3):
            row = record()
            records.create(new_write(row, index(row, row.token.hex()[:30])))
        # Needs its key no more.
        records.create(new_write(record(erased_at=1, wrapped_dek=None, sealed_document=None)))
        other = record(keyring="second")
        records.create(new_write(other, index(other, "x", index_key_id=11)))
        stored = next(row for row in bench.rows(RecordRow) if row.keyring == "second")
        following = next_generation(stored, keyring="second")
        records.replace(
            new_write(
                following, index(following, "x", index_key_id=11), history=as_history(stored), history_limit=1
            ),
            previous=stored,
        )

        assert dict(bench.stores.keys.census()) == {
            (TENANT, "default", 1): {"record": 3, "stored_key": 2},
            (TENANT, "second", 1): {"record": 1, "record_history": 1, "stored_key": 2},
        }
        assert dict(bench.stores.keys.index_census()) == {2: 3, 11: 1}


class TestCredentials:
    def test_a_credential_is_found_by_its_hash(self, bench: Bench) -> None:
        shown, who, made = credential(expires_at=NOW), principal(), entry(action="credential.create")

        bench.stores.credentials.create(who, shown, made)

        found = bench.stores.credentials.find(shown.secret_sha256)
        assert found is not None
        assert same(found[0], shown)
        assert same(found[1], who)
        assert same(bench.entries()[-1], made)
        assert bench.stores.credentials.find(os.urandom(32)) is None

    def test_a_second_credential_keeps_the_principal(self, bench: Bench) -> None:
        bench.stores.credentials.create(principal(), credential(), entry())
        again = replace(principal(), created_at=NOW + 1)

        bench.stores.credentials.create(again, credential(), entry())

        assert [row.created_at for row in bench.rows(PrincipalRow)] == [NOW]
        assert len(bench.rows(CredentialRow)) == 2

    def test_a_hash_that_is_taken_is_refused_whole(self, bench: Bench) -> None:
        first = credential()
        bench.stores.credentials.create(principal(), first, entry())
        before = [bench.rows(kind) for kind in (PrincipalRow, CredentialRow, AuditRow)]

        with pytest.raises(UnavailableError):
            bench.stores.credentials.create(
                principal("other"), credential("other", secret_sha256=first.secret_sha256), entry()
            )

        assert [bench.rows(kind) for kind in (PrincipalRow, CredentialRow, AuditRow)] == before

    def test_replacing_revokes_all_of_one_principal(self, bench: Bench) -> None:
        mine = [credential(), credential(), credential(revoked_at=7)]
        other = credential("other")
        for each in (*mine, other):
            bench.stores.credentials.create(principal(each.principal), each, entry())
        fresh, made = credential(), entry(action="credential.create")
        revocations = []

        def revoke(old: CredentialRow) -> tuple[CredentialRow, AuditRow]:
            revocations.append(entry(action="credential.revoke"))
            return replace(old, revoked_at=NOW, mac=b"resigned"), revocations[-1]

        bench.stores.credentials.replace_all(
            TENANT,
            "admin",
            revoke=revoke,
            credential=fresh,
            entry=made,
        )

        by_hash = {row.secret_sha256: row for row in bench.rows(CredentialRow)}
        assert [by_hash[each.secret_sha256].revoked_at for each in mine] == [NOW, NOW, 7]
        assert [by_hash[each.secret_sha256].mac for each in mine[:2]] == [b"resigned"] * 2
        assert same(by_hash[mine[2].secret_sha256], mine[2])
        assert same(by_hash[other.secret_sha256], other)
        assert same(by_hash[fresh.secret_sha256], fresh)
        assert len(revocations) == 2
        assert all(
            same(stored, sent)
            for stored, sent in zip(bench.entries()[-3:], [*revocations, made], strict=True)
        )


class TestAudit:
    def test_entries_come_back_as_they_were_written(self, bench: Bench) -> None:
        made = [
            entry(purpose="p", token=b"t" * 16, collection="people", reason="x"),
            entry(principal=None, canonical="Zoë".encode() + b"\0\xff"),
        ]

        bench.stores.audit.append(made)

        assert [same(row, sent) for row, sent in zip(bench.entries()[-2:], made, strict=True)] == [True, True]

    def test_entries_are_committed_all_or_none(self, bench: Bench) -> None:
        before = bench.entries()

        with pytest.raises(UnavailableError):
            bench.stores.audit.append([entry(), replace(before[0], id=None)])

        assert bench.entries() == before

    def test_a_search_is_newest_first_and_leaves_its_own_entry(self, bench: Bench) -> None:
        made = [entry(purpose="wanted") for _ in range(3)]
        bench.stores.audit.append(made)
        own = entry(action="audit.search", purpose="wanted")

        found = bench.stores.audit.search(AuditCriteria(TENANT, purpose="wanted"), page=ALL, entry=own)

        # Not among what it found itself.
        assert [row.entry_id for row in found] == [row.entry_id for row in reversed(made)]
        assert same(bench.entries()[-1], own)

    @pytest.mark.parametrize(
        ("criteria", "expected"),
        [
            ({"principal": "eve"}, "b"),
            ({"action": "record.read"}, "a"),
            ({"result": "refused"}, "c"),
            ({"collection": "pets"}, "ab"),
            ({"purpose": "billing"}, "bc"),
            ({"tokens": (b"1" * 16, b"3" * 16)}, "ac"),
            ({"tokens": (b"9" * 16,)}, ""),
            ({"tokens": ()}, ""),
            ({"since": 20}, "bc"),
            ({"until": 20}, "a"),
            ({"since": 20, "until": 30}, "b"),
            ({"collection": "pets", "purpose": "billing"}, "b"),
            ({}, "abc"),
            ({"tenant": "other"}, "d"),
        ],
    )
    def test_criteria(self, empty_bench: Bench, criteria: dict[str, Any], expected: str) -> None:
        empty_bench.stores.audit.append(
            [
                entry(reason="a", action="record.read", collection="pets", token=b"1" * 16, time=10),
                entry(
                    reason="b",
                    principal="eve",
                    collection="pets",
                    purpose="billing",
                    token=b"2" * 16,
                    time=20,
                ),
                entry(reason="c", result="refused", purpose="billing", token=b"3" * 16, time=30),
                entry(reason="d", tenant="other", time=40),
            ]
        )

        found = empty_bench.stores.audit.search(
            AuditCriteria(**{"tenant": TENANT} | criteria), page=ALL, entry=entry()
        )

        assert sorted(row.reason for row in found if row.reason) == list(expected)

    def test_pages_go_backwards_without_gap(self, bench: Bench) -> None:
        made = [entry(purpose="wanted") for _ in range(7)]
        bench.stores.audit.append(made)
        seen: list[bytes] = []
        page = Page(limit=3)
        while batch := bench.stores.audit.search(
            AuditCriteria(TENANT, purpose="wanted"), page=page, entry=entry()
        ):
            seen += [row.entry_id for row in batch]
            assert batch[-1].id is not None
            page = Page(limit=3, after=batch[-1].id)

        assert seen == [row.entry_id for row in reversed(made)]

    def test_refusals_of_one_minute_become_one_entry(self, bench: Bench) -> None:
        audit, closed = bench.stores.audit, list[RefusalTally]()
        before = len(bench.entries())

        def entry_for(tally: RefusalTally) -> AuditRow:
            closed.append(tally)
            return entry(action="request", reason=tally.reason)

        for minute in (100, 100, 100):
            audit.tally_refusal(RefusalTally("::1", "missing", minute, 1), entry_for=entry_for)
        audit.tally_refusal(RefusalTally("::1", "invalid", 100, 1), entry_for=entry_for)
        audit.tally_refusal(RefusalTally("10.0.0.1", "missing", 100, 1), entry_for=entry_for)
        audit.close_tallies(100, entry_for=entry_for)
        assert (closed, len(bench.entries())) == ([], before)

        audit.tally_refusal(RefusalTally("::1", "missing", 101, 1), entry_for=entry_for)

        assert Counter(closed) == Counter(
            [
                RefusalTally("::1", "missing", 100, 3),
                RefusalTally("::1", "invalid", 100, 1),
                RefusalTally("10.0.0.1", "missing", 100, 1),
            ]
        )
        assert len(bench.entries()) == before + 3
        closed.clear()
        audit.close_tallies(102, entry_for=entry_for)
        audit.close_tallies(102, entry_for=entry_for)
        assert closed == [RefusalTally("::1", "missing", 101, 1)]

    def test_racing_refusals_are_all_counted(self, bench: Bench) -> None:
        others, closed = bench.open_again().audit, list[RefusalTally]()

        def entry_for(tally: RefusalTally) -> AuditRow:
            closed.append(tally)
            return entry()

        def attempt(number: int) -> None:
            store = bench.stores.audit if number % 2 else others
            store.tally_refusal(RefusalTally("::1", "missing", 5, 1), entry_for=entry_for)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(attempt, range(30)))
            list(pool.map(lambda _: bench.stores.audit.close_tallies(6, entry_for=entry_for), range(6)))

        assert closed == [RefusalTally("::1", "missing", 5, 30)]


class TestInspector:
    def test_rows_come_in_the_order_of_their_ids(self, bench: Bench) -> None:
        for _ in range(12):
            bench.stores.records.create(new_write(record()))

        ids = [row.id for row in bench.rows(RecordRow)]

        assert ids == sorted(ids)
        assert len(set(ids)) == 12

    def test_an_id_is_never_used_twice(self, bench: Bench) -> None:
        """A job's cursor must never meet a new row behind itself."""
        row = record()
        bench.stores.records.create(new_write(row, index(row, "a")))
        stored = bench.rows(RecordRow)[0]
        last = bench.rows(IndexRow)[-1].id
        following = next_generation(stored)

        bench.stores.records.replace(new_write(following, index(following, "b")), previous=stored)

        assert bench.rows(IndexRow)[-1].id > last
