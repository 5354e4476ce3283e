"""A vault with two keyrings on two providers side by side, and what only tests may do to its keys."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyproviders.interface import KeyAdministration
from vault import bootstrap
from vault.bootstrap import Vault
from vault.bootstrap.key_doors import administration_door
from vault.config import Configuration, load_configuration
from vault.core.clock import system_clock
from vault.core.job_ports import MICROSECONDS, ProcessRow
from vault.core.key_requests import ShownJob
from vault.core.policy import Caller, Role
from vault.core.rows import KeyVersionRow
from vault.rotation.activate import ActivateKeyVersions
from vault.rotation.job import Job
from vault.rotation.key_requests import AdministrationDoor, MakeKeyVersions
from vault.rotation.proving import KeyWatch
from vault.rotation.worker import Outcome, Worker
from vault.telemetry.jobs import JobMeter
from vault.telemetry.metrics import Metrics

CALLER = Caller(tenant="default", principal="admin", credential="00" * 8, role=Role.ADMINISTRATOR)


@dataclass
class Keys:
    """An opened vault whose keys can be rotated step by step.

    Attributes:
        configuration: keyring ``default`` on provider ``disk``, ``hr`` on provider ``second``.
    """

    configuration: Configuration
    vault: Vault

    @contextmanager
    def door(self, provider: str) -> Iterator[KeyAdministration]:
        with administration_door(self.configuration, provider) as administration:
            yield administration

    def ask(self, keyring: str = "default") -> ShownJob:
        return self.vault.services.key_requests.rotate(CALLER, keyring)

    def job(self, asked: ShownJob) -> ShownJob:
        return self.vault.services.key_requests.job(CALLER, asked.row.name)

    def maker(self, doors: AdministrationDoor | None = None, vault: Vault | None = None) -> MakeKeyVersions:
        opened = vault or self.vault
        return MakeKeyVersions(
            opened.stores.rotations,
            keyrings=opened.keyrings,
            doors=doors or self.door,
            trail=opened.services.trail,
            clock=system_clock,
        )

    def activator(self, vault: Vault | None = None) -> ActivateKeyVersions:
        opened = vault or self.vault
        return ActivateKeyVersions(
            opened.stores.rotations,
            opened.stores.processes,
            keyrings=opened.keyrings,
            trail=opened.services.trail,
            clock=system_clock,
        )

    def run(self, *jobs: Job) -> list[Outcome]:
        return worker(self.vault, *jobs).run_once(threading.Event())

    def make(self) -> None:
        self.run(self.maker())

    def activate(self) -> None:
        self.run(self.activator())

    def rotate(self, keyring: str = "default") -> int:
        """From the request to the active version."""
        asked = self.ask(keyring)
        self.make()
        self.activate()
        done = self.job(asked)
        assert done.row.state == "done", done
        return done.row.key_version or 0

    def versions(self, keyring: str = "default") -> list[KeyVersionRow]:
        return [row for row in self.vault.stores.keys.key_versions() if row.keyring == keyring]

    def states(self, keyring: str = "default") -> list[str]:
        return [row.state for row in self.versions(keyring)]

    def in_provider(self, keyring: str = "default") -> list[int]:
        ring = self.vault.keyrings.get("default", keyring)
        return [version.version for version in self.vault.keyrings.key_info(ring).versions]

    def entries(self) -> list[tuple[str, str | None]]:
        """Action and reason of what the log says of keys."""
        found = self.vault.engine.database.execute_sql(
            "SELECT action, reason FROM audit_entry WHERE action LIKE 'key%' OR action LIKE 'job%' ORDER BY id"
        )
        return [(action, reason) for action, reason in found.fetchall() if action != "job.read"]

    def reopened(self) -> Vault:
        return bootstrap.open_vault(self.configuration)


def worker(vault: Vault, *jobs: Job) -> Worker:
    return Worker(
        jobs,
        vault.stores.jobs,
        owner=vault.services.trail.boot_id,
        clock=system_clock,
        meter=JobMeter(Metrics("test")),
        interval_seconds=1,
    )


def process(vault: Vault, boot_id: bytes, *, age_seconds: float = 0, **columns: Any) -> ProcessRow:
    """Put a process into the table, as alive as its age says."""
    now = system_clock()
    row = ProcessRow(
        boot_id=boot_id,
        host="elsewhere",
        pid=4711,
        role="server",
        release="0.1.0",
        started_at=now - 3600 * MICROSECONDS,
        heartbeat_at=now - round(age_seconds * MICROSECONDS),
        **columns,
    )
    vault.stores.processes.remove(boot_id)
    vault.stores.processes.write(row)
    return row


def watch_of(vault: Vault) -> KeyWatch:
    return KeyWatch(vault.stores.epoch, vault.keyrings)


def configuration_of(folder: Path, **keyrings: dict[str, str]) -> Configuration:
    """The providers ``disk`` and ``second``, and these keyrings; without any ``default`` and ``hr``."""
    return load_configuration(
        None,
        folder,
        {
            "providers": {
                "disk": {"type": "file", "path": "keys.json"},
                "second": {"type": "file", "path": "second.json"},
            },
            "keyrings": keyrings
            or {
                "default": {"provider": "disk", "key": "records"},
                "hr": {"provider": "second", "key": "people"},
            },
        },
    )


@contextmanager
def opened(configuration: Configuration) -> Iterator[Keys]:
    vault = bootstrap.open_vault(configuration)
    vault.engine.database.execute_sql("PRAGMA synchronous = off")
    try:
        yield Keys(configuration, vault)
    finally:
        vault.close()
