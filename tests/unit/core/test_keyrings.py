from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keyproviders.errors import ProviderUnavailableError
from keyproviders.interface import HealthStatus, ProviderSettings
from keyproviders.local_file import LocalFileProviderType
from vault import bootstrap
from vault.config import load_configuration
from vault.core.context import RecordContext
from vault.core.errors import IntegrityError, MisconfiguredError, UnavailableError, VaultError
from vault.core.keyrings import Keyrings, StoredDataKey
from vault.core.ports import Page, RecordKey
from vault.core.reading import Lookup
from vault.core.releases import View
from vault.core.rows import KeyState

if TYPE_CHECKING:
    from conftest import Lab  # tests/unit/core/conftest.py

CONTEXT = RecordContext("default", "users", bytes(16), 1, 1, 1)


def read(lab: Lab, token: bytes) -> Any:
    key = RecordKey("default", "users", token)
    return lab.vault.services.reading.read(lab.caller, key, view=View(plain=True)).data


def put_state(lab: Lab, number: int, state: KeyState) -> None:
    lab.put(dataclasses.replace(lab.version(number), state=state.value))
    lab.vault.keyrings.load()


def test_ten_versions_wrap_and_every_one_unwraps(lab: Lab) -> None:
    rows = []
    for number in range(1, 11):
        rows.append(lab.create(email=f"user{number}@example.com"))
        assert rows[-1].key_version == number
        if number < 10:
            assert lab.rotate() == number + 1
            lab.vault.keyrings.load()
    assert lab.vault.keyrings.get("default", "default").active.version == 10
    for number, row in enumerate(rows, 1):
        assert read(lab, row.token) == {"email": f"user{number}@example.com"}


def test_a_deactivated_version_unwraps_and_does_not_wrap(lab: Lab) -> None:
    old = lab.create(email="a@example.com")
    lab.rotate()
    lab.vault.keyrings.load()
    assert lab.version(1).state == KeyState.DEACTIVATED
    assert read(lab, old.token) == {"email": "a@example.com"}
    assert lab.create(email="b@example.com").key_version == 2


def test_a_pending_version_unwraps_and_does_not_wrap(lab: Lab) -> None:
    lab.rotate()
    lab.vault.keyrings.load()
    row = lab.create(email="a@example.com")
    assert row.key_version == 2
    lab.put(dataclasses.replace(lab.version(1), state=KeyState.ACTIVE.value))
    put_state(lab, 2, KeyState.PENDING)
    assert read(lab, row.token) == {"email": "a@example.com"}
    assert lab.create(email="b@example.com").key_version == 1


@pytest.mark.parametrize("state", [KeyState.RETIRED, KeyState.DESTROYED])
def test_a_version_that_ended_refuses_by_name(lab: Lab, state: KeyState) -> None:
    lab.rotate()
    lab.vault.keyrings.load()
    row = lab.create(email="a@example.com")
    lab.put(dataclasses.replace(lab.version(1), state=KeyState.ACTIVE.value))
    put_state(lab, 2, state)
    with pytest.raises(IntegrityError) as refused:
        read(lab, row.token)
    assert refused.value.finding == "key-version"
    assert refused.value.where == row.where()


def test_a_version_that_its_provider_retired_refuses_by_name(lab: Lab) -> None:
    row = lab.create(email="a@example.com")
    lab.administration.rotate("records")
    lab.administration.retire("records", 1)
    with pytest.raises(IntegrityError) as refused:
        read(lab, row.token)
    assert refused.value.finding == "key-version"


@pytest.mark.parametrize("state", list(KeyState))
def test_a_mac_key_under_an_ended_version_stops_the_start(lab: Lab, state: KeyState) -> None:
    lab.rotate()  # both stored keys stay under version 1
    lab.put(dataclasses.replace(lab.version(1), state=state.value))
    if state in {KeyState.RETIRED, KeyState.DESTROYED}:
        with pytest.raises(IntegrityError, match=r"^key-version: stored_key 1 \(mac\)$"):
            lab.vault.keyrings.load()
    elif state is KeyState.ACTIVE:
        with pytest.raises(IntegrityError, match=r"^key-version: keyring default: 2 active versions$"):
            lab.vault.keyrings.load()
    else:
        lab.vault.keyrings.load()


def test_no_active_version_refuses(lab: Lab) -> None:
    lab.put(dataclasses.replace(lab.version(1), state=KeyState.DEACTIVATED.value))
    with pytest.raises(IntegrityError, match=r"^key-version: keyring default: 0 active versions$"):
        lab.vault.keyrings.load()


