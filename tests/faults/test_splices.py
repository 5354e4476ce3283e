"""Genuine bytes in the wrong place: each splice, swap, rollback and removal is found and named."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from keyproviders.interface import SecretBytes
from tests.faults.small_vault import (
    ADA,
    BOB,
    CALLER,
    SmallVault,
    change,
    erase,
    people_key,
    store,
)
from vault.bootstrap import Vault
from vault.core.context import RecordContext, StoredKeyContext
from vault.core.errors import IntegrityError
from vault.core.releases import View
from vault.core.rows import IndexRow, RecordRow
from vault.core.sealing import open_sealed, seal

pytestmark = pytest.mark.sqlite_only("splices rows by SQLite's own statements")

Cells = dict[str, Any]


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "id"]


def row_of(connection: sqlite3.Connection, token: bytes, table: str = "record", **where: Any) -> Cells:
    names = ["id", *columns_of(connection, table)]
    conditions = " AND ".join(f"{name} = ?" for name in ("token", *where))
    query = f"SELECT {', '.join(names)} FROM {table} WHERE {conditions}"  # noqa: S608  # our own names
    found = connection.execute(query, (token, *where.values())).fetchall()
    assert len(found) == 1
    return dict(zip(names, found[0], strict=True))


def rows_of(connection: sqlite3.Connection, table: str, token: bytes) -> list[Cells]:
    names = ["id", *columns_of(connection, table)]
    query = f"SELECT {', '.join(names)} FROM {table} WHERE token = ? ORDER BY id"  # noqa: S608  # our own names
    return [dict(zip(names, row, strict=True)) for row in connection.execute(query, (token,))]


def write(connection: sqlite3.Connection, table: str, row: Cells, **changes: Any) -> None:
    """Write these columns into the row with this id."""
    cells = {name: value for name, value in (row | changes).items() if name != "id"}
    assignments = ", ".join(f"{name} = ?" for name in cells)
    query = f"UPDATE {table} SET {assignments} WHERE id = ?"  # noqa: S608  # our own names
    assert connection.execute(query, (*cells.values(), row["id"])).rowcount == 1


def insert(connection: sqlite3.Connection, table: str, row: Cells) -> None:
    cells = {name: value for name, value in row.items() if name != "id"}
    marks = ", ".join("?" * len(cells))
    connection.execute(f"INSERT INTO {table} ({', '.join(cells)}) VALUES ({marks})", tuple(cells.values()))  # noqa: S608  # our own names


def record_rows(vault: Vault) -> dict[bytes, RecordRow]:
    return {row.token: row for row in vault.stores.inspector.rows(RecordRow)}


def write_record(made: SmallVault, vault: Vault, row: RecordRow, **changes: Any) -> None:
    """Change a record row and sign it: what somebody could do who has the MAC key, but not the record's."""
    signed = vault.keyrings.authenticator("default").sign(dataclasses.replace(row, **changes))
    cells = {name.name: getattr(signed, name.name) for name in dataclasses.fields(signed)}
    with made.tampering() as connection:
        write(connection, "record", cells)


def rewrite_index_row(made: SmallVault, vault: Vault, *, field: str, of: bytes, **changes: Any) -> None:
    (row,) = [row for row in vault.stores.inspector.rows(IndexRow) if (row.token, row.field) == (of, field)]
    signed = vault.keyrings.authenticator("default").sign(dataclasses.replace(row, **changes))
    cells = {name.name: getattr(signed, name.name) for name in dataclasses.fields(signed)}
    with made.tampering() as connection:
        write(connection, "index_entry", cells)


@pytest.mark.parametrize(
    "column", ["sealed_document", "wrapped_dek", "generation", "revision", "write_id", "mac"]
)
def test_a_column_swapped_between_records(small_vault: SmallVault, column: str) -> None:
    with small_vault.tampering() as connection:
        ada, bob = row_of(connection, small_vault.ada), row_of(connection, small_vault.bob)
        assert ada[column] != bob[column]
        write(connection, "record", ada, **{column: bob[column]})
        write(connection, "record", bob, **{column: ada[column]})

    found = {(finding.code, finding.where.split()[0]) for finding in small_vault.findings()}

    assert ("row-mac", "record") in found
    assert sum(finding.code == "row-mac" for finding in small_vault.findings()) == 2


def test_tokens_swapped_between_records(small_vault: SmallVault) -> None:
    with small_vault.tampering() as connection:
        ada, bob = row_of(connection, small_vault.ada), row_of(connection, small_vault.bob)
        write(connection, "record", ada, token=b"x" * 16)
        write(connection, "record", bob, token=ada["token"])
        write(connection, "record", ada, token=bob["token"])

    assert sum(finding.code == "row-mac" for finding in small_vault.findings()) == 2


