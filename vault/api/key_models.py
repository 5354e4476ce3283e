"""The shapes of answers about keys and jobs, for the description."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from vault.api.models import Model


class KeyVersion(Model):
    """One key version and how many rows need it."""

    version: int
    state: Literal["pending", "active", "deactivated", "retired", "destroyed"]
    compromised: bool
    adopted_at: datetime | None = Field(
        description="when it was found in the provider without having been made for this keyring"
    )
    provider: str
    provider_key: str
    provider_version: int
    algorithm: str
    created_at: datetime
    activated_at: datetime | None
    deactivated_at: datetime | None
    records: int
    history: int
    stored_keys: int


class Keyring(Model):
    """One keyring."""

    name: str
    provider: str
    active_version: int
    index_key: int
    index_entries: int
    versions: list[KeyVersion]


class ProcessExposure(Model):
    """What one live process keeps in memory, as of its last sign of life."""

    host: str
    pid: int
    role: str
    data_keys: int
    until: datetime | None
    as_of: datetime


class Exposure(Model):
    """The unwrapped data keys that all live processes keep, and when the last of them is forgotten."""

    data_keys: int
    until: datetime | None
    processes: list[ProcessExposure]


class KeyringList(Model):
    """The census of all keyrings, and the exposure."""

    items: list[Keyring]
    next_cursor: str | None
    exposure: Exposure


class Job(Model):
    """Work in the background: standing work, or what somebody asked for."""

    id: str
    operation: str
    state: Literal["standing", "waiting", "running", "done", "failed"]
    waits_for: str | None = Field(description="a sentence for people")
    keyring: str | None
    key_version: int | None = Field(description="the version that it has made or found")
    requested_by: str | None
    done: int
    failed: int
    error: str | None
    created_at: datetime
    updated_at: datetime


class JobList(Model):
    """All jobs, the newest last."""

    items: list[Job]
    next_cursor: str | None
