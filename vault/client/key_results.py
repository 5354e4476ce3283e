"""What a vault answers about its keys and its work in the background, as frozen values."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Self

from vault.client.results import Json, instant, instant_or_none


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersion:
    """One version of a keyring, with the number of things that need it.

    Attributes:
        version: the keyring's own counter, never reused.
        state: ``pending``, ``active``, ``deactivated``, ``retired`` or ``destroyed``.
        adopted_at: when it was found in the provider without having been made for this keyring.
        compromised: somebody may have had the key: rotate away from it.
        records: live records whose data key it wraps.
        history: kept earlier generations.
        stored_keys: index and MAC keys.
    """

    version: int
    state: str
    compromised: bool
    adopted_at: datetime | None = None
    provider: str
    algorithm: str
    created_at: datetime
    records: int
    history: int
    stored_keys: int

    @classmethod
    def read(cls, document: Json) -> Self:
        """Build from the server's document."""
        return cls(
            version=document["version"],
            state=document["state"],
            compromised=document["compromised"],
            adopted_at=instant_or_none(document.get("adopted_at")),
            provider=document["provider"],
            algorithm=document["algorithm"],
            created_at=instant(document["created_at"]),
            records=document["records"],
            history=document["history"],
            stored_keys=document["stored_keys"],
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """A lineage of key versions, and the census of what depends on each."""

    name: str
    provider: str
    active_version: int
    versions: tuple[KeyVersion, ...]

    @classmethod
    def read(cls, document: Json) -> Self:
        """Build from the server's document."""
        return cls(
            name=document["name"],
            provider=document["provider"],
            active_version=document["active_version"],
            versions=tuple(KeyVersion.read(version) for version in document["versions"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeyExposure:
    """The unwrapped data keys that one process keeps in memory, or all of them together.

    Attributes:
        data_keys: how many.
        until: when the last of them is forgotten; None if there is none.
        process: which process, for people; None for all together.
    """

    data_keys: int
    until: datetime | None
    process: str | None = None
    processes: tuple[KeyExposure, ...] = ()

    @classmethod
    def read(cls, document: Json) -> Self:
        """Build from the server's document."""
        return cls(
            data_keys=document["data_keys"],
            until=instant_or_none(document["until"]),
            process=f"{document['role']} {document['pid']} on {document['host']}"
            if "pid" in document
            else None,
            processes=tuple(cls.read(process) for process in document.get("processes", ())),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work in the background: standing work, or what somebody asked for.

    Attributes:
        state: ``standing``, ``waiting``, ``running``, ``done`` or ``failed``.
        waits_for: what it waits for, a sentence for people; None if for nothing.
        key_version: the version that it has made or found.
        error: why it failed.
    """

    id: str
    operation: str
    state: str
    waits_for: str | None
    keyring: str | None
    key_version: int | None
    requested_by: str | None
    error: str | None
    created_at: datetime
    updated_at: datetime

    @property
    def is_over(self) -> bool:
        """Whether nothing more will be done for it."""
        return self.state in {"done", "failed"}

    @classmethod
    def read(cls, document: Json) -> Self:
        """Build from the server's document."""
        return cls(
            id=document["id"],
            operation=document["operation"],
            state=document["state"],
            waits_for=document["waits_for"],
            keyring=document["keyring"],
            key_version=document["key_version"],
            requested_by=document["requested_by"],
            error=document["error"],
            created_at=instant(document["created_at"]),
            updated_at=instant(document["updated_at"]),
        )