def test_a_whole_row_in_the_place_of_another(small_vault: SmallVault) -> None:
    """All of one record's columns, MAC included, under the other's token."""
    with small_vault.tampering() as connection:
        ada, bob = row_of(connection, small_vault.ada), row_of(connection, small_vault.bob)
        write(connection, "record", ada | {"id": bob["id"], "token": bob["token"]})

    assert "row-mac" in small_vault.codes()


def test_rows_that_only_exchange_their_numbers_still_read_as_they_are(small_vault: SmallVault) -> None:
    """The integer id is the one column outside the MAC: it says nothing that anything relies on."""
    with small_vault.tampering() as connection:
        ada, bob = row_of(connection, small_vault.ada), row_of(connection, small_vault.bob)
        write(connection, "record", ada, token=b"x" * 16)
        write(connection, "record", ada | {"id": bob["id"]})
        write(connection, "record", bob | {"id": ada["id"]})

    assert small_vault.findings() == []
    with small_vault.opened() as vault:
        for token, data in ((small_vault.ada, ADA), (small_vault.bob, BOB)):
            key = people_key(token)
            assert vault.services.reading.read(CALLER, key, view=View(plain=True)).data == data


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("collection", "users"),
        ("tenant", "other"),
        ("seal_epoch", 2),
        ("schema_version", 2),
        ("format", 2),
        ("keyring", "other"),
        ("key_version", 2),
        ("expires_at", None),
        ("erased_at", 1),
        ("mac_key_id", 2),
    ],
)
def test_a_record_moved_to_another_place(small_vault: SmallVault, column: str, value: Any) -> None:
    with small_vault.tampering() as connection:
        bob = row_of(connection, small_vault.bob)
        assert bob[column] != value
        write(connection, "record", bob, **{column: value})

    expected = "unknown-keyring" if column == "tenant" else "row-mac"
    named = [finding for finding in small_vault.findings() if finding.code == expected]
    assert [finding.where for finding in named] == [f"record {uuid.UUID(bytes=small_vault.bob)} generation 1"]


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        (lambda _ada, bob: {"sealed_document": bob.sealed_document}, "seal"),
        (lambda _ada, bob: {"wrapped_dek": bob.wrapped_dek}, "seal"),
        (lambda _ada, bob: {"sealed_document": bob.sealed_document, "wrapped_dek": bob.wrapped_dek}, "seal"),
        (lambda ada, _bob: {"generation": ada.generation + 1}, "seal"),
        (lambda ada, _bob: {"seal_epoch": ada.seal_epoch + 1}, "seal"),
        (lambda ada, _bob: {"schema_version": ada.schema_version + 1}, "seal"),
        (lambda _ada, _bob: {"collection": "users"}, "seal"),
        (lambda _ada, _bob: {"token": b"t" * 16}, "seal"),
        (lambda _ada, _bob: {"format": 2}, "seal-format"),
        (lambda ada, _bob: {"sealed_document": b"\x02" + ada.sealed_document[1:]}, "seal-format"),
        (lambda _ada, _bob: {"sealed_document": b"\x01\x01short"}, "seal-format"),
        (lambda _ada, _bob: {"sealed_document": None}, "seal-format"),
        (lambda _ada, _bob: {"key_version": 2}, "key-version"),
        (lambda _ada, _bob: {"keyring": "other"}, "unknown-keyring"),
        (lambda ada, _bob: {"wrapped_dek": ada.wrapped_dek[:-1] + b"?"}, "wrapped-dek"),
        (lambda _ada, _bob: {"erased_at": 1, "erased_versions": "[]"}, "erased-not-gone"),
    ],
)
def test_a_splice_by_someone_who_can_sign_rows(
    small_vault: SmallVault, changes: Callable[[Any, Any], Cells], finding: str
) -> None:
    """The seal is bound by itself: it holds even where a row's MAC says that all is well."""
    with small_vault.opened() as vault:
        rows = record_rows(vault)
        ada, bob = rows[small_vault.ada], rows[small_vault.bob]
        write_record(small_vault, vault, ada, **changes(ada, bob))

    assert finding in small_vault.codes()
    assert "row-mac" not in small_vault.codes()


@pytest.mark.parametrize("is_signed", [False, True])
def test_an_index_row_pointed_at_another_record(small_vault: SmallVault, *, is_signed: bool) -> None:
    if is_signed:
        with small_vault.opened() as vault:
            rewrite_index_row(small_vault, vault, field="email", of=small_vault.ada, token=small_vault.bob)
        assert small_vault.codes() == {"index-binding", "index-missing"}
        return
    with small_vault.tampering() as connection:
        row = row_of(connection, small_vault.ada, "index_entry", field="email")
        write(connection, "index_entry", row, token=small_vault.bob)
    assert small_vault.codes() == {"row-mac", "index-missing"}


