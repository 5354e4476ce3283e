"""The access log tells of the right record, and of every change to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from vault.core.audit_ports import AuditCriteria
from vault.core.audit_search import Person
from vault.core.errors import IntegrityError
from vault.core.ports import Page, RecordKey
from vault.core.record_drafts import NewDocument

if TYPE_CHECKING:
    from conftest import Lab  # tests/unit/core/conftest.py


def test_a_search_by_person_refuses_an_index_row_that_was_pointed_at_another_record(lab: Lab) -> None:
    lab.create(email="ada@example.org")
    bob = lab.create(login="bob")
    lab.execute("UPDATE index_entry SET token = ? WHERE field = 'email'", bob.token)

    with pytest.raises(IntegrityError) as refusal:
        lab.vault.services.audit.search(
            lab.caller,
            AuditCriteria(tenant="default"),
            person=Person("users", "email", "ada@example.org"),
            page=Page(100, 0),
        )

    assert refusal.value.finding == "row-mac"


@pytest.mark.parametrize(
    ("before", "after"), [(1, True), (0, False), ([1], [True]), ({"a": 0}, {"a": False})]
)
def test_a_change_that_python_takes_for_none_is_logged_as_one(lab: Lab, before: Any, after: Any) -> None:
    row = lab.create(login="ada", note=before)
    key = RecordKey("default", "users", row.token)

    lab.vault.services.records.replace(
        lab.caller, key, NewDocument({"login": "ada", "note": after}), if_match=None
    )

    (change, _) = lab.vault.services.audit.search(
        lab.caller, AuditCriteria(tenant="default", tokens=(row.token,)), person=None, page=Page(10, 0)
    )
    assert change.event.fields == ("*other",)
