"""The key provider or the writers' turn cannot be had: 503, nothing half written, and what needs no key goes on."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderDeniedError,
    ProviderThrottledError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import KeyProvider
from tests.faults.small_vault import ADA, BOB, TABLES, SmallVault
from tests.faults.test_bit_flips import run_verify
from vault import bootstrap
from vault.api.app import create_app
from vault.bootstrap import Vault
from vault.core.tokens import token_text
from vault.storage import sqlite

pytestmark = pytest.mark.sqlite_only("reaches into SQLite's own file, and locks and damages it")

RECORDS = "/v1/collections/people/records"
NEW = {"email": "new@example.org", "city": "Rome"}


class Door:
    """The real provider, until it is told to fail: the whole call by raising, or each item by its result."""

    def __init__(self, behind: KeyProvider) -> None:
        self._behind = behind
        self.call_error: KeyProviderError | None = None
        self.item_error: KeyProviderError | None = None
        self.still_generates = False
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    def generate(self, key: str, version: int, contexts: Sequence[bytes]) -> list[Any]:
        if self.still_generates:
            return self._behind.generate(key, version, contexts)
        return self._answer(len(contexts)) or self._behind.generate(key, version, contexts)

    def unwrap(self, items: Sequence[Any]) -> list[Any]:
        return self._answer(len(items)) or self._behind.unwrap(items)

    def _answer(self, count: int) -> list[Any] | None:
        self.calls += 1
        if self.call_error is not None:
            raise self.call_error
        return None if self.item_error is None else [self.item_error] * count


class World:
    """A vault behind that door, its application, and an eye on its tables."""

    def __init__(self, made: SmallVault, vault: Vault) -> None:
        self.made = made
        self.door = Door(vault.keyrings._providers["disk"])
        self.vault = bootstrap.assemble(vault.engine, vault.stores, {"disk": self.door})  # type: ignore[dict-item]
        self._client: FlaskClient = create_app(self.vault.services).test_client()
        self.ada = f"{RECORDS}/{token_text(made.ada)}"
        self.bob = f"{RECORDS}/{token_text(made.bob)}"

    def ask(self, method: str, path: str, document: Any = None) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.made.credential}"}
        options = {} if document is None else {"json": document}
        return self._client.open(path, method=method, headers=headers, **options)

    def batch(self, *operations: dict[str, Any], **members: Any) -> TestResponse:
        return self.ask("POST", f"{RECORDS}/bulk", {"operations": list(operations)} | members)

    def get(self, token: bytes) -> dict[str, Any]:
        return {"op": "get", "token": token_text(token), "reveal": "plain"}

    def stored(self) -> dict[str, list[Any]]:
        """All rows but the log's."""
        with self.made.tampering() as connection:
            return {
                table: connection.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()  # noqa: S608  # our own names
                for table in TABLES
                if table != "audit_entry"
            }

    def newest_entries(self, count: int) -> list[tuple[str, str, str | None]]:
        with self.made.tampering() as connection:
            query = "SELECT action, result, reason FROM audit_entry ORDER BY id DESC LIMIT ?"
            return list(reversed(connection.execute(query, (count,)).fetchall()))

    def entries(self) -> int:
        with self.made.tampering() as connection:
            (count,) = connection.execute("SELECT count(*) FROM audit_entry").fetchone()
        return int(count)


@pytest.fixture
def world(small_vault: SmallVault) -> Iterator[World]:
    with small_vault.opened() as vault:
        yield World(small_vault, vault)
    assert small_vault.findings() == []


def refused(response: TestResponse, status: int, code: str) -> Any:
    problem = response.json
    assert problem is not None
    assert (response.status_code, problem["type"]) == (status, f"urn:strongroom:error:{code}")
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    text = response.get_data(as_text=True)
    assert not any(str(value) in text for data in (ADA, BOB, NEW) for value in data.values())
    if status == 503:
        assert int(response.headers["Retry-After"]) >= 1
    return problem