@pytest.mark.parametrize(
    "changes", [{"tag": b"t" * 32}, {"slot": b"s"}, {"normaliser": "email/2"}, {"index_key_id": 1}]
)
def test_a_signed_index_row_with_another_fact(small_vault: SmallVault, changes: Cells) -> None:
    with small_vault.opened() as vault:
        rewrite_index_row(small_vault, vault, field="email", of=small_vault.ada, **changes)

    assert small_vault.codes() == {"index-binding", "index-missing"}


def test_an_index_row_copied_for_another_record(small_vault: SmallVault) -> None:
    with small_vault.tampering() as connection:
        row = row_of(connection, small_vault.ada, "index_entry", field="city")
        insert(connection, "index_entry", row | {"token": small_vault.bob, "slot": b"another"})

    assert small_vault.codes() == {"row-mac"}


def test_an_index_row_copied_whole(small_vault: SmallVault) -> None:
    """Twice the same genuine row: without the unique index in the way, verification still counts it."""
    with small_vault.tampering() as connection:
        names = [row[1] for row in connection.execute("PRAGMA index_list(index_entry)") if row[2]]
        for name in names:
            connection.execute(f"DROP INDEX {name}")
        insert(connection, "index_entry", row_of(connection, small_vault.ada, "index_entry", field="email"))

    # Opening refuses a database whose unique index is gone.
    assert small_vault.codes() == {"misconfigured"}


def test_a_history_row_put_back_as_the_current_one(small_vault: SmallVault) -> None:
    with small_vault.tampering() as connection:
        older = row_of(connection, small_vault.ada, "record_history")
        current = row_of(connection, small_vault.ada)
        write(connection, "record", older | {"id": current["id"]})

    assert "row-mac" in small_vault.codes()


def test_a_tampered_history_row_hides_no_missing_record(small_vault: SmallVault) -> None:
    with small_vault.tampering() as connection:
        connection.execute("UPDATE record_history SET mac = zeroblob(32)")
        connection.execute("DELETE FROM record WHERE token = ?", (small_vault.ada,))

    assert small_vault.codes() == {"row-mac", "record-missing", "index-binding"}


def test_a_current_row_put_into_the_history(small_vault: SmallVault) -> None:
    with small_vault.tampering() as connection:
        older = row_of(connection, small_vault.ada, "record_history")
        current = row_of(connection, small_vault.ada)
        write(connection, "record_history", current | {"id": older["id"]})

    assert small_vault.codes() == {"row-mac"}


def test_a_record_rolled_back_whole(small_vault: SmallVault) -> None:
    """The record's own older row with its index rows: all genuine. Only the log knows better."""
    with small_vault.tampering() as connection:
        before = row_of(connection, small_vault.bob)
        index_before = rows_of(connection, "index_entry", small_vault.bob)
    with small_vault.opened() as vault:
        change(vault, small_vault.bob, BOB | {"email": "bob@new.example.org"})
    assert small_vault.findings() == []

    with small_vault.tampering() as connection:
        write(connection, "record", before)
        connection.execute("DELETE FROM index_entry WHERE token = ?", (small_vault.bob,))
        for row in index_before:
            insert(connection, "index_entry", row)
        connection.execute("DELETE FROM record_history WHERE token = ?", (small_vault.bob,))

    (finding,) = small_vault.findings()
    assert finding.code == "record-rolled-back"
    assert str(uuid.UUID(bytes=small_vault.bob)) in finding.where


def test_an_erased_record_put_back(small_vault: SmallVault) -> None:
    with small_vault.tampering() as connection:
        before = row_of(connection, small_vault.bob)
        index_before = rows_of(connection, "index_entry", small_vault.bob)
    with small_vault.opened() as vault:
        erase(vault, small_vault.bob)
    assert small_vault.findings() == []

    with small_vault.tampering() as connection:
        write(connection, "record", before)
        for row in index_before:
            insert(connection, "index_entry", row)

    assert small_vault.codes() == {"record-rolled-back"}


def test_a_deleted_record(small_vault: SmallVault) -> None:
    with small_vault.tampering() as connection:
        connection.execute("DELETE FROM record WHERE token = ?", (small_vault.ada,))

    assert small_vault.codes() == {"record-missing", "history-orphan", "index-binding"}


def test_a_record_deleted_with_everything_but_its_log(small_vault: SmallVault) -> None:
    with small_vault.tampering() as connection:
        for table in ("record", "record_history", "index_entry"):
            connection.execute(f"DELETE FROM {table} WHERE token = ?", (small_vault.ada,))  # noqa: S608  # our own names

    assert small_vault.codes() == {"record-missing"}


