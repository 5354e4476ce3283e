"""A write computed from keys or a schema that have changed since is refused by the SQL itself, and then done anew."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from keyproviders.interface import SecretBytes
from vault.core import records, sealing
from vault.core.collections import Settings
from vault.core.context import StoredKeyContext
from vault.core.errors import UnavailableError
from vault.core.keyrings import StoredDataKey
from vault.core.ports import RecordKey, RecordWrite, StaleWriteError
from vault.core.record_drafts import NewDocument
from vault.core.rows import KeyState, RecordRow
from vault.core.sealing import open_sealed, seal
from vault.storage.records import SqlRecordStore

if TYPE_CHECKING:
    from conftest import Lab  # tests/unit/core/conftest.py


@pytest.fixture
def refusals(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the store refused, by cause, before the services tried again."""
    causes: list[str] = []
    for name in ("create", "replace", "erase"):
        whole: Callable[..., None] = getattr(SqlRecordStore, name)

        def watched(
            self: SqlRecordStore, *arguments: Any, whole: Callable[..., None] = whole, **named: Any
        ) -> None:
            try:
                whole(self, *arguments, **named)
            except StaleWriteError as stale:
                causes.append(stale.cause)
                raise

        monkeypatch.setattr(SqlRecordStore, name, watched)
    return causes


def count(lab: Lab, table: str) -> int:
    number: int = lab.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608  # names in this file
    return number


@pytest.mark.parametrize("state", [state for state in KeyState if state is not KeyState.ACTIVE])
def test_a_create_under_a_version_that_is_not_active_is_done_under_the_next(
    lab: Lab, refusals: list[str], state: KeyState
) -> None:
    lab.rotate()  # in the database; this process has not heard of it
    lab.put(dataclasses.replace(lab.version(1), state=state.value))
    for row in lab.vault.stores.keys.stored_keys():
        lab.put(rewrapped(lab, row))
    assert lab.vault.keyrings.get("default", "default").active.version == 1
    row = lab.create(email="a@example.com")
    assert refusals == ["keys"]
    assert row.key_version == 2
    assert (count(lab, "record"), count(lab, "index_entry")) == (1, 1)
    assert lab.vault.verify(lambda: None).findings == []


def rewrapped(lab: Lab, row: Any) -> Any:
    """The stored key under version 2, as a rewrap will put it."""
    context = StoredKeyContext(row.purpose, row.tenant, row.keyring, row.key_id, row.version)
    provider = lab.vault.keyrings._providers[lab.provider]
    stored = StoredDataKey("default", "default", 1, row.wrapped_dek, context, "x")
    (dek,) = lab.vault.keyrings.unwrap([stored])
    assert not isinstance(dek, Exception)
    material = open_sealed(row.sealed_key, dek=dek, context=context, where="x")
    (made,) = provider.generate("records", 2, [context.associated_data()])
    assert not isinstance(made, Exception)
    sealed_key = seal(material, dek=made.plaintext, context=context)
    return dataclasses.replace(row, key_version=2, wrapped_dek=made.wrapped.blob, sealed_key=sealed_key)


def test_a_replace_under_a_version_that_is_not_active_is_done_under_the_next(
    lab: Lab, refusals: list[str]
) -> None:
    row = lab.create(email="a@example.com")
    lab.rotate()
    key = RecordKey("default", "users", row.token)
    changed = lab.vault.services.records.replace(
        lab.caller, key, NewDocument({"email": "b@example.com"}), if_match=None
    )
    assert refusals == ["keys"]
    assert (changed.generation, changed.key_version) == (2, 2)
    assert lab.vault.verify(lambda: None).findings == []


def test_the_sql_alone_refuses(lab: Lab) -> None:
    captured: list[RecordWrite] = []
    store = lab.vault.stores.records
    original = store.create
    store.create = captured.append  # type: ignore[method-assign]
    lab.create(email="a@example.com")
    store.create = original  # type: ignore[method-assign]
    (write,) = captured
    active = lab.version(1)
    for state in set(KeyState) - {KeyState.ACTIVE}:
        lab.put(dataclasses.replace(active, state=state.value))
        with pytest.raises(StaleWriteError) as refused:
            store.create(write)
        assert refused.value.cause == "keys"
    lab.put(active)
    index_key = lab.stored_key("index")
    for state in set(KeyState) - {KeyState.ACTIVE}:
        lab.put(dataclasses.replace(index_key, state=state.value))
        with pytest.raises(StaleWriteError) as refused:
            store.create(write)
        assert refused.value.cause == "keys"
    lab.put(index_key)
    users = lab.vault.stores.collections.get("default", "users")
    assert users is not None
    lab.put(dataclasses.replace(users, schema_version=2))
    with pytest.raises(StaleWriteError) as refused:
        store.create(write)
    assert refused.value.cause == "schema"
    lab.put(users)
    assert [count(lab, table) for table in ("record", "index_entry")] == [0, 0]
    entries = count(lab, "audit_entry")
    store.create(write)
    assert [count(lab, table) for table in ("record", "index_entry")] == [1, 1]
    assert count(lab, "audit_entry") == entries + 1


