"""A value whose record's time is over is free again: nobody can read that record any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from vault.core.audit_search import AuditCriteria
from vault.core.errors import DuplicateValueError, RecordErasedError
from vault.core.policy import DEFAULT_TENANT
from vault.core.ports import Page, RecordKey
from vault.core.record_drafts import NewDocument
from vault.core.releases import View

if TYPE_CHECKING:
    from conftest import Lab

SOON_MICROSECONDS = 300_000
EVERY = Page(limit=100)


def expire_soon(lab: Lab, **data: str) -> RecordKey:
    at = time.time_ns() // 1000 + SOON_MICROSECONDS
    row = lab.vault.services.records.create(lab.caller, "users", NewDocument(data, expires_at=at))
    return RecordKey(DEFAULT_TENANT, "users", row.token)


def wait_until_expired() -> None:
    time.sleep(SOON_MICROSECONDS / 1e6 + 0.05)


def test_a_create_takes_over_an_expired_records_values(lab: Lab) -> None:
    expired = expire_soon(lab, email="ada@example.com", login="ada")
    with pytest.raises(DuplicateValueError):
        lab.create(email="ada@example.com")
    wait_until_expired()
    lab.create(email="Ada@example.com", login="ADA")
    with pytest.raises(RecordErasedError):
        lab.vault.services.reading.read(lab.caller, expired, view=View())
    criteria = AuditCriteria(tenant=DEFAULT_TENANT, tokens=(expired.token,), action="record.erase")
    (entry,) = lab.vault.services.audit.search(lab.caller, criteria, person=None, page=EVERY)
    assert (entry.event.result, entry.event.reason) == ("done", "expired")
    assert lab.vault.verify(lambda: None).findings == []


def test_a_change_takes_over_an_expired_records_value(lab: Lab) -> None:
    expire_soon(lab, email="ada@example.com")
    other = RecordKey(DEFAULT_TENANT, "users", lab.create(email="bob@example.com").token)
    wait_until_expired()
    row = lab.vault.services.records.patch(lab.caller, other, {"email": "ada@example.com"}, if_match=None)
    assert row.generation == 2
    assert lab.vault.verify(lambda: None).findings == []


def test_one_live_holder_keeps_its_value(lab: Lab) -> None:
    expired = expire_soon(lab, email="ada@example.com")
    lab.create(login="ada")
    wait_until_expired()
    with pytest.raises(DuplicateValueError) as refusal:
        lab.create(email="ada@example.com", login="ada")
    assert refusal.value.fields == ("login",)
    assert lab.vault.stores.records.find(expired) is not None
    assert lab.vault.verify(lambda: None).findings == []