TRY_LATER: list[KeyProviderError] = [
    ProviderUnavailableError("secret place 10.0.0.7 does not answer", provider="disk"),
    ProviderUnavailableError("sealed", provider="disk", retry_after_seconds=7.4),
    ProviderThrottledError("slower", provider="disk", retry_after_seconds=0.01),
    ProviderDeniedError("the token is no longer good", provider="disk"),
    KeyNotFoundError("no such key", provider="disk"),
]


@pytest.mark.parametrize("way", ["call", "item"])
@pytest.mark.parametrize("error", TRY_LATER, ids=lambda error: type(error).__name__)
def test_without_keys_writes_and_reads_are_refused(world: World, error: KeyProviderError, way: str) -> None:
    before = world.stored()
    setattr(world.door, f"{way}_error", error)

    problem = refused(world.ask("POST", RECORDS, {"data": NEW}), 503, "keys-unavailable")
    assert "10.0.0.7" not in problem["detail"]
    refused(world.ask("PUT", world.ada, {"data": NEW}), 503, "keys-unavailable")
    assert world.newest_entries(2) == [
        ("record.create", "failed", "keys-unavailable"),
        ("record.update", "failed", "keys-unavailable"),
    ]
    released = refused(world.ask("GET", f"{world.ada}?reveal=plain"), 503, "keys-unavailable")
    assert released["request_id"]
    assert world.newest_entries(2) == [
        ("record.read", "released", None),
        ("record.read", "failed", "keys-unavailable"),
    ]
    lookup = {"field": "city", "value": "London", "reveal": "plain"}
    refused(world.ask("POST", f"{RECORDS}/lookup", lookup), 503, "keys-unavailable")
    assert world.newest_entries(4) == [
        ("record.lookup", "released", None),
        ("record.lookup", "released", None),
        ("record.lookup", "failed", "keys-unavailable"),
        ("record.lookup", "failed", "keys-unavailable"),
    ]
    assert world.stored() == before

    world.door.call_error = world.door.item_error = None
    shown = world.ask("GET", f"{world.ada}?reveal=plain").json
    assert shown is not None
    assert shown["data"] == ADA


CREATE: dict[str, Any] = {"op": "create", "data": NEW}
FIND: dict[str, Any] = {"op": "lookup", "field": "city", "value": "London", "reveal": "plain"}


@pytest.mark.parametrize("way", ["call", "item"])
@pytest.mark.parametrize("error", TRY_LATER, ids=lambda error: type(error).__name__)
def test_without_keys_a_batch_that_writes_is_refused_whole(
    world: World, error: KeyProviderError, way: str
) -> None:
    before = world.stored()
    setattr(world.door, f"{way}_error", error)
    update = {"op": "update", "token": token_text(world.made.ada), "patch": {"note": "new"}}
    erase = {"op": "erase", "token": token_text(world.made.bob)}

    for operations in (
        [CREATE, world.get(world.made.bob)],
        [erase, CREATE],
        [world.get(world.made.bob), update],
    ):
        for is_atomic in (False, True):
            refused(world.batch(*operations, atomic=is_atomic), 503, "keys-unavailable")
            assert world.newest_entries(1) == [("request", "failed", "keys-unavailable")]
    refused(world.batch(CREATE, dry_run=True), 503, "keys-unavailable")
    assert world.stored() == before

    world.door.call_error = world.door.item_error = None
    answer = world.batch(CREATE, world.get(world.made.bob), update).json
    assert answer is not None
    assert [item["status"] for item in answer["items"]] == [201, 200, 200]