def test_a_tag_under_an_index_key_that_is_not_active_is_made_under_the_next(
    lab: Lab, refusals: list[str]
) -> None:
    old = lab.stored_key("index")
    context = StoredKeyContext("index", "default", "default", 3, 2)
    (data_key,) = lab.vault.keyrings.new_data_keys("default", "default", [context])
    sealed_key = seal(os.urandom(32), dek=data_key.dek, context=context)
    lab.put(dataclasses.replace(old, state=KeyState.DEACTIVATED.value))
    lab.put(
        dataclasses.replace(
            old, id=None, key_id=3, version=2, wrapped_dek=data_key.wrapped, sealed_key=sealed_key
        )
    )
    assert lab.vault.keyrings.get("default", "default").index.key_id == 2
    lab.create(email="a@example.com")
    assert refusals == ["keys"]
    assert lab.execute("SELECT index_key_id FROM index_entry").fetchall() == [(3,)]
    assert lab.vault.verify(lambda: None).findings == []


def test_a_create_by_an_older_definition_is_done_by_the_newer(
    lab: Lab, refusals: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    collections = lab.vault.services.collections
    source = collections.show(lab.caller, "users").source
    whole = records.RecordSealer.seal
    redefined: list[int] = []

    def redefine_first(self: Any, draft: Any, definition: Any) -> Any:
        made = whole(self, draft, definition)
        if not redefined:
            redefined.append(definition.version)
            collections.define(lab.caller, "users", source | {"title": "people"}, Settings())
        return made

    monkeypatch.setattr(records.RecordSealer, "seal", redefine_first)
    row = lab.create(email="a@example.com")
    assert refusals == ["schema"]
    assert (redefined, row.schema_version) == ([1], 2)
    assert lab.vault.verify(lambda: None).findings == []


def test_a_write_that_is_always_overtaken_gives_up_and_leaves_nothing(lab: Lab, refusals: list[str]) -> None:
    # The database says that version 1 may not be written any more, and no load finds another.
    lab.vault.keyrings.load = lambda: None  # type: ignore[method-assign]
    lab.put(dataclasses.replace(lab.version(1), state=KeyState.DEACTIVATED.value))
    with pytest.raises(UnavailableError) as refused:
        lab.create(email="a@example.com")
    assert refused.value.code == "contended"
    assert refusals == ["keys"] * records.MAX_ATTEMPTS
    assert [count(lab, table) for table in ("record", "index_entry")] == [0, 0]


@pytest.fixture
def seals(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """Key and nonce of every seal that is made."""
    made: list[tuple[bytes, bytes]] = []
    whole = sealing.seal

    def watched(plaintext: bytes, *, dek: SecretBytes, context: Any) -> bytes:
        sealed = whole(plaintext, dek=dek, context=context)
        made.append((dek.reveal(), sealed[2:14]))
        return sealed

    monkeypatch.setattr("vault.core.record_seal.seal", watched)
    return made


def test_ten_thousand_creates_never_repeat_a_key(
    lab: Lab, seals: list[tuple[bytes, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab.vault.stores.records.__class__, "create", lambda _self, _write: None)
    rows: list[RecordRow] = [lab.create(n=number) for number in range(10_000)]
    assert len(seals) == 10_000
    assert len({key for key, _ in seals}) == 10_000
    assert len({nonce for _, nonce in seals}) == 10_000
    assert len({row.wrapped_dek for row in rows}) == 10_000
    assert len({row.token for row in rows}) == 10_000
    assert len({row.write_id for row in rows}) == 10_000


def test_each_attempt_and_each_generation_has_a_key_of_its_own(
    lab: Lab, seals: list[tuple[bytes, bytes]], refusals: list[str]
) -> None:
    row = lab.create(email="a@example.com")
    key = RecordKey("default", "users", row.token)
    lab.rotate()
    lab.vault.services.records.replace(lab.caller, key, NewDocument({"n": 1}), if_match=None)
    lab.vault.services.records.patch(lab.caller, key, {"n": 2}, if_match=None)
    assert refusals == ["keys"]
    assert len(seals) == 4  # create, the refused attempt, its repetition, the patch
    assert len({data_key for data_key, _ in seals}) == 4
