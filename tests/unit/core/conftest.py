"""A whole vault over SQLite and in-memory keys, with a hand inside: rows can be put as a rotation will put them."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from keyproviders.interface import ProviderSettings
from keyproviders.memory import MemoryKeyAdministration, MemoryProviderType
from vault import bootstrap
from vault.config import load_configuration
from vault.core.policy import Caller
from vault.core.record_drafts import NewDocument
from vault.core.rows import KeyState, KeyVersionRow, RecordRow, Row, StoredKeyRow
from vault.storage.statements import RowMapper

CALLER = Caller(tenant="default", principal="admin", credential="00" * 8, role="administrator")


@dataclass
class Lab:
    """An opened vault, and what only tests may do to it."""

    vault: bootstrap.Vault
    administration: MemoryKeyAdministration
    provider: str
    credential: str
    configuration: Any

    @property
    def caller(self) -> Caller:
        return CALLER

    def create(self, **data: Any) -> RecordRow:
        return self.vault.services.records.create(CALLER, "users", NewDocument(data))

    def version(self, number: int = 1) -> KeyVersionRow:
        (row,) = [row for row in self.vault.stores.keys.key_versions() if row.version == number]
        return row

    def stored_key(self, purpose: str) -> StoredKeyRow:
        (row,) = [
            row
            for row in self.vault.stores.keys.stored_keys()
            if row.purpose == purpose and row.state == KeyState.ACTIVE
        ]
        return row

    def put(self, row: Row) -> None:
        """Sign a row and store it: in place of the one with its id, or as a new one."""
        signed = self.vault.keyrings.authenticator("default").sign(row)
        mapper = RowMapper(type(row))
        statement = mapper.insert() if row.id is None else mapper.update(mapper.table.id == row.id)
        with self.vault.engine.write() as database:
            assert statement.run(database, mapper.values(signed)).rowcount == 1

    def execute(self, statement: str, *values: Any) -> Any:
        """Run a statement past every layer of the vault."""
        with self.vault.engine.write() as database:
            return database.execute_sql(statement, values)

    def rotate(self) -> int:
        """Make the next key version, as a rotation will: the old one deactivated, the new one active."""
        provider_version = self.administration.rotate("records")
        active = self.vault.keyrings.get("default", "default").active
        self.put(replace(active, state=KeyState.DEACTIVATED.value))
        self.put(
            replace(
                active,
                id=None,
                version=active.version + 1,
                provider_version=provider_version,
                state=KeyState.ACTIVE.value,
            )
        )
        return active.version + 1

    def reopened(self) -> bootstrap.Vault:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bootstrap.open_vault(self.configuration)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    name = f"memory_{uuid.uuid4().hex}"  # keys of one name are shared by the process
    overrides = {
        "providers": {name: {"type": "memory"}},
        "keyrings": {"default": {"provider": name, "key": "records"}},
    }
    configuration = load_configuration(None, tmp_path / "data", overrides)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that keys in memory are lost is the point here
        administration = MemoryProviderType().open_administration(ProviderSettings(name, {}, tmp_path))
        credential = bootstrap.create_vault(configuration)
        vault = bootstrap.open_vault(configuration)
    yield Lab(vault, administration, name, credential.text, configuration)
    vault.close()