@pytest.mark.parametrize("way", ["call", "item"])
def test_without_keys_each_read_of_a_batch_is_refused(world: World, way: str) -> None:
    """The rest is done: what was stored, erased or not found needs no key that is away."""
    world.door.still_generates = True
    setattr(world.door, f"{way}_error", TRY_LATER[0])
    nothing = FIND | {"value": "Atlantis"}
    erase = {"op": "erase", "token": token_text(world.made.bob)}

    response = world.batch(CREATE, world.get(world.made.ada), FIND, nothing, erase)

    answer = response.json
    assert answer is not None
    assert [item["status"] for item in answer["items"]] == [201, 503, 503, 200, 204]
    assert answer["failed"] == 2
    for item in answer["items"][1:3]:
        assert item["problem"]["type"] == "urn:strongroom:error:keys-unavailable"
        assert "10.0.0.7" not in item["problem"]["detail"]
    assert not any(str(value) in response.text for data in (ADA, BOB) for value in data.values())
    assert world.newest_entries(9) == [
        ("record.create", "done", None),
        ("record.read", "released", None),
        ("record.lookup", "released", None),
        ("record.lookup", "released", None),
        ("record.lookup", "not-found", None),
        ("record.erase", "done", None),
        ("record.read", "failed", "keys-unavailable"),
        ("record.lookup", "failed", "keys-unavailable"),
        ("record.lookup", "failed", "keys-unavailable"),
    ]


def test_a_batch_asks_the_provider_once_for_all_its_keys(world: World) -> None:
    def calls_of(*operations: dict[str, Any]) -> tuple[int, list[Any]]:
        before = world.door.calls
        answer = world.batch(*operations).json
        assert answer is not None
        assert answer["failed"] == 0
        return world.door.calls - before, answer["items"]

    creates = [{"op": "create", "data": {"note": f"{n}", "city": "Oslo"}} for n in range(50)]
    calls, items = calls_of(*creates)
    assert calls == 1
    tokens = [item["token"] for item in items]
    assert calls_of(*({"op": "get", "token": token} for token in tokens))[0] == 1
    assert calls_of(FIND | {"value": "Oslo"}, *({"op": "get", "token": token} for token in tokens))[0] == 1
    # Unwrap the old ones, make the new ones; then the reads.
    updates = [{"op": "update", "token": token, "patch": {"note": "new"}} for token in tokens[:25]]
    assert calls_of(*updates)[0] == 2
    assert calls_of(*updates, *({"op": "get", "token": token} for token in tokens[25:]))[0] == 3
    assert calls_of(*({"op": "erase", "token": token} for token in tokens))[0] == 0


def test_refused_operations_cost_no_provider_call(world: World) -> None:
    calls = world.door.calls

    answer = world.batch(
        {"op": "create", "data": {"email": "no address"}},
        {"op": "get", "token": token_text(b"0" * 16)},
        {"op": "update", "token": token_text(world.made.cyd), "patch": {}},
        FIND | {"value": "Atlantis"},
    ).json

    assert answer is not None
    assert answer["failed"] == 3
    assert world.door.calls == calls


@pytest.mark.parametrize("error", [WrappedKeyRejectedError("rejected", provider="disk")])
def test_a_key_that_does_not_open_is_an_alarm_in_a_batch_too(
    world: World, error: KeyProviderError, caplog: pytest.LogCaptureFixture
) -> None:
    world.door.still_generates = True
    world.door.item_error = error
    update = {"op": "update", "token": token_text(world.made.bob), "patch": {"note": "new"}}

    answer = world.batch(world.get(world.made.ada), update, CREATE).json

    assert answer is not None
    assert [item["status"] for item in answer["items"]] == [500, 500, 201]
    assert world.newest_entries(4) == [
        ("record.read", "released", None),
        ("record.update", "failed", "integrity"),
        ("record.create", "done", None),
        ("record.read", "failed", "integrity"),
    ]
    alarms = [record for record in caplog.records if record.levelname == "CRITICAL"]
    assert ["integrity-alarm" in record.getMessage() for record in alarms] == [True, True]