@pytest.mark.parametrize("field", ["email", "city"])
def test_a_deleted_index_row(small_vault: SmallVault, field: str) -> None:
    with small_vault.tampering() as connection:
        connection.execute("DELETE FROM index_entry WHERE token = ? AND field = ?", (small_vault.ada, field))

    (finding,) = small_vault.findings()
    assert (finding.code, finding.where.split()[-1]) == ("index-missing", field)


def test_a_deleted_entry_of_the_log(small_vault: SmallVault) -> None:
    with small_vault.tampering() as connection:
        connection.execute(
            "DELETE FROM audit_entry WHERE token = ? AND action = 'record.create'", (small_vault.bob,)
        )

    assert small_vault.codes() == {"record-unlogged"}


@pytest.mark.parametrize(("who", "action"), [("ada", "record.update"), ("cyd", "record.erase")])
def test_a_deleted_newest_entry_of_the_log(small_vault: SmallVault, who: str, action: str) -> None:
    with small_vault.tampering() as connection:
        token = getattr(small_vault, who)
        deleted = connection.execute(
            "DELETE FROM audit_entry WHERE token = ? AND action = ?", (token, action)
        )
        assert deleted.rowcount == 1

    assert small_vault.codes() == {"record-rolled-back"}


def test_a_definition_deleted_or_exchanged(small_vault: SmallVault) -> None:
    with small_vault.tampering() as connection:
        connection.execute("DELETE FROM collection_schema WHERE collection = 'people'")

    assert "schema-missing" in small_vault.codes()


def test_another_collections_definition(small_vault: SmallVault) -> None:
    with small_vault.tampering() as connection:
        (schema,) = connection.execute(
            "SELECT schema_json FROM collection_schema WHERE collection = 'users'"
        ).fetchone()
        connection.execute(
            "UPDATE collection_schema SET schema_json = ? WHERE collection = 'people'", (schema,)
        )

    assert "row-mac" in small_vault.codes()


def test_stored_keys_exchanged(small_vault: SmallVault) -> None:
    """The index key in the MAC key's place: bound to its purpose, it does not open there."""
    with small_vault.tampering() as connection:
        query = "SELECT id, wrapped_dek, sealed_key FROM stored_key ORDER BY id"
        (first, *first_key), (second, *second_key) = connection.execute(query).fetchall()
        update = "UPDATE stored_key SET wrapped_dek = ?, sealed_key = ? WHERE id = ?"
        connection.execute(update, (*second_key, first))
        connection.execute(update, (*first_key, second))

    assert small_vault.codes() == {"seal"}


def test_a_foreign_record_of_another_vault(small_vault: SmallVault, tmp_path: Any) -> None:
    from tests.faults.small_vault import make_empty_vault

    other = make_empty_vault(tmp_path / "other")
    with other.opened() as vault:
        token = store(vault, ADA).token
    with other.tampering() as connection:
        foreign = row_of(connection, token)
    with small_vault.tampering() as connection:
        insert(connection, "record", foreign)

    assert small_vault.codes() == {"row-mac"}


RECORD_CONTEXT = RecordContext("default", "people", b"t" * 16, 3, 2, 5)
KEY_CONTEXT = StoredKeyContext("index", "default", "default", 7, 2)


@pytest.mark.parametrize(
    ("context", "field"),
    [
        (context, field.name)
        for context in (RECORD_CONTEXT, KEY_CONTEXT)
        for field in dataclasses.fields(context)
    ],
)
def test_each_field_of_a_context_is_bound(context: Any, field: str) -> None:
    dek = SecretBytes(os.urandom(32))
    sealed = seal(b"plaintext", dek=dek, context=context)
    genuine = getattr(context, field)
    other = genuine + (1 if isinstance(genuine, int) else genuine[:1])

    assert open_sealed(sealed, dek=dek, context=context, where="here") == b"plaintext"
    with pytest.raises(IntegrityError, match="seal: here"):
        open_sealed(sealed, dek=dek, context=dataclasses.replace(context, **{field: other}), where="here")


def test_neighbouring_fields_do_not_run_into_each_other() -> None:
    dek = SecretBytes(os.urandom(32))
    context = RecordContext("ab", "c", b"t" * 16, 1, 1, 1)
    sealed = seal(b"plaintext", dek=dek, context=context)

    with pytest.raises(IntegrityError):
        open_sealed(sealed, dek=dek, context=RecordContext("a", "bc", b"t" * 16, 1, 1, 1), where="here")


@pytest.mark.parametrize("place", range(2 + 12 + 9 + 16))
def test_each_byte_of_a_seal_counts(place: int) -> None:
    dek = SecretBytes(os.urandom(32))
    sealed = bytearray(seal(b"plaintext", dek=dek, context=KEY_CONTEXT))
    sealed[place] ^= 1

    with pytest.raises(IntegrityError):
        open_sealed(bytes(sealed), dek=dek, context=KEY_CONTEXT, where="here")
