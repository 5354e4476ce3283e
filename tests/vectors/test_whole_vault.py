"""The second decoder, given only the SQLite file and the key file of a real vault, opens and checks all of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vault import bootstrap
from vault.config import load_configuration
from vault.core.collections import Settings
from vault.core.policy import Caller
from vault.core.ports import Page, RecordKey
from vault.core.reading import Lookup
from vault.core.record_drafts import NewDocument
from vault.core.releases import View

CUSTOMERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "x-index": "lookup"},
        "number": {"type": "string", "x-index": "unique", "x-normalize": "login"},
        "phone": {"type": ["string", "null"], "x-index": "lookup", "x-normalize": "phone"},
    },
}
CALLER = Caller(
    tenant="default", principal="admin", credential="00" * 8, role="administrator", purpose="support:1"
)


@dataclass(frozen=True)
class Stored:
    """A vault's files, and what the services said that they stored."""

    database: Path
    key_file: Path
    credential: str
    documents: dict[tuple[bytes, int], tuple[dict[str, Any], str | None]]
    erased: set[bytes]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    folder = tmp_path_factory.mktemp("whole") / "data"
    configuration = load_configuration(None, folder)
    credential = bootstrap.create_vault(configuration)
    vault = bootstrap.open_vault(configuration)
    services, documents, erased = vault.services, {}, set()
    services.collections.define(CALLER, "users", _users(vault), Settings(default_region="DE"))
    services.collections.define(CALLER, "customers", CUSTOMERS, Settings(history=3))
    for number in range(12):
        data = {"email": f" User{number}@Example.com ", "login": f"User{number}", "n": 2**70, "nested": [{}]}
        row = services.records.create(CALLER, "users", NewDocument(data))
        documents[row.token, 1] = (data, "DE")
    for number in range(12):
        data = {"имя": "Жанна \U0001f511", "city": "Zürich", "number": f"K{number}", "phone": "+4930123456"}
        row = services.records.create(CALLER, "customers", NewDocument(data, region="AT"))
        documents[row.token, 1] = (data, "AT")
        key = RecordKey("default", "customers", row.token)
        for generation in range(2, 2 + number % 4):
            data = data | {"phone": None, "step": generation}
            services.records.replace(CALLER, key, NewDocument(data), if_match=None)
            documents[row.token, generation] = (data, None)
        if number % 5 == 4:
            services.erasures.erase(CALLER, key, if_match=None)
            erased.add(row.token)
    services.reading.lookup(CALLER, "users", Lookup("login", "USER3", None, View(plain=True), Page(10)))
    services.trail.refused_without_credential(address="192.0.2.7", reason="missing")
    vault.close()
    kept = {place: said for place, said in documents.items() if place[0] not in erased}
    return Stored(folder / "strongroom.db", folder / "keys.json", credential.text, kept, erased)


def _users(vault: bootstrap.Vault) -> dict[str, Any]:
    return vault.services.collections.show(CALLER, "users").source


def test_every_record_opens(stored: Stored, decoder: ModuleType) -> None:
    vault = decoder.VaultFile(stored.database, stored.key_file)
    opened = {}
    for row in (*vault.rows["record"], *vault.rows["record_history"]):
        if row["erased_at"] is None:
            content = vault.document(row)
            opened[row["token"], row["generation"]] = (content["data"], content.get("region"))
        else:
            assert (row["wrapped_dek"], row["sealed_document"]) == (None, None)
            assert row["erased_versions"] == '[["default",1]]'
    assert len(opened) == len(stored.documents) > 30
    assert opened == stored.documents
    assert {row["token"] for row in vault.rows["record"] if row["erased_at"]} == stored.erased
    data_keys = [
        vault.data_key(row)
        for table in ("record", "record_history")
        for row in vault.rows[table]
        if row["wrapped_dek"]
    ]
    assert len(set(data_keys)) == len(data_keys) == len(stored.documents)


def test_every_row_mac_is_right(stored: Stored, decoder: ModuleType) -> None:
    vault = decoder.VaultFile(stored.database, stored.key_file)
    vault.check_macs()
    assert all(vault.mac_checks.values()), vault.mac_checks
    assert vault.mac_checks == {table: len(rows) for table, rows in vault.rows.items()}
    macs = [row["mac"] for rows in vault.rows.values() for row in rows]
    assert len(set(macs)) == len(macs)


def test_every_tag_is_what_the_documents_call_for(stored: Stored, decoder: ModuleType) -> None:
    vault = decoder.VaultFile(stored.database, stored.key_file)
    assert len(vault.stored_index()) == len(vault.rows["index_entry"]) > 40
    assert vault.stored_index() == vault.expected_index()


def test_every_entry_is_canonical(stored: Stored, decoder: ModuleType) -> None:
    vault = decoder.VaultFile(stored.database, stored.key_file)
    entries = list(vault.entries())
    assert len(entries) == len(vault.rows["audit_entry"]) > 40
    assert {
        "vault.init",
        "credential.create",
        "record.create",
        "record.update",
        "record.erase",
        "record.lookup",
    } <= {entry["action"] for entry in entries}
    by_boot: dict[str, list[int]] = {}
    for entry in entries:
        by_boot.setdefault(entry["boot"], []).append(entry["seq"])
    assert len(by_boot) == 3  # the keyring's making, the first principal, the opened vault
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in by_boot.values())


def test_the_credential_is_stored_as_its_hash(stored: Stored, decoder: ModuleType) -> None:
    vault = decoder.VaultFile(stored.database, stored.key_file)
    (row,) = vault.rows["credential"]
    assert row["secret_sha256"] == decoder.credential_sha256(stored.credential)
    assert stored.credential.encode() not in stored.database.read_bytes()


@pytest.mark.parametrize("table", ["record", "record_history", "index_entry", "audit_entry", "stored_key"])
def test_the_second_decoder_sees_a_changed_row(stored: Stored, decoder: ModuleType, table: str) -> None:
    vault = decoder.VaultFile(stored.database, stored.key_file)
    row = vault.rows[table][0]
    for name in set(row) - {"id", "mac", "mac_key_id"}:
        kept = row[name]
        row[name] = b"" if kept is None else None
        with pytest.raises(decoder.FormatError, match="row-mac"):
            vault.check_macs()
        row[name] = kept
    vault.check_macs()