def test_a_refused_batch_leaves_its_key_free(world: World) -> None:
    def ask(path: str, document: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {world.made.credential}", "Idempotency-Key": "key-1"}
        return world._client.post(path, json=document, headers=headers)

    world.door.call_error = TRY_LATER[0]
    refused(ask(RECORDS, {"data": NEW}), 503, "keys-unavailable")
    refused(ask(f"{RECORDS}/bulk", {"operations": [CREATE]}), 503, "keys-unavailable")
    world.door.call_error = None
    assert ask(f"{RECORDS}/bulk", {"operations": [CREATE]}).status_code == 200
    erased = world.ask("POST", f"{RECORDS}/lookup", {"field": "email", "value": NEW["email"]}).json
    assert erased is not None
    assert world.ask("DELETE", f"{RECORDS}/{erased['items'][0]['token']}").status_code == 204
    assert ask(RECORDS, {"data": NEW}).status_code == 201


def test_the_providers_wait_is_passed_on(world: World) -> None:
    world.door.call_error = ProviderUnavailableError("sealed", provider="disk", retry_after_seconds=7.4)

    assert world.ask("POST", RECORDS, {"data": NEW}).headers["Retry-After"] == "7"


def test_what_needs_no_key_goes_on(world: World) -> None:
    world.door.call_error = ProviderUnavailableError("down", provider="disk")
    calls = world.door.calls

    assert world.ask("DELETE", world.bob).status_code == 204
    refused(world.ask("GET", world.bob), 410, "record-erased")
    assert world.ask("GET", RECORDS).status_code == 200
    nothing = world.ask("POST", f"{RECORDS}/lookup", {"field": "email", "value": "x@example.org"}).json
    assert nothing is not None
    assert nothing["items"] == []
    assert world.ask("GET", f"{world.bob}/erasure").status_code == 200
    assert world.ask("POST", "/v1/audit/search", {}).status_code == 200
    assert world.ask("GET", "/healthz").status_code == 200
    assert world.door.calls == calls


@pytest.mark.parametrize(
    "error",
    [
        WrappedKeyRejectedError("rejected", provider="disk"),
        KeyVersionRetiredError("retired", provider="disk"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("way", ["call", "item"])
def test_a_key_that_does_not_open_is_an_alarm(
    world: World, error: KeyProviderError, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = world.stored()
    setattr(world.door, f"{way}_error", error)

    refused(world.ask("GET", f"{world.ada}?reveal=plain"), 500, "integrity")

    assert world.newest_entries(2) == [
        ("record.read", "released", None),
        ("record.read", "failed", "integrity"),
    ]
    assert any(record.levelname == "CRITICAL" for record in caplog.records)
    assert world.stored() == before


def test_refusals_cost_no_provider_call(world: World) -> None:
    """What the schema or a missing right refuses never reaches the key door."""
    calls = world.door.calls

    assert world.ask("POST", RECORDS, {"data": {"email": "no address"}}).status_code == 422
    assert world.ask("GET", f"{RECORDS}/{token_text(b'0' * 16)}").status_code == 404

    assert world.door.calls == calls


@contextmanager
def someone_writes(made: SmallVault, *, holds: str) -> Iterator[None]:
    """Another process holds the writers' lock, or an open transaction of SQLite itself."""
    if holds == "turn":
        descriptor = os.open(made.database.with_name(made.database.name + ".lock"), os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
    else:
        with made.tampering() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")


@pytest.mark.parametrize("holds", ["turn", "transaction"])
def test_a_writer_that_never_ends_holds_nobody_up_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch, holds: str
) -> None:
    monkeypatch.setattr(sqlite, "LOCK_DEADLINE_SECONDS", 0.2)
    world.vault.engine.database.execute_sql("PRAGMA busy_timeout = 200")
    before, entries = world.stored(), world.entries()

    with someone_writes(world.made, holds=holds):
        refused(world.ask("POST", RECORDS, {"data": NEW}), 503, "store-unavailable")
        refused(world.ask("GET", f"{world.ada}?reveal=plain"), 503, "store-unavailable")
        refused(world.ask("DELETE", world.ada), 503, "store-unavailable")
        refused(world.batch(CREATE, world.get(world.made.bob)), 503, "store-unavailable")
        # An answer without a credential is counted in the log: no log, no answer but that.
        anonymous = world._client.get(world.ada)
        refused(anonymous, 503, "audit-unavailable")
        unprocessable = world.ask("POST", RECORDS, {"data": {"email": "no address"}})
        refused(unprocessable, 503, "audit-unavailable")

    assert (world.stored(), world.entries()) == (before, entries)
    assert world.ask("POST", RECORDS, {"data": NEW}).status_code == 201


def test_a_log_that_cannot_be_written_stops_reads_too(world: World) -> None:
    """Only the log fails: a trigger stands for whatever refuses to take an entry."""
    with world.made.tampering() as connection:
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_entry BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    before, entries = world.stored(), world.entries()

    for method, path, document in (
        ("GET", f"{world.ada}?reveal=plain", None),
        ("POST", f"{RECORDS}/lookup", {"field": "email", "value": ADA["email"], "reveal": "plain"}),
        ("POST", f"{RECORDS}/lookup", {"field": "email", "value": "nobody@example.org"}),
        ("GET", RECORDS, None),
        ("POST", RECORDS, {"data": NEW}),
        ("PUT", world.ada, {"data": NEW}),
        ("DELETE", world.ada, None),
        ("POST", f"{RECORDS}/bulk", {"operations": [CREATE, FIND]}),
        ("POST", f"{RECORDS}/bulk", {"operations": [CREATE], "dry_run": True}),
        ("POST", f"{RECORDS}/bulk", {"operations": [{"op": "create", "data": 5}], "atomic": True}),
        ("POST", f"{RECORDS}/bulk", {"operations": [{"op": "x"}]}),
        ("GET", "/v1/keyrings", None),
        ("POST", "/v1/audit/search", {}),
    ):
        answer = world.ask(method, path, document)
        assert answer.status_code == 503, (method, path, answer.data)
        assert b"London" not in answer.data
        assert b"example.org" not in answer.data

    assert (world.stored(), world.entries()) == (before, entries)
    with world.made.tampering() as connection:
        connection.execute("DROP TRIGGER refuse")


def test_a_failure_that_cannot_be_logged_shows_nothing(world: World) -> None:
    """Released, then no key, then no log for the failure: still 503, still no data."""

    def refuse(*_: Any) -> None:
        raise sqlite_unavailable()

    world.door.call_error = ProviderUnavailableError("down", provider="disk")
    world.vault.stores.audit.append = refuse  # type: ignore[method-assign]

    answer = world.ask("GET", f"{world.ada}?reveal=plain")

    assert answer.status_code == 503
    assert b"London" not in answer.data
    assert world.newest_entries(1) == [("record.read", "released", None)]


def sqlite_unavailable() -> Exception:
    from vault.core.errors import UnavailableError

    return UnavailableError("no", code="store-unavailable")


def test_damaged_pages_are_a_finding(small_vault: SmallVault) -> None:
    """SQLite itself finds its pages broken: no outage that passes, so no 503 and no exit code 1."""
    with small_vault.opened() as vault:
        vault.engine.scrub()
    with small_vault.tampering() as connection:
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'record'").fetchone()
    with small_vault.database.open("r+b") as file:
        file.seek((root - 1) * page_size)
        file.write(b"\xff" * page_size)

    assert small_vault.codes() == {"database-malformed"}
    done = run_verify(small_vault)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "database-malformed" in done.stdout


def test_a_file_that_is_no_database(small_vault: SmallVault) -> None:
    for suffix in ("-wal", "-shm"):
        small_vault.database.with_name(small_vault.database.name + suffix).unlink(missing_ok=True)
    small_vault.database.write_bytes(b"no database at all" * 1_000)

    (finding,) = small_vault.findings()

    assert finding.code in {"misconfigured", "database-malformed"}
    with pytest.raises(sqlite3.DatabaseError), small_vault.tampering() as connection:
        connection.execute("SELECT * FROM record")
