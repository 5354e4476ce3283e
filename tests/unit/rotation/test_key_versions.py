"""From the wish for a new key version to its use: who makes it, who proves it, and what stands in the way."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from keyproviders.errors import ProviderDeniedError, ProviderUnavailableError
from keyproviders.interface import KeyAdministration
from tests.faults.small_vault import PEOPLE_SCHEMA
from tests.two_keyrings import CALLER, Keys, configuration_of, opened, process, watch_of, worker
from vault import bootstrap
from vault.core.collections import Settings
from vault.core.errors import KeyringNotFoundError, UnavailableError
from vault.core.job_ports import LeaseLostError, proof_name
from vault.core.ports import RecordKey, RecordWrite, StaleWriteError
from vault.core.record_drafts import NewDocument
from vault.core.releases import View
from vault.core.rows import RecordRow
from vault.rotation.job import lease_end, standing_job
from vault.rotation.key_requests import MakeKeyVersions

KILLED = 137


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "data"
    bootstrap.create_vault(configuration_of(folder))
    with opened(configuration_of(folder)) as keys:
        keys.vault.services.collections.define(CALLER, "people", PEOPLE_SCHEMA, Settings())
        keys.vault.engine.scrub()
    return folder


@pytest.fixture
def keys(template: Path, tmp_path: Path) -> Iterator[Keys]:
    shutil.copytree(template, tmp_path / "data")
    with opened(configuration_of(tmp_path / "data")) as opened_keys:
        yield opened_keys
        assert opened_keys.vault.verify(lambda: None).findings == []


def store(vault: bootstrap.Vault, **data: Any) -> RecordRow:
    return vault.services.records.create(CALLER, "people", NewDocument(data))


def read(vault: bootstrap.Vault, row: RecordRow) -> Any:
    key = RecordKey("default", "people", row.token)
    return vault.services.reading.read(CALLER, key, view=View(plain=True)).data


def test_a_rotation_from_the_wish_to_its_use(keys: Keys) -> None:
    before = store(keys.vault, email="a@example.org")
    epoch = keys.vault.stores.epoch.current()

    asked = keys.ask()
    assert (asked.row.state, asked.row.key_version) == ("waiting", None)
    assert asked.waits_for == "a worker with the administration door: strongroom worker --admin"
    assert keys.states() == ["active"]
    assert keys.in_provider() == [1]

    keys.make()
    assert keys.states() == ["active", "pending"]
    made = keys.job(asked)
    assert (made.row.state, made.row.key_version) == ("running", 2)
    assert keys.vault.stores.epoch.current() == epoch + 1
    assert store(keys.vault, email="b@example.org").key_version == 1, "a pending version wraps nothing"

    keys.activate()
    assert keys.states() == ["deactivated", "active"]
    assert keys.job(asked).row.state == "done"
    assert keys.job(asked).waits_for is None
    assert keys.vault.stores.epoch.current() == epoch + 2
    after = store(keys.vault, email="c@example.org")
    assert after.key_version == 2
    assert read(keys.vault, before) == {"email": "a@example.org"}
    old, new = keys.versions()
    assert (old.deactivated_at, new.adopted_at) == (new.activated_at, None)
    assert keys.entries() == [
        ("keyring.create", "hr"),
        ("keyring.rotate", "default"),
        ("key-version.create", "default/2"),
        ("key-version.activate", "default/2"),
    ]
    assert keys.states("hr") == ["active"]


def test_the_tenth_version(keys: Keys) -> None:
    rows = [store(keys.vault, email="n0@example.org")]
    for number in range(2, 11):
        assert keys.rotate() == number
        rows.append(store(keys.vault, email=f"n{number}@example.org"))
    assert [row.key_version for row in rows] == list(range(1, 11))
    assert [read(keys.vault, row)["email"] for row in rows][::9] == ["n0@example.org", "n10@example.org"]
    assert keys.states() == ["deactivated"] * 9 + ["active"]


def test_keyrings_rotate_apart(keys: Keys) -> None:
    first, second = keys.ask("hr"), keys.ask("default")
    keys.run(keys.maker())
    assert (keys.states("hr"), keys.states()) == (["active", "pending"], ["active", "pending"])
    keys.activate()
    assert [keys.job(each).row.state for each in (first, second)] == ["done", "done"]
    assert (keys.in_provider("hr"), keys.in_provider()) == ([1, 2], [1, 2])


def test_who_asks_again_hears_of_the_same_job(keys: Keys) -> None:
    first = keys.ask()
    assert keys.ask().row.name == first.row.name
    keys.make()
    assert keys.ask().row.name == first.row.name
    keys.activate()
    again = keys.ask()
    assert again.row.name != first.row.name
    assert keys.in_provider() == [1, 2]
    # Who asked is in the log each time.
    assert [action for action, _ in keys.entries()].count("keyring.rotate") == 4


def test_a_keyring_that_does_not_exist_is_refused(keys: Keys) -> None:
    with pytest.raises(KeyringNotFoundError):
        keys.ask("nope")
    assert keys.vault.stores.rotations.open_requests() == []


class TestProofs:
    """Every live process, on whatever host, has a say; the dead have none."""

    def test_a_live_process_that_is_silent_stands_in_the_way(self, keys: Keys) -> None:
        name = proof_name("default", "default", 2)
        asked = keys.ask()
        keys.make()
        process(keys.vault, b"a" * 16, proved=f"default/default/1 {name}")
        process(keys.vault, b"b" * 16, proved="default/default/1")

        keys.activate()

        assert keys.states() == ["active", "pending"]
        assert keys.job(asked).waits_for == (
            "processes that have not proved version 2 yet: server 4711 on elsewhere"
        )
        process(keys.vault, b"b" * 16, proved=name)
        keys.activate()
        assert keys.states() == ["deactivated", "active"]

    @pytest.mark.parametrize("proved", [None, "", "default/default/22 default/hr/2 other/default/2"])
    def test_only_this_very_version_counts(self, keys: Keys, proved: str | None) -> None:
        keys.ask()
        keys.make()
        process(keys.vault, b"a" * 16, proved=proved, epoch_seen=10**6)
        keys.activate()
        assert keys.states() == ["active", "pending"]

    def test_a_process_that_died_does_not(self, keys: Keys) -> None:
        keys.ask()
        keys.make()
        process(keys.vault, b"a" * 16, age_seconds=29)
        keys.activate()
        assert keys.states() == ["active", "pending"]
        process(keys.vault, b"a" * 16, age_seconds=31)
        keys.activate()
        assert keys.states() == ["deactivated", "active"]

    def test_a_process_sees_loads_and_proves(self, keys: Keys) -> None:
        other = keys.reopened()
        watch = watch_of(other)
        assert watch.look() is True
        assert watch.report().proved == ("default/default/1", "default/hr/1")
        assert watch.look() is False
        keys.ask()
        keys.make()
        assert watch.look() is True
        report = watch.report()
        assert report.proved == ("default/default/1", "default/default/2", "default/hr/1")
        assert report.epoch_seen == keys.vault.stores.epoch.current()
        keys.activate()
        assert watch.look() is True
        assert other.keyrings.get("default", "default").active.version == 2
        other.close()

    def test_what_cannot_be_proved_is_said_once_and_tried_again(
        self, keys: Keys, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("vault.rotation.proving.PAUSE_SECONDS", 0.0)
        watch = watch_of(keys.vault)
        keys.ask()
        keys.make()
        provider = keys.vault.keyrings._providers["disk"]
        generate = type(provider).generate

        def refuse(door: Any, key: str, version: int, contexts: Any) -> Any:
            if version == 2:
                raise ProviderDeniedError("10.0.0.7 says no", provider="disk")
            return generate(door, key, version, contexts)

        with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
            patch.setattr(type(provider), "generate", refuse)
            watch.look()
            watch.look()
        assert watch.report().proved == ("default/default/1", "default/hr/1")
        assert caplog.text.count("key-version-not-proved") == 1
        assert "10.0.0.7" not in caplog.text
        watch.look()
        assert "default/default/2" in watch.report().proved


class TestStrangers:
    """Versions that the provider has and nobody here made."""

    def test_one_that_appears_by_itself_is_adopted(
        self, keys: Keys, caplog: pytest.LogCaptureFixture
    ) -> None:
        with keys.door("disk") as administration:
            administration.rotate("records")
            administration.rotate("records")

        keys.make()

        assert keys.states() == ["active", "pending"]
        new = keys.versions()[1]
        assert (new.version, new.provider_version) == (2, 3)
        assert new.adopted_at == new.created_at
        assert keys.entries()[-1] == ("key-version.adopt", "default/2")
        assert "key-version-adopted" in caplog.text
        keys.activate()
        assert store(keys.vault, email="a@example.org").key_version == 2
        assert keys.in_provider() == [1, 2, 3]

    def test_none_stands_for_a_wish_because_its_provider_may_not_have_stored_it(self, keys: Keys) -> None:
        with keys.door("disk") as administration:
            administration.rotate("records")
        asked = keys.ask()
        keys.make()
        assert keys.in_provider() == [1, 2, 3]
        assert keys.job(asked).row.key_version == 2
        new = keys.versions()[1]
        assert (new.provider_version, new.adopted_at) == (3, None)
        keys.activate()
        keys.make()
        assert keys.states() == ["deactivated", "active"]

    def test_a_wish_while_one_is_pending_waits_for_that_one(self, keys: Keys) -> None:
        with keys.door("disk") as administration:
            administration.rotate("records")
        keys.make()
        asked = keys.ask()
        assert (asked.row.state, asked.row.key_version) == ("running", 2)
        keys.activate()
        assert keys.job(asked).row.state == "done"
        assert keys.in_provider() == [1, 2]

    def test_a_second_one_waits_for_the_first(self, keys: Keys) -> None:
        with keys.door("disk") as administration:
            administration.rotate("records")
            keys.make()
            administration.rotate("records")
        keys.make()
        assert keys.states() == ["active", "pending"]
        keys.activate()
        keys.make()
        assert keys.states() == ["deactivated", "active", "pending"]


class TestKills:
    """The provider comes first, the row second: whoever dies in between leaves a version that nothing refers to."""

    def test_killed_between_provider_and_row(self, keys: Keys) -> None:
        asked = keys.ask()

        def die() -> None:
            @contextmanager
            def door(provider: str) -> Iterator[KeyAdministration]:
                with keys.door(provider) as administration:
                    yield administration
                    os._exit(KILLED)

            vault = keys.reopened()
            worker(vault, keys.maker(door, vault)).run_once(threading.Event())

        assert in_child(die) == KILLED
        assert keys.in_provider() == [1, 2]
        assert keys.states() == ["active"]
        assert keys.job(asked).row.state == "waiting"
        # Its lease ends by itself.
        keys.vault.engine.database.execute_sql("UPDATE job_lease SET expires_at = 0")

        keys.make()

        assert keys.in_provider() == [1, 2, 3]
        assert keys.states() == ["active", "pending"]
        assert keys.versions()[1].adopted_at is None
        assert keys.job(asked).row.key_version == 2
        keys.activate()
        assert keys.job(asked).row.state == "done"

    def test_stopped_with_a_key_of_the_old_version_in_hand(self, keys: Keys) -> None:
        """The database refuses the row; the writer wraps again under the new version, and nothing is lost."""

        def write() -> None:
            vault = keys.reopened()
            real, refusals = vault.stores.records.create, []

            def create(write: RecordWrite) -> None:
                if not refusals:
                    os.kill(os.getpid(), signal.SIGSTOP)
                try:
                    real(write)
                except StaleWriteError:
                    refusals.append(write.record.key_version)
                    raise

            vault.stores.records.create = create  # type: ignore[method-assign]
            assert store(vault, email="slept@example.org").key_version == 2
            assert refusals == [1]
            vault.close()

        child = os.fork()
        if not child:
            code = 1
            try:
                write()
                code = 0
            except BaseException:  # noqa: BLE001 - a child has nobody to raise it to
                traceback.print_exc()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert keys.rotate() == 2
        os.kill(child, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        rows = keys.vault.engine.database.execute_sql("SELECT key_version FROM record").fetchall()
        assert rows == [(2,)]

    def test_two_workers_store_one_version(self, keys: Keys) -> None:
        """The second has the turn before the first has stored what it made."""
        keys.ask()
        other = keys.reopened()
        taken = []

        @contextmanager
        def door(provider: str) -> Iterator[KeyAdministration]:
            with keys.door(provider) as administration:
                yield administration
            keys.vault.engine.database.execute_sql("UPDATE job_lease SET expires_at = 0")
            taken.append(worker(other, keys.maker(vault=other)).run_once(threading.Event()))

        (mine,) = keys.run(keys.maker(door))

        assert (mine.is_elsewhere, mine.done) == (True, 0)
        assert [(each.is_elsewhere, each.done) for each in taken[0]] == [(False, 1)]
        assert keys.in_provider() == [1, 2, 3]
        assert keys.states() == ["active", "pending"]
        assert keys.versions()[1].provider_version == 3
        other.close()

    def test_a_turn_that_is_over_activates_nothing(self, keys: Keys) -> None:
        keys.ask()
        keys.make()
        job = keys.activator()
        taken = keys.vault.stores.jobs.take(
            standing_job(job, 0), owner=b"a" * 16, now=10**15, until=lease_end(10**15)
        )
        assert taken is not None
        keys.vault.engine.database.execute_sql("UPDATE job_lease SET epoch = epoch + 1")
        before = keys.entries()
        with pytest.raises(LeaseLostError):
            job.step(taken)
        assert (keys.states(), keys.entries()) == (["active", "pending"], before)

    def test_a_row_that_was_changed_in_between_is_not_activated(
        self, keys: Keys, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys.ask()
        keys.make()
        activate = type(keys.vault.stores.rotations).activate

        def tampered(store: Any, *arguments: Any, **options: Any) -> Any:
            keys.vault.engine.database.execute_sql(
                "UPDATE key_version SET mac = zeroblob(32) WHERE version = 2"
            )
            return activate(store, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(type(keys.vault.stores.rotations), "activate", tampered)
            mac = keys.versions()[1].mac
            (outcome,) = keys.run(keys.activator())
        assert outcome.is_elsewhere
        assert keys.states() == ["active", "pending"]
        keys.vault.engine.database.execute_sql("UPDATE key_version SET mac = ? WHERE version = 2", (mac,))


class TestTrouble:
    """What the provider says no to."""

    def failing(self, keys: Keys, error: Exception) -> MakeKeyVersions:
        @contextmanager
        def door(_provider: str) -> Iterator[KeyAdministration]:
            raise error
            yield

        return keys.maker(door)

    def test_a_refusal_ends_the_request(self, keys: Keys) -> None:
        asked = keys.ask()
        keys.run(self.failing(keys, ProviderDeniedError("10.0.0.7 says no", provider="disk")))
        failed = keys.job(asked)
        assert (failed.row.state, failed.row.error) == ("failed", "denied: key provider disk")
        assert failed.waits_for is None
        assert keys.states() == ["active"]
        assert keys.rotate() == 2

    def test_an_outage_does_not(self, keys: Keys) -> None:
        asked = keys.ask()
        with pytest.raises(UnavailableError):
            keys.run(self.failing(keys, ProviderUnavailableError("down", provider="disk")))
        assert keys.job(asked).row.state == "waiting"
        keys.make()
        assert keys.in_provider() == [1, 2]

    def test_a_worker_without_the_door_takes_no_request(self, keys: Keys) -> None:
        asked = keys.ask()
        keys.activate()
        assert keys.job(asked).row.state == "waiting"


def test_a_write_with_a_wrap_under_the_old_version_in_hand_is_refused_and_done_again(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that slept through the whole rotation wakes up right before its statement."""
    sleeper = keys.reopened()
    create = type(sleeper.stores.records).create
    wrapped_under = []

    def slept(records: Any, write: Any) -> None:
        wrapped_under.append(write.record.key_version)
        if len(wrapped_under) == 1:
            assert keys.rotate() == 2
        create(records, write)

    with monkeypatch.context() as patch:
        patch.setattr(type(sleeper.stores.records), "create", slept)
        row = store(sleeper, email="a@example.org")

    assert wrapped_under == [1, 2]
    assert row.key_version == 2
    assert read(keys.vault, row) == {"email": "a@example.org"}
    (count,) = keys.vault.engine.database.execute_sql("SELECT count(*) FROM record").fetchone()
    assert count == 1
    sleeper.close()


def in_child(work: Any) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
