"""A vault in the tests' own process: asked through its application without a socket, by a clock that can be set ahead."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from flask.testing import FlaskClient

from tests.conftest import JSON, Answer, check_form
from tests.servers.database_homes import chosen_home
from vault import bootstrap
from vault.api.app import create_app
from vault.bootstrap import Vault, working
from vault.config import Configuration, load_configuration
from vault.core.clock import system_clock
from vault.telemetry.metrics import Metrics

HOUR = 3_600_000_000


def configuration_of(folder: Path) -> Configuration:
    """That of the vault with this data folder."""
    return load_configuration(None, folder, {"database": chosen_home().section(folder)})


def copy_vault(source: Path, target: Path) -> None:
    """Copy a vault that nobody has open."""
    shutil.copytree(source, target)
    chosen_home().copy(source, target)


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
        return cls(folder, bootstrap.create_vault(configuration_of(folder)).text)

    def clock(self) -> int:
        return system_clock() + self.ahead

    def open(self) -> None:
        with mock.patch("vault.bootstrap.opening.system_clock", self.clock):
            self.vault = bootstrap.open_vault(configuration_of(self.folder))
        chosen_home().hurry(self.vault)
        self.client = create_app(self.vault.services).test_client()

    def close(self) -> None:
        self.vault.close()

    def copy_to(self, folder: Path) -> InProcess:
        """A second vault that has all this one has."""
        self.close()
        copy_vault(self.folder, folder)
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
        return chosen_home().run(self.folder, statement, parameters)

    def findings(self) -> list[Any]:
        """What a verification finds."""
        return list(self.vault.verify(lambda: None).findings)

    def work(self) -> None:
        """Let the background worker do everything that waits by this vault's clock."""
        configuration = configuration_of(self.folder)
        with mock.patch("vault.bootstrap.working.system_clock", self.clock):
            worker = working._worker(self.vault, configuration, Metrics("test"))
            worker.run_once(threading.Event())
