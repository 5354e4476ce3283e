"""Tampering while the vault runs: the API answers with an error that says so, or with the truth, and nothing else."""

from __future__ import annotations

import json
import random
import sqlite3
from collections import Counter
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.faults.small_vault import ADA, BOB, IS_GATE, SmallVault, say
from tests.faults.test_bit_flips import Cell, Change, cells_of, flipped
from vault.api.app import create_app
from vault.bootstrap import Vault
from vault.core.tokens import token_text

pytestmark = pytest.mark.sqlite_only("changes rows by SQLite's own statements")

PER_COLUMN = 35 if IS_GATE else 3
USED = (
    "record",
    "record_history",
    "index_entry",
    "collection",
    "collection_schema",
    "credential",
    "principal",
)
PLAINTEXT = ("ada@", "bob@", "London", "Paris", "-note", "ada-before")
RECORDS = "/v1/collections/people/records"


class Reader:
    """Asks for everything that the small vault holds."""

    def __init__(self, made: SmallVault, client: FlaskClient) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {made.credential}"}
        self.ada = f"{RECORDS}/{token_text(made.ada)}"
        self.bob = f"{RECORDS}/{token_text(made.bob)}"

    def get(self, path: str) -> TestResponse:
        return self._client.get(path, headers=self._headers)

    def find(self, field: str, value: str) -> TestResponse:
        body = {"field": field, "value": value, "reveal": "plain"}
        return self._client.post(f"{RECORDS}/lookup", json=body, headers=self._headers)

    def answers(self) -> dict[str, TestResponse]:
        return {
            "ada": self.get(f"{self.ada}?reveal=plain"),
            "bob": self.get(f"{self.bob}?reveal=plain"),
            "older": self.get(f"{self.ada}?reveal=plain&generation=1"),
            "by email": self.find("email", ADA["email"]),
            "by city": self.find("city", "London"),
            "list": self.get(RECORDS),
        }


def truth(response: TestResponse) -> Any:
    body = response.json
    assert body is not None
    return body


def check_answer(name: str, response: TestResponse, genuine: Any) -> str:
    """Return how it was answered; fail if it shows anything but the truth."""
    text = response.get_data(as_text=True)
    if response.status_code == 200:
        shown = truth(response)
        if shown == genuine:
            return "the truth"
        # A row that a search cannot find any more is missing; what is there is genuine.
        assert "items" in shown, (name, text)
        assert all(item in genuine["items"] for item in shown["items"]), (name, text)
        return "not found"
    assert not any(word in text for word in PLAINTEXT), (name, text)
    problem = json.loads(text)
    if response.status_code == 500:
        assert problem["type"] == "urn:strongroom:error:integrity", (name, text)
        assert set(problem) == {"type", "title", "status", "detail", "request_id"}
        return "integrity"
    assert (response.status_code, problem["type"]) in {
        (401, "urn:strongroom:error:not-authenticated"),
        (404, "urn:strongroom:error:record-not-found"),
        (404, "urn:strongroom:error:collection-not-found"),
    }, (name, text)
    return "not found"


def failures_logged(connection: sqlite3.Connection) -> int:
    query = "SELECT count(*) FROM audit_entry WHERE result = 'failed' AND reason = 'integrity'"
    (count,) = connection.execute(query).fetchone()
    return int(count)


def chosen_flips(cells: list[Cell]) -> list[Change]:
    rng = random.Random(7)
    columns: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        if cell.table in USED and (cell.storage == "integer" or cell.value):
            columns.setdefault((cell.table, cell.column), []).append(cell)
    chosen = [
        flipped(rng.choice(choices), rng.getrandbits(24))
        for choices in columns.values()
        for _ in range(PER_COLUMN)
    ]
    return [change for change in chosen if change is not None]


@pytest.fixture
def vault(small_vault: SmallVault) -> Any:
    with small_vault.opened() as opened:
        yield opened


@pytest.fixture
def reader(small_vault: SmallVault, vault: Vault) -> Reader:
    return Reader(small_vault, create_app(vault.services).test_client())


def test_flips_are_answered_by_an_integrity_error_or_by_the_truth(
    small_vault: SmallVault, vault: Vault, reader: Reader
) -> None:
    genuine = {name: truth(response) for name, response in reader.answers().items()}
    assert genuine["ada"]["data"] == ADA
    assert {item["data"]["email"] for item in genuine["by city"]["items"]} == {ADA["email"], BOB["email"]}
    outcomes: dict[str, Counter[str]] = {table: Counter() for table in USED}
    with small_vault.tampering() as connection:
        changes = chosen_flips(cells_of(connection))
        for change in changes:
            cell = change.cell
            update = f"UPDATE {cell.table} SET {cell.column} = {{}} WHERE id = ?"  # noqa: S608  # our own names
            connection.execute(update.format(change.expression), (change.parameter, cell.row_id))
            # Another process would compile the definition afresh from the tampered row.
            vault.services.collections._compiled.clear()
            logged = failures_logged(connection)

            said = [
                check_answer(name, response, genuine[name]) for name, response in reader.answers().items()
            ]

            if cell.table not in {"credential", "principal"}:
                # Who asked is known, so each failure has its entry.
                assert failures_logged(connection) - logged == said.count("integrity"), str(change)
            outcomes[cell.table].update(said)
            back = "CAST(? AS TEXT)" if cell.storage == "text" else "?"
            connection.execute(update.format(back), (cell.value, cell.row_id))
    vault.services.collections._compiled.clear()
    assert {name: truth(response) for name, response in reader.answers().items()} == genuine
    for table, outcome in outcomes.items():
        say(f"{table}: {dict(outcome)}")
        assert outcome["integrity"] > 0, table
    say(f"{len(changes)} flips through the API, {len(changes) * len(genuine)} answers")


def test_a_released_record_that_does_not_open_has_two_entries(
    small_vault: SmallVault, vault: Vault, reader: Reader
) -> None:
    """The row is genuine to its MAC, yet its seal does not open: someone had the MAC key, or we had a bug."""
    resign_with_swapped_documents(small_vault, vault)

    answer = reader.get(f"{reader.ada}?reveal=plain")

    assert check_answer("ada", answer, None) == "integrity"
    with small_vault.tampering() as connection:
        query = "SELECT result, reason FROM audit_entry ORDER BY id DESC LIMIT 2"
        assert connection.execute(query).fetchall() == [("failed", "integrity"), ("released", None)]


def test_a_signed_index_row_that_points_at_another_record_shows_nothing(
    small_vault: SmallVault, vault: Vault, reader: Reader
) -> None:
    from tests.faults.test_splices import rewrite_index_row

    rewrite_index_row(small_vault, vault, field="email", of=small_vault.ada, token=small_vault.bob)

    answer = reader.find("email", ADA["email"])

    assert check_answer("by email", answer, None) == "integrity"


def resign_with_swapped_documents(small_vault: SmallVault, vault: Vault) -> None:
    from tests.faults.test_splices import record_rows, write_record

    rows = record_rows(vault)
    ada, bob = rows[small_vault.ada], rows[small_vault.bob]
    write_record(small_vault, vault, ada, sealed_document=bob.sealed_document)
