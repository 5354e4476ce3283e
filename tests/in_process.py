"""A vault in the tests' own process: asked through its application without a socket, by a clock that can be set ahead."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from flask.testing import FlaskClient

from tests.conftest import JSON, Answer, check_form
from vault import bootstrap
from vault.api.app import create_app
from vault.bootstrap import Vault, working
from vault.config import load_configuration
from vault.core.clock import system_clock
from vault.telemetry.metrics import Metrics

HOUR = 3_600_000_000


class InProcess:
    """An opened vault.

    Args:
        folder: its data folder.
        credential: the administrator's.

    Attributes:
        vault: what is inside.
        client: asks it.
        ahead: how far its clock goes ahead of the system's, in microseconds.
    """

    def __init__(self, folder: Path, credential: str) -> None:
        self.folder = folder
        self.ahead = 0
        self.credential = credential
        self.vault: Vault
        self.client: FlaskClient
        self.open()

    @classmethod
    def create(cls, folder: Path) -> InProcess:
        """Make a new vault."""
        return cls(folder, bootstrap.create_vault(load_configuration(None, folder)).text)

    def clock(self) -> int:
        return system_clock() + self.ahead

    def open(self) -> None:
        with mock.patch("vault.bootstrap.opening.system_clock", self.clock):
            self.vault = bootstrap.open_vault(load_configuration(None, self.folder))
        # What is stored does not depend on it, only how long the test waits for the disk.
        self.vault.engine.database.execute_sql("PRAGMA synchronous = off")
        self.client = create_app(self.vault.services).test_client()

    def close(self) -> None:
        self.vault.close()

    def copy_to(self, folder: Path) -> InProcess:
        """A second vault that has all this one has."""
        self.close()
        shutil.copytree(self.folder, folder)
        self.open()
        return InProcess(folder, self.credential)

    def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask and check the answer's form."""
        sent = {"Authorization": f"Bearer {self.credential}"} | dict(headers or {})
        body = None
        if document is not None:
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            sent["Content-Type"] = content_type
        response = self.client.open(path, method=method, data=body, headers=sent)
        answer = Answer(response.status_code, response.headers, response.data)
        check_form(method, path, answer)
        return answer

    def post(self, path: str, document: Any = None, **headers: str) -> Answer:
        """Ask with headers by name: ``Idempotency_Key="k"``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, document, headers=named)

    def define(self, name: str, properties: dict[str, Any], **settings: Any) -> str:
        """Make a collection and return the path of its records."""
        schema = {"type": "object", "properties": properties}
        self.ask("PUT", f"/v1/collections/{name}", {"schema": schema, "settings": settings}).gives(201)
        return f"/v1/collections/{name}/records"

    def rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a SELECT past every layer of the vault."""
        with closing(sqlite3.connect(self.folder / "strongroom.db")) as connection:
            return connection.execute(statement, parameters).fetchall()

    @contextmanager
    def tampering(self) -> Iterator[sqlite3.Connection]:
        """The attacker's own connection; what the body does is committed."""
        with closing(sqlite3.connect(self.folder / "strongroom.db", isolation_level=None)) as connection:
            yield connection

    def findings(self) -> list[Any]:
        """What a verification finds."""
        return list(self.vault.verify(lambda: None).findings)

    def work(self) -> None:
        """Let the background worker do everything that waits by this vault's clock."""
        configuration = load_configuration(None, self.folder)
        with mock.patch("vault.bootstrap.working.system_clock", self.clock):
            worker = working._worker(self.vault, configuration, Metrics("test"))
            worker.run_once(threading.Event())
