from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.audit.events import Action
from vault.core.errors import NotAuthorizedError, UnprocessableError
from vault.core.policy import Caller, Role, authorize, check_purpose

ADMINISTRATOR = Caller(
    tenant="default", principal="somebody", credential="00" * 8, role=Role.ADMINISTRATOR.value
)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("role", ["", "Administrator", "administrator ", "admin", "root", "reader", "None"])
def test_an_unknown_role_may_do_nothing(role: str, action: Action) -> None:
    caller = dataclasses.replace(ADMINISTRATOR, role=role)
    with pytest.raises(NotAuthorizedError, match=f"^The role of somebody does not allow {action}.$"):
        authorize(caller, action)


@given(st.text(), st.sampled_from(list(Action)))
def test_no_other_text_is_a_role(role: str, action: Action) -> None:
    caller = dataclasses.replace(ADMINISTRATOR, role=role)
    if role == "administrator":
        authorize(caller, action)
        return
    with pytest.raises(NotAuthorizedError):
        authorize(caller, action)


@pytest.mark.parametrize("action", Action)
def test_the_administrator_may_do_everything(action: Action) -> None:
    authorize(ADMINISTRATOR, action)


@pytest.mark.parametrize("purpose", ["a", "support:4711", "a" * 64, "x.y_z-0"])
def test_purposes(purpose: str) -> None:
    assert check_purpose(purpose) == purpose


@pytest.mark.parametrize("purpose", ["", "A", "a" * 65, "a b", "ä", "a\n", "٣", "a/b"])
def test_other_purposes_are_refused(purpose: str) -> None:
    with pytest.raises(UnprocessableError) as refused:
        check_purpose(purpose)
    assert refused.value.code == "purpose"
