"""Errors that nobody foresaw: the log has them, the answer says nothing, and the access log is whole."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from vault import bootstrap
from vault.api.app import create_app
from vault.config import load_configuration
from vault.core import releases
from vault.core.errors import OUTCOME_UNKNOWN, UnavailableError

RECORDS = "/v1/collections/users/records"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[bootstrap.Vault, FlaskClient, dict[str, str]]]:
    configuration = load_configuration(None, tmp_path / "data")
    credential = bootstrap.create_vault(configuration).text
    vault = bootstrap.open_vault(configuration)
    yield vault, create_app(vault.services).test_client(), {"Authorization": f"Bearer {credential}"}
    vault.close()


def test_an_unexpected_error_after_the_release_has_a_second_entry(
    opened: tuple[bootstrap.Vault, FlaskClient, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, client, headers = opened
    created = client.post(RECORDS, json={"data": {"email": "ada@example.org"}}, headers=headers)

    def fails(*_: Any, **__: Any) -> None:
        raise ValueError("ada@example.org")

    monkeypatch.setattr(releases, "mask_document", fails)
    answer = client.get(created.headers["Location"], headers=headers)

    assert answer.status_code == 500
    assert answer.get_json()["type"] == "urn:strongroom:error:internal"
    with vault.engine.read() as database:
        entries = database.execute_sql(
            "SELECT action, result, reason, lower(hex(token)) FROM audit_entry ORDER BY id DESC LIMIT 2"
        ).fetchall()
    token = created.get_json()["token"].replace("-", "")
    assert entries == [
        ("record.read", "failed", "internal", token),
        ("record.read", "released", None, token),
    ]


def test_the_log_names_the_cause_of_a_failure_by_place_and_never_by_its_message(
    opened: tuple[bootstrap.Vault, FlaskClient, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, client, headers = opened
    created = client.post(RECORDS, json={"data": {"email": "ada@example.org"}}, headers=headers)

    def fails(*_: Any, **__: Any) -> None:
        raise UnavailableError("Not now.") from ValueError("ada@example.org")

    monkeypatch.setattr(releases, "mask_document", fails)
    assert client.get(created.headers["Location"], headers=headers).status_code == 503

    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert "ValueError" in caplog.text
    assert record.exc_info is None
    assert "ada@example.org" not in caplog.text


def test_an_unknown_outcome_is_told_even_if_the_log_cannot_be_written(
    opened: tuple[bootstrap.Vault, FlaskClient, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both happen at once: the database went away in a COMMIT. That nothing was done would be a lie."""
    vault, client, headers = opened

    def fails_with(code: str) -> Any:
        def fail(*_: Any, **__: Any) -> None:
            raise UnavailableError("Not now.", code=code)

        return fail

    monkeypatch.setattr(type(vault.stores.records), "create", fails_with(OUTCOME_UNKNOWN))
    monkeypatch.setattr(type(vault.services.trail), "append", fails_with("store-unavailable"))
    answer = client.post(RECORDS, json={"data": {"email": "ada@example.org"}}, headers=headers)

    assert answer.status_code == 503
    assert answer.get_json()["type"] == "urn:strongroom:error:outcome-unknown"
    assert answer.get_json()["outcome"] == "unknown"


@pytest.mark.parametrize("name", ["a" * 300 + ".js", "a\0b.js"])
def test_a_name_that_no_file_can_have_is_not_found_and_no_alarm(
    opened: tuple[bootstrap.Vault, FlaskClient, dict[str, str]],
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, client, _ = opened

    with caplog.at_level(logging.WARNING):
        assert client.get(f"/docs/assets/{name}").status_code == 404

    assert not caplog.records