@pytest.mark.parametrize("purpose", ["mac", "index"])
def test_no_active_stored_key_refuses(lab: Lab, purpose: str) -> None:
    lab.put(dataclasses.replace(lab.stored_key(purpose), state=KeyState.DEACTIVATED.value))
    with pytest.raises(IntegrityError, match=rf"^stored-key: keyring default has no active {purpose} key$"):
        lab.vault.keyrings.load()


def count_loads(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    loads: list[None] = []
    load = Keyrings.load

    def counted(self: Keyrings) -> None:
        loads.append(None)
        load(self)

    monkeypatch.setattr(Keyrings, "load", counted)
    return loads


def test_an_unknown_version_loads_once_more(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    other = lab.reopened()
    lab.rotate()
    lab.vault.keyrings.load()
    row = lab.create(email="a@example.com")
    loads = count_loads(monkeypatch)
    key = RecordKey("default", "users", row.token)
    for _ in range(3):
        shown = other.services.reading.read(lab.caller, key, view=View(plain=True))
        assert shown.data == {"email": "a@example.com"}
    assert len(loads) == 1
    other.close()


def unwrap_one(lab: Lab, *, key_version: int, where: str) -> None:
    stored = StoredDataKey("default", "default", key_version, bytes(40), CONTEXT, where)
    (result,) = lab.vault.keyrings.unwrap([stored])
    if isinstance(result, VaultError):
        raise result


def test_a_version_that_stays_unknown_refuses_after_one_load(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = count_loads(monkeypatch)
    with pytest.raises(IntegrityError, match=r"^key-version: record x$"):
        unwrap_one(lab, key_version=9, where="record x")
    assert len(loads) == 1


def test_a_wrapped_key_that_does_not_open_is_named(lab: Lab) -> None:
    with pytest.raises(IntegrityError, match=r"^wrapped-dek: record x$"):
        unwrap_one(lab, key_version=1, where="record x")


@pytest.mark.parametrize("place", [("default", "other"), ("other", "default")])
def test_an_unknown_keyring_is_named(lab: Lab, place: tuple[str, str]) -> None:
    with pytest.raises(IntegrityError, match=rf"^unknown-keyring: keyring {place[1]}$"):
        lab.vault.keyrings.get(*place)


def test_a_provider_out_of_reach_is_503(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> Any:
        raise ProviderUnavailableError("down", provider=lab.provider, retry_after_seconds=7.4)

    provider = lab.vault.keyrings._providers[lab.provider]._provider  # type: ignore[attr-defined]
    monkeypatch.setattr(provider, "generate", fail)
    monkeypatch.setattr(provider, "unwrap", fail)
    before = lab.execute("SELECT COUNT(*) FROM record").fetchone()
    calls: list[Callable[[], object]] = [
        lambda: lab.create(email="a@example.com"),
        lambda: unwrap_one(lab, key_version=1, where="x"),
        Keyrings(lab.vault.stores.keys, lab.vault.keyrings._providers).load,
    ]
    for call in calls:
        with pytest.raises(UnavailableError) as refused:
            call()
        assert (refused.value.code, refused.value.retry_after_seconds) == ("keys-unavailable", 7)
    assert lab.execute("SELECT COUNT(*) FROM record").fetchone() == before
    # What was opened once is not asked for again.
    assert lab.vault.keyrings.load() == {}
    assert lab.vault.keyrings.health()[lab.provider].status is HealthStatus.DOWN


def test_health_is_proven_by_a_canary(lab: Lab) -> None:
    assert lab.vault.keyrings.health()[lab.provider].status is HealthStatus.OK
    lab.administration.rotate("records")
    lab.administration.retire("records", 1)
    assert lab.vault.keyrings.health()[lab.provider].status is HealthStatus.KEY_MISSING


def test_a_missing_provider_table_is_a_sentence(lab: Lab) -> None:
    keyrings = Keyrings(lab.vault.stores.keys, {})
    with pytest.raises(MisconfiguredError) as refused:
        keyrings.load()
    assert str(refused.value) == (
        f"key_version default version 1 is held by key provider '{lab.provider}', which the configuration does not "
        f"have; add a table [providers.{lab.provider}]."
    )


def test_a_database_without_keyring_is_a_sentence(lab: Lab) -> None:
    for table in ("keyring", "key_version", "stored_key"):
        lab.execute(f"DELETE FROM {table}")  # noqa: S608  # names from the line above
    with pytest.raises(MisconfiguredError, match=r"^The database holds no keyring; create the vault with: "):
        lab.vault.keyrings.load()


def test_a_foreign_key_file_is_a_sentence(tmp_path: Path) -> None:
    folders = tmp_path / "one", tmp_path / "other"
    for folder in folders:
        bootstrap.create_vault(load_configuration(None, folder))
    shutil.copy2(folders[1] / "keys.json", folders[0] / "keys.json")
    with pytest.raises(MisconfiguredError) as refused:
        bootstrap.open_vault(load_configuration(None, folders[0]))
    assert str(refused.value) == (
        "Key provider 'disk' does not open this vault's keys: it holds other keys than those this vault was made with "
        "(a foreign or older key file?), or the stored keys were tampered with. First found at stored_key 1 (mac)."
    )


def test_a_key_file_without_the_key_is_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    configuration = load_configuration(None, folder)
    bootstrap.create_vault(configuration)
    (folder / "keys.json").unlink()
    settings = ProviderSettings("disk", {"path": "keys.json"}, folder)
    administration = LocalFileProviderType().open_administration(settings)
    administration.create("another")
    administration.close()
    assert "another" in json.loads((folder / "keys.json").read_text())["keys"]
    with pytest.raises(MisconfiguredError, match=r"^Key provider 'disk' does not open this vault's keys: "):
        bootstrap.open_vault(configuration)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("UPDATE stored_key SET purpose = CAST(x'ed6163' AS TEXT) WHERE key_id = 1", "row-shape"),
        ("UPDATE stored_key SET key_id = -1 WHERE key_id = 1", "row-shape"),
        ("UPDATE stored_key SET wrapped_dek = 5 WHERE key_id = 1", "row-shape"),
        ("UPDATE stored_key SET sealed_key = 'x' WHERE key_id = 2", "row-shape"),
        ("UPDATE stored_key SET purpose = 'signing' WHERE key_id = 1", "seal"),
        ("UPDATE stored_key SET purpose = 'mac', version = 2 WHERE key_id = 2", "seal"),
        ("UPDATE stored_key SET version = 2 WHERE key_id = 1", "seal"),
        ("UPDATE stored_key SET created_at = 1 WHERE key_id = 2", "row-mac"),
        ("UPDATE stored_key SET mac = x'00' WHERE key_id = 1", "row-mac"),
        ("UPDATE key_version SET provider_version = 'x'", "row-shape"),
        ("UPDATE key_version SET compromised = 1", "row-mac"),
        ("UPDATE key_version SET version = 2", "key-version"),
        ("UPDATE keyring SET provider_key = 'x'", "row-mac"),
        ("UPDATE keyring SET tenant = CAST(x'ed61' AS TEXT)", "row-shape"),
    ],
)
def test_a_tampered_row_of_the_keys_is_named(lab: Lab, change: str, finding: str) -> None:
    lab.execute(change)
    with pytest.raises(IntegrityError) as refused:
        lab.vault.keyrings.load()
    assert refused.value.finding == finding


def test_a_failed_load_keeps_the_keyrings_that_were_good(lab: Lab) -> None:
    lab.execute("UPDATE keyring SET provider_key = 'x'")
    with pytest.raises(IntegrityError):
        lab.vault.keyrings.load()
    assert lab.create(email="a@example.com").key_version == 1


@pytest.mark.parametrize(
    ("change", "finding", "where"),
    [
        ("UPDATE record SET token = x'00'", "row-mac", "record 00 generation 1"),
        ("UPDATE record SET token = 'abc'", "row-mac", "record 'abc' generation 1"),
        ("UPDATE index_entry SET token = x'01'", "row-mac", "index_entry 01 email"),
        ("UPDATE audit_entry SET entry_id = 'abc' WHERE id = 1", "row-mac", "audit_entry 'abc'"),
        ("UPDATE credential SET credential_id = 'abc'", "row-mac", "credential 'abc'"),
        ("UPDATE collection SET name = CAST(x'ed61' AS TEXT)", "row-mac", "collection \\udceda"),
        ("UPDATE principal SET tenant = 'other'", "unknown-keyring", "principal admin"),
    ],
)
def test_verify_names_a_row_whatever_its_columns_hold(
    lab: Lab, change: str, finding: str, where: str
) -> None:
    lab.create(email="a@example.com")
    assert lab.vault.verify(lambda: None).findings == []
    lab.execute(change)
    found = {(item.code, item.where) for item in lab.vault.verify(lambda: None).findings}
    assert (finding, where) in found


def test_lookups_of_two_processes_agree(lab: Lab) -> None:
    lab.create(email="a@example.com")
    other = lab.reopened()
    lookup = Lookup("email", "A@example.com", None, View(plain=True), Page(10))
    (shown,) = other.services.reading.lookup(lab.caller, "users", lookup)
    assert shown.data == {"email": "a@example.com"}
    other.close()
