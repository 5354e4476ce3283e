"""Keyrings side by side: each collection on its own keys and provider, in everything that is done with records."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from keyproviders.errors import ProviderUnavailableError
from tests.faults.small_vault import PEOPLE_SCHEMA
from tests.two_keyrings import CALLER, Keys, configuration_of, opened, process
from vault import bootstrap
from vault.api.app import create_app
from vault.bootstrap import Vault, working
from vault.bootstrap.administering import backup_keys
from vault.bootstrap.key_doors import administration_door
from vault.config import load_configuration
from vault.core.audit_ports import AuditCriteria
from vault.core.audit_search import Person
from vault.core.clock import MICROSECONDS, system_clock
from vault.core.collections import Settings
from vault.core.errors import (
    ConflictError,
    IntegrityError,
    MisconfiguredError,
    UnavailableError,
    UnprocessableError,
)
from vault.core.job_ports import ProcessRow
from vault.core.key_check import Level, check_keys
from vault.core.ports import Page, RecordKey
from vault.core.reading import Lookup
from vault.core.record_drafts import NewDocument
from vault.core.releases import View
from vault.core.rows import RecordRow
from vault.telemetry.metrics import Metrics

PLAIN = View(plain=True)
RINGS = {"people": "default", "staff": "hr"}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "data"
    bootstrap.create_vault(configuration_of(folder))
    with opened(configuration_of(folder)) as keys:
        for name, ring in RINGS.items():
            keys.vault.services.collections.define(
                CALLER, name, PEOPLE_SCHEMA, Settings(history=2), keyring=ring
            )
        keys.vault.engine.scrub()
    return folder


@pytest.fixture
def keys(template: Path, tmp_path: Path) -> Iterator[Keys]:
    shutil.copytree(template, tmp_path / "data")
    with opened(configuration_of(tmp_path / "data")) as opened_keys:
        yield opened_keys


def store(vault: Vault, collection: str, **data: Any) -> RecordRow:
    return vault.services.records.create(CALLER, collection, NewDocument(data))


def key_of(row: RecordRow) -> RecordKey:
    return RecordKey("default", row.collection, row.token)


def read(vault: Vault, row: RecordRow, **options: Any) -> Any:
    return vault.services.reading.read(CALLER, key_of(row), view=PLAIN, **options).data


def find(vault: Vault, collection: str, email: str) -> list[Any]:
    lookup = Lookup("email", email, None, PLAIN, Page(10))
    return [shown.data for shown in vault.services.reading.lookup(CALLER, collection, lookup)]


def test_everything_that_is_done_with_records(keys: Keys) -> None:
    vault, services = keys.vault, keys.vault.services
    made = {name: store(vault, name, email="ada@example.org", note="first") for name in RINGS}
    for name, row in made.items():
        assert (row.keyring, row.key_version) == (RINGS[name], 1)
        services.records.replace(
            CALLER, key_of(row), NewDocument({"email": "ada@example.org", "note": "then"}), if_match=None
        )
        assert read(vault, row)["note"] == "then"
        assert read(vault, row, generation=1)["note"] == "first"
        assert find(vault, name, "ada@example.org") == [{"email": "ada@example.org", "note": "then"}]
        person = Person(name, "email", "ada@example.org")
        found = services.audit.search(CALLER, AuditCriteria("default"), person=person, page=Page(50))
        assert {entry.event.token for entry in found} == {row.token}
    # The same value makes other tags, and no tag of one collection is in the other.
    tags = dict(
        vault.engine.database.execute_sql(
            "SELECT index_key_id, count(*) FROM index_entry WHERE field = 'email' GROUP BY index_key_id"
        ).fetchall()
    )
    assert len(tags) == 2
    census = {
        ring.ring.row.name: [(each.records, each.history, each.stored_keys) for each in ring.versions]
        for ring in services.census.take(CALLER)
    }
    assert census == {"default": [(1, 1, 2)], "hr": [(1, 1, 2)]}

    assert keys.rotate("hr") == 2
    later = {name: store(vault, name, email="bob@example.org") for name in RINGS}
    assert {name: row.key_version for name, row in later.items()} == {"people": 1, "staff": 2}
    assert vault.verify(lambda: None).findings == []

    for row in made.values():
        services.erasures.erase(CALLER, key_of(row), if_match=None)
        assert services.erasures.state(CALLER, key_of(row)).opened_by == [(row.keyring, 1)]
    for name in RINGS:
        assert find(vault, name, "ada@example.org") == []
    assert vault.verify(lambda: None).findings == []


def test_expired_records_of_both_are_erased(keys: Keys) -> None:
    hour_ago = system_clock() - 3600 * MICROSECONDS
    with mock.patch("vault.bootstrap.opening.system_clock", return_value=hour_ago):
        past = bootstrap.open_vault(keys.configuration)
    until = system_clock() - 60 * MICROSECONDS
    rows = [
        past.services.records.create(CALLER, name, NewDocument({"email": "a@example.org"}, expires_at=until))
        for name in RINGS
    ]
    past.close()
    working._worker(keys.vault, keys.configuration, Metrics("test")).run_once(threading.Event())
    for row in rows:
        stored = keys.vault.stores.records.find(key_of(row))
        assert stored is not None
        assert stored.erased_at is not None
    assert keys.vault.verify(lambda: None).findings == []


def test_one_provider_away_leaves_the_other_at_work(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = keys.vault
    rows = {name: store(vault, name, email="ada@example.org") for name in RINGS}
    epoch = vault.stores.epoch.current()

    def away(*_arguments: object) -> Any:
        raise ProviderUnavailableError("down", provider="second")

    behind = vault.keyrings._providers["second"]._provider  # type: ignore[attr-defined]
    for call in ("generate", "unwrap", "key_info"):
        monkeypatch.setattr(behind, call, away)
    assert read(vault, rows["people"]) == {"email": "ada@example.org"}
    assert store(vault, "people", email="bob@example.org").keyring == "default"
    for call in (lambda: read(vault, rows["staff"]), lambda: store(vault, "staff", email="b@example.org")):
        with pytest.raises(UnavailableError) as refused:
            call()
        assert refused.value.code == "keys-unavailable"
    # News of keys come through, and so does a rotation of the other keyring.
    assert vault.keyrings.load() == {}
    assert keys.rotate("default") == 2
    assert vault.stores.epoch.current() == epoch + 2
    findings = check_keys(vault.keyrings, [], system_clock())
    assert {finding.subject for finding in findings if finding.level is Level.PROBLEM} == {
        "provider second",
        "keyring hr",
    }


class TestCollections:
    def test_a_new_one_takes_default_unless_told(self, keys: Keys) -> None:
        define = keys.vault.services.collections.define
        assert define(CALLER, "pets", PEOPLE_SCHEMA, Settings())[0].row.keyring == "default"
        assert define(CALLER, "cars", PEOPLE_SCHEMA, Settings(), keyring="hr")[0].row.keyring == "hr"

    def test_left_out_it_stays(self, keys: Keys) -> None:
        defined, is_new = keys.vault.services.collections.define(
            CALLER, "staff", PEOPLE_SCHEMA, Settings(history=3)
        )
        assert (defined.row.keyring, is_new) == ("hr", False)

    def test_an_empty_one_can_change(self, keys: Keys) -> None:
        vault = keys.vault
        erased = store(vault, "staff", email="a@example.org")
        vault.services.erasures.erase(CALLER, key_of(erased), if_match=None)
        defined, _ = vault.services.collections.define(
            CALLER, "staff", PEOPLE_SCHEMA, Settings(history=2), keyring="default"
        )
        assert (defined.row.keyring, defined.version) == ("default", 2)
        assert store(vault, "staff", email="a@example.org").keyring == "default"
        assert vault.verify(lambda: None).findings == []

    def test_one_with_records_cannot(self, keys: Keys) -> None:
        vault = keys.vault
        row = store(vault, "staff", email="a@example.org")
        with pytest.raises(ConflictError) as refused:
            vault.services.collections.define(
                CALLER, "staff", PEOPLE_SCHEMA, Settings(history=2), keyring="default"
            )
        assert refused.value.code == "keyring-in-use"
        assert vault.services.collections.current("default", "staff").row.keyring == "hr"
        assert read(vault, row) == {"email": "a@example.org"}

    def test_a_write_that_was_sealed_for_the_old_keyring_is_done_again(
        self, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        vault = keys.vault
        create = type(vault.stores.records).create
        sealed_by = []

        def overtaken(records: Any, write: Any) -> None:
            sealed_by.append(write.record.keyring)
            if len(sealed_by) == 1:
                vault.services.collections.define(
                    CALLER, "staff", PEOPLE_SCHEMA, Settings(history=2), keyring="default"
                )
            create(records, write)

        monkeypatch.setattr(type(vault.stores.records), "create", overtaken)
        row = store(vault, "staff", email="a@example.org")
        assert (sealed_by, row.keyring) == (["hr", "default"], "default")
        assert vault.verify(lambda: None).findings == []

    def test_an_unknown_keyring_is_named(self, keys: Keys) -> None:
        with pytest.raises(UnprocessableError) as refused:
            keys.vault.services.collections.define(CALLER, "pets", PEOPLE_SCHEMA, Settings(), keyring="nope")
        assert refused.value.code == "unknown-keyring"
        assert [each.pointer for each in refused.value.violations] == ["/keyring"]

    def test_the_tenants_keyring_comes_before_default(self, keys: Keys) -> None:
        with mock.patch.object(type(keys.vault.keyrings), "has", lambda _, tenant, name: name == tenant):
            wanted = keys.vault.services.collections._keyring_for("acme", None, None)
        assert wanted == "acme"


class TestMaking:
    """``strongroom keys init``, and what a start says of keyrings."""

    def only_default(self, folder: Path) -> Any:
        return configuration_of(folder, default={"provider": "disk", "key": "records"})

    def test_a_keyring_that_was_not_made_stops_the_start(self, tmp_path: Path) -> None:
        bootstrap.create_vault(self.only_default(tmp_path / "data"))
        wanted = configuration_of(tmp_path / "data")
        with pytest.raises(MisconfiguredError) as refused:
            bootstrap.open_vault(wanted)
        assert str(refused.value) == (
            f"[keyrings.hr] was not made yet; make it with: strongroom keys init hr --data {tmp_path / 'data'}"
        )
        with administration_door(wanted, "second") as administration:
            administration.create("other")
        running = bootstrap.open_vault(self.only_default(tmp_path / "data"))
        assert bootstrap.init_keyring(wanted, "hr") is True
        assert bootstrap.init_keyring(wanted, "hr") is False
        with opened(wanted) as keys:
            assert keys.states("hr") == ["active"]
            assert keys.entries() == [("keyring.create", "hr")]
            assert keys.vault.verify(lambda: None).findings == []
            keys.vault.services.collections.define(CALLER, "staff", PEOPLE_SCHEMA, Settings(), keyring="hr")
        # A process that runs since before, and has the provider, knows of it at the next look.
        assert running.keyrings.load() == {}
        assert running.keyrings.has("default", "hr")
        running.close()

    def test_a_process_without_its_provider_goes_on_with_the_others(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        bootstrap.create_vault(self.only_default(folder))
        narrow = load_configuration(
            None,
            folder,
            {
                "providers": {"disk": {"type": "file", "path": "keys.json"}},
                "keyrings": {"default": {"provider": "disk", "key": "records"}},
            },
        )
        running = bootstrap.open_vault(narrow)
        bootstrap.init_keyring(configuration_of(folder), "hr")
        assert list(running.keyrings.load()) == ["hr"]
        assert store(running, "users", email="a@example.org").keyring == "default"
        running.services.census.take(CALLER)
        running.close()
        with pytest.raises(MisconfiguredError, match=r"add a table \[providers\.second\]"):
            bootstrap.open_vault(narrow)

    def test_a_keyring_over_a_key_that_is_there_takes_its_newest_version(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        bootstrap.create_vault(self.only_default(folder))
        wanted = configuration_of(folder)
        with administration_door(wanted, "second") as administration:
            administration.create("people")
            administration.rotate("people")
        bootstrap.init_keyring(wanted, "hr")
        with opened(wanted) as keys:
            assert [row.provider_version for row in keys.versions("hr")] == [2]
            keys.make()
            assert keys.states("hr") == ["active"], "what was there before is no stranger"

    def test_one_that_is_not_configured_is_refused(self, keys: Keys) -> None:
        with pytest.raises(MisconfiguredError, match=r"no table \[keyrings\.nope\]"):
            bootstrap.init_keyring(keys.configuration, "nope")

    def test_a_keyring_cannot_move(self, keys: Keys) -> None:
        moved = configuration_of(
            keys.configuration.folder,
            default={"provider": "second", "key": "records"},
            hr={"provider": "disk", "key": "people"},
        )
        with pytest.raises(MisconfiguredError, match="This release cannot move a keyring"):
            bootstrap.open_vault(moved)

    def test_two_keyrings_of_one_key_are_refused(self, tmp_path: Path) -> None:
        same = {"provider": "disk", "key": "records"}
        with pytest.raises(MisconfiguredError, match="each needs a key of its own"):
            configuration_of(tmp_path, default=same, hr=same)

    def test_a_vault_needs_its_default(self, tmp_path: Path) -> None:
        with pytest.raises(MisconfiguredError, match=r"no table \[keyrings\.default\]"):
            configuration_of(tmp_path, hr={"provider": "disk", "key": "records"})


def test_a_new_keyrings_rows_that_were_tampered_with_are_an_alarm(keys: Keys) -> None:
    keys.vault.engine.database.execute_sql("UPDATE keyring SET provider_key = 'x' WHERE name = 'hr'")
    with pytest.raises(IntegrityError, match="row-mac"):
        keys.vault.keyrings.load()


class TestExposure:
    def rows(self, keys: Keys) -> list[ProcessRow]:
        return list(keys.vault.services.census.exposure().processes)

    def test_it_sums_up_those_that_live(self, keys: Keys) -> None:
        now = system_clock()
        process(keys.vault, b"a" * 16, cached_data_keys=7, cached_until=now + 5)
        process(keys.vault, b"b" * 16, cached_data_keys=5, cached_until=now + 9, age_seconds=20)
        process(keys.vault, b"c" * 16, cached_data_keys=99, cached_until=now + 99, age_seconds=40)
        process(keys.vault, b"d" * 16)
        exposure = keys.vault.services.census.exposure()
        assert (exposure.data_keys, exposure.until) == (12, now + 9)
        assert [row.cached_data_keys for row in exposure.processes] == [7, 5, None]

    def test_the_answer(self, keys: Keys) -> None:
        process(keys.vault, b"a" * 16, cached_data_keys=7, cached_until=system_clock() + 5)
        credential = keys.vault.administrators.replace()
        client = create_app(keys.vault.services).test_client()
        answer = client.get("/v1/keyrings", headers={"Authorization": f"Bearer {credential.text}"}).json
        assert answer is not None
        assert [item["name"] for item in answer["items"]] == ["default", "hr"]
        assert answer["exposure"]["data_keys"] == 7
        (shown,) = answer["exposure"]["processes"]
        assert (shown["host"], shown["pid"], shown["role"], shown["data_keys"]) == (
            "elsewhere",
            4711,
            "server",
            7,
        )


def test_a_copy_of_the_keys_opens_the_vault(keys: Keys, tmp_path: Path) -> None:
    row = store(keys.vault, "staff", email="a@example.org")
    with pytest.raises(MisconfiguredError, match="--provider: disk, second"):
        backup_keys(keys.configuration, tmp_path / "copy.json", None)
    assert backup_keys(keys.configuration, tmp_path / "copy.json", "second") == "second"
    assert (tmp_path / "copy.json").stat().st_mode & 0o777 == 0o600
    (keys.configuration.folder / "second.json").unlink()
    shutil.copy(tmp_path / "copy.json", keys.configuration.folder / "second.json")
    again = keys.reopened()
    assert read(again, row) == {"email": "a@example.org"}
    again.close()
    with pytest.raises(MisconfiguredError, match="no key provider 'nope'"):
        backup_keys(keys.configuration, tmp_path / "other.json", "nope")
