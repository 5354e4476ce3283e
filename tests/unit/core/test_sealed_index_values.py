"""Sound records stay sound when the world's numbering plans change under them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import phonenumbers
import pytest

from vault.core.errors import UnprocessableError
from vault.core.policy import DEFAULT_TENANT
from vault.core.ports import Page, RecordKey
from vault.core.reading import Lookup
from vault.core.record_drafts import NewDocument
from vault.core.releases import View

if TYPE_CHECKING:
    from conftest import Lab

PHONE = "+49 30 901820"


@pytest.fixture
def key(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> RecordKey:
    """A record written before its telephone number became one that no plan knows."""
    document = NewDocument({"email": "ada@example.com", "phone": PHONE, "city": "Berlin"})
    row = lab.vault.services.records.create(lab.caller, "users", document)
    monkeypatch.setattr(phonenumbers, "is_valid_number", lambda _number: False)
    return RecordKey(DEFAULT_TENANT, "users", row.token)


@pytest.mark.usefixtures("key")
def test_verify_finds_nothing(lab: Lab) -> None:
    assert lab.vault.verify(lambda: None).findings == []


def test_a_look_up_by_another_field_still_shows_it(lab: Lab, key: RecordKey) -> None:
    lookup = Lookup("email", "ADA@example.com", None, View(plain=True), Page(limit=10))
    (shown,) = lab.vault.services.reading.lookup(lab.caller, "users", lookup)
    assert (shown.row.token, shown.data["phone"]) == (key.token, PHONE)


def test_another_field_can_still_be_changed(lab: Lab, key: RecordKey) -> None:
    row = lab.vault.services.records.patch(lab.caller, key, {"city": "Leipzig"}, if_match=None)
    assert row.generation == 2
    assert lab.vault.verify(lambda: None).findings == []


def test_the_number_itself_meets_todays_rules(lab: Lab, key: RecordKey) -> None:
    with pytest.raises(UnprocessableError) as refusal:
        lab.vault.services.records.patch(lab.caller, key, {"phone": "+49 30 901821"}, if_match=None)
    assert [violation.pointer for violation in refusal.value.violations] == ["/phone"]


def test_a_changed_region_is_a_new_reading(lab: Lab) -> None:
    records = lab.vault.services.records
    row = records.create(lab.caller, "users", NewDocument({"phone": "020 7946 0483"}, region="GB"))
    key = RecordKey(DEFAULT_TENANT, "users", row.token)
    with pytest.raises(UnprocessableError):
        records.replace(lab.caller, key, NewDocument({"phone": "020 7946 0483"}, region="AD"), if_match=None)
    records.replace(lab.caller, key, NewDocument({"phone": "030 901820"}, region="DE"), if_match=None)
    lookup = Lookup("phone", "+4930901820", None, View(), Page(limit=10))
    assert len(lab.vault.services.reading.lookup(lab.caller, "users", lookup)) == 1
    assert lab.vault.verify(lambda: None).findings == []
