"""A vault of a few rows that has something in every table and every nullable column, and ways to reach around it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.servers.database_homes import Rows, chosen_home
from vault import bootstrap
from vault.bootstrap import Vault
from vault.config import Configuration, load_configuration
from vault.core.clock import system_clock
from vault.core.collections import Settings
from vault.core.errors import IntegrityError, MisconfiguredError
from vault.core.policy import DEFAULT_TENANT, Caller, Role
from vault.core.ports import RecordKey
from vault.core.record_drafts import NewDocument
from vault.core.rows import RecordRow
from vault.core.verification import Finding
from vault.storage.tables import TABLE_OF

IS_GATE = os.environ.get("GATE_COUNTS") == "1"
"""The long form, before a release."""

TABLES = tuple(row_type.TABLE for row_type in TABLE_OF)
PEOPLE = "people"
PEOPLE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "email": {"type": "string", "x-index": "unique", "x-normalize": "email", "x-mask": "email"},
        "city": {"type": "string", "x-index": "lookup", "x-normalize": "text", "x-mask": "none"},
        "note": {"type": "string"},
    },
}
ADA: dict[str, Any] = {"email": "ada@example.org", "city": "London", "note": "ada-note"}
BOB: dict[str, Any] = {"email": "bob@example.org", "city": "London", "note": "bob-note"}
CYD: dict[str, Any] = {"email": "cyd@example.org", "city": "Paris", "note": "cyd-note"}

CALLER = Caller(
    tenant=DEFAULT_TENANT,
    principal="admin",
    credential="00" * 8,
    role=Role.ADMINISTRATOR,
    purpose="test",
    request_id="0" * 32,
    address="127.0.0.1",
)


@dataclass(frozen=True, slots=True)
class SmallVault:
    """Where the vault lies and what is in it.

    Attributes:
        ada: the token of a record with history.
        bob: the token of a record that expires one day.
        cyd: the token of an erased record.
    """

    folder: Path
    credential: str
    ada: bytes
    bob: bytes
    cyd: bytes

    @property
    def configuration(self) -> Configuration:
        return configuration_of(self.folder)

    @property
    def database(self) -> Path:
        """The file of SQLite, for tests that are marked sqlite_only."""
        return self.configuration.database_path

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> Rows:
        """Run a statement, with ``?`` for its parameters, past every layer of the vault."""
        return chosen_home().run(self.folder, statement, parameters)

    def copy_to(self, folder: Path) -> SmallVault:
        shutil.copytree(self.folder, folder)
        chosen_home().copy(self.folder, folder)
        return SmallVault(folder, self.credential, self.ada, self.bob, self.cyd)

    @contextmanager
    def opened(self) -> Iterator[Vault]:
        vault = bootstrap.open_vault(self.configuration)
        try:
            yield vault
        finally:
            vault.close()

    def findings(self) -> list[Finding]:
        """What opening or verification finds."""
        try:
            with self.opened() as vault:
                return vault.verify(lambda: None).findings
        except IntegrityError as error:
            return [Finding(error.finding, error.where)]
        except MisconfiguredError as error:
            return [Finding("misconfigured", error.detail)]

    def codes(self) -> set[str]:
        return {finding.code for finding in self.findings()}

    @contextmanager
    def tampering(self) -> Iterator[sqlite3.Connection]:
        """The attacker's own connection to a file of SQLite; what the body does is committed."""
        with closing(sqlite3.connect(self.database, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = off")
            yield connection


def say(figures: str) -> None:
    """Show figures to whoever runs pytest with ``-s`` or ``-rP``."""
    sys.stdout.write(f"{figures}\n")


def people_key(token: bytes) -> RecordKey:
    return RecordKey(DEFAULT_TENANT, PEOPLE, token)


def store(vault: Vault, data: dict[str, Any], **options: Any) -> RecordRow:
    return vault.services.records.create(CALLER, PEOPLE, NewDocument(data, **options))


def change(vault: Vault, token: bytes, data: dict[str, Any]) -> RecordRow:
    return vault.services.records.replace(CALLER, people_key(token), NewDocument(data), if_match=None)


def erase(vault: Vault, token: bytes) -> None:
    vault.services.erasures.erase(CALLER, people_key(token), if_match=None)


def record_row(vault: Vault, token: bytes) -> RecordRow:
    row = vault.stores.records.find(people_key(token))
    assert row is not None
    return row


def configuration_of(folder: Path) -> Configuration:
    """That of the vault with this data folder, with its rows where this run's vaults have them."""
    section = chosen_home().section(folder)
    return load_configuration(None, folder, {"database": section} if section else None)


def make_empty_vault(folder: Path, *, history: int = 2) -> SmallVault:
    """A vault with the collection ``people`` and no record."""
    configuration = configuration_of(folder)
    credential = bootstrap.create_vault(configuration)
    made = SmallVault(folder, credential.text, b"", b"", b"")
    with made.opened() as vault:
        vault.services.collections.define(CALLER, PEOPLE, PEOPLE_SCHEMA, Settings(history=history))
    return made


def make_small_vault(folder: Path) -> SmallVault:
    empty = make_empty_vault(folder)
    with empty.opened() as vault:
        ada = store(vault, ADA | {"note": "ada-before"}).token
        change(vault, ada, ADA)
        bob = store(vault, BOB, expires_at=system_clock() + 10**15).token
        cyd = store(vault, CYD).token
        erase(vault, cyd)
        vault.engine.scrub()
    return SmallVault(folder, empty.credential, ada, bob, cyd)
