from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from vault.core.authentication import Authentication
from vault.core.clock import system_clock
from vault.core.credentials import mint_credential
from vault.core.errors import IntegrityError, NotAuthenticatedError
from vault.core.row_mac import RowAuthenticator
from vault.core.rows import CredentialRow, Row
from vault.storage.credentials import SqlCredentialStore

if TYPE_CHECKING:
    from conftest import Lab  # tests/unit/core/conftest.py


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The work of an authentication, step by step."""
    steps: list[str] = []
    check, find = RowAuthenticator.check, SqlCredentialStore.find

    def checked(self: RowAuthenticator, row: Row) -> None:
        steps.append(f"check {row.TABLE}")
        check(self, row)

    def found(self: SqlCredentialStore, secret_sha256: bytes) -> object:
        steps.append("find")
        return find(self, secret_sha256)

    with monkeypatch.context() as patch:
        patch.setattr(RowAuthenticator, "check", checked)
        patch.setattr(SqlCredentialStore, "find", found)
        yield steps


def credential_row(lab: Lab) -> CredentialRow:
    (row,) = lab.vault.stores.inspector.rows(CredentialRow)
    return row


def refuse(lab: Lab, text: str) -> NotAuthenticatedError:
    with pytest.raises(NotAuthenticatedError) as refused:
        lab.vault.services.authentication.authenticate(text)
    return refused.value


def test_a_good_credential_says_who_it_is(lab: Lab) -> None:
    credential, principal = lab.vault.services.authentication.authenticate(lab.credential)
    assert (credential.principal, principal.name, principal.role) == ("admin", "admin", "administrator")


@pytest.mark.parametrize("ended", ["unknown", "revoked", "expired", "replaced"])
def test_unknown_revoked_and_expired_cannot_be_told_apart(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    text = lab.credential
    if ended == "unknown":
        text = mint_credential().text
    elif ended == "revoked":
        lab.put(dataclasses.replace(credential_row(lab), revoked_at=1))
    elif ended == "expired":
        lab.put(dataclasses.replace(credential_row(lab), expires_at=system_clock()))
    else:
        lab.vault.administrators.replace()
    with counted(monkeypatch) as steps:
        error = refuse(lab, text)
    assert steps == ["find", "check credential", "check principal"]
    assert (error.reason, error.code, error.detail) == (
        "invalid",
        "not-authenticated",
        "Send a valid credential as: Authorization: Bearer ...",
    )


def test_a_good_one_does_the_same_work(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with counted(monkeypatch) as steps:
        lab.vault.services.authentication.authenticate(lab.credential)
    assert steps == ["find", "check credential", "check principal"]


@pytest.mark.parametrize(
    "text", ["", "x", "strongroom_", "strongroom_" + "A" * 42, "strongroom_" + "A" * 42 + "="]
)
def test_a_malformed_one_never_reaches_the_database(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    with counted(monkeypatch) as steps:
        error = refuse(lab, text)
    assert steps == []
    assert (error.reason, error.detail) == (
        "malformed",
        "Send a valid credential as: Authorization: Bearer ...",
    )


def test_the_expiry_is_the_first_moment_that_is_refused(lab: Lab) -> None:
    lab.put(dataclasses.replace(credential_row(lab), expires_at=1_000))
    for now, is_good in ((999, True), (1_000, False)):
        authentication = Authentication(
            lab.vault.stores.credentials, lab.vault.keyrings, lambda moment=now: moment
        )
        if is_good:
            authentication.authenticate(lab.credential)
        else:
            with pytest.raises(NotAuthenticatedError):
                authentication.authenticate(lab.credential)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("UPDATE credential SET created_at = 1", "credential "),
        ("UPDATE principal SET role = 'other'", "principal admin"),
        ("UPDATE credential SET mac = x'00'", "credential "),
    ],
)
def test_a_tampered_row_is_an_alarm(lab: Lab, change: str, where: str) -> None:
    lab.execute(change)
    with pytest.raises(IntegrityError, match=f"^row-mac: {where}"):
        lab.vault.services.authentication.authenticate(lab.credential)


def test_replacing_leaves_one_that_works(lab: Lab) -> None:
    first = lab.credential
    second = lab.vault.administrators.replace().text
    assert first != second
    refuse(lab, first)
    lab.vault.services.authentication.authenticate(second)
    assert repr(mint_credential()).startswith("NewCredential(")
    assert "strongroom_" not in repr(mint_credential())
