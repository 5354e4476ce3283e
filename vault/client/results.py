"""What a vault answers, as frozen values.

Fields that a newer server adds are ignored; one that is missing raises ``KeyError`` here and becomes
``UnexpectedAnswer`` at the call. Personal values are left out of every ``repr``, which ends in logs too easily.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self
from uuid import UUID

Json = Mapping[str, Any]


def instant(text: str) -> datetime:
    """Read an RFC 3339 time as an aware datetime in UTC.

    Raises:
        ValueError: not a time, or one without an offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a time without an offset")
    return moment.astimezone(UTC)


def instant_or_none(text: str | None) -> datetime | None:
    """Read an RFC 3339 time, or the null in its place."""
    return None if text is None else instant(text)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecordMetadata:
    """A record without its content.

    Attributes:
        token: the record's public reference, to be kept in your own database.
        generation: 1 at first, one more with each write by a user.
        etag: names this very state; pass it as ``if_match`` to write only if nobody else did. None in lists.
        replayed: this write was carried out before, and the vault has told again what came of it.
    """

    token: UUID
    collection: str
    generation: int
    schema_version: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    etag: str | None
    replayed: bool = False

    @classmethod
    def read(cls, document: Json, etag: str | None, *, replayed: bool = False) -> Self:
        """Build from the server's document and its headers."""
        return cls(**_metadata(document, etag), replayed=replayed)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record(RecordMetadata):
    """A record with its content.

    Attributes:
        data: the document, masked or plain.
        reveal: ``masked`` or ``plain``.
        masked: JSON pointers of the values that stand masked in ``data``.
    """

    data: dict[str, Any] = dataclasses.field(repr=False)
    reveal: str
    masked: tuple[str, ...]

    @classmethod
    def read(cls, document: Json, etag: str | None, *, replayed: bool = False) -> Self:
        """Build from the server's document and its headers."""
        return cls(
            **_metadata(document, etag),
            replayed=replayed,
            data=document["data"],
            reveal=document["reveal"],
            masked=tuple(document.get("masked") or ()),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecordPage:
    """One page of a list of records.

    Attributes:
        next_cursor: where the list goes on; None if this was the last page.
    """

    items: tuple[RecordMetadata, ...]
    next_cursor: str | None

    @classmethod
    def read(cls, document: Json) -> Self:
        """Build from the server's document."""
        return cls(
            items=tuple(RecordMetadata.read(item, None) for item in document["items"]),
            next_cursor=document["next_cursor"],
        )


def _metadata(document: Json, etag: str | None) -> dict[str, Any]:
    return {
        "token": UUID(document["token"]),
        "collection": document["collection"],
        "generation": document["generation"],
        "schema_version": document["schema_version"],
        "created_at": instant(document["created_at"]),
        "updated_at": instant(document["updated_at"]),
        "expires_at": instant_or_none(document.get("expires_at")),
        "etag": etag or document.get("etag"),
    }


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersionName:
    """A version of a keyring, by name."""

    keyring: str
    version: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What was done about a record, and whether any backup can still bring it back.

    Attributes:
        state: ``done``: gone from the live database; ``final``: no backup can bring it back.
        erased_at: when the live rows went.
        final_at: when the erasure is (or was) final; None if that is not known yet.
        key_versions: those that could still open the record in a backup; final once all are destroyed.
    """

    token: UUID
    collection: str
    state: str
    erased_at: datetime
    final_at: datetime | None
    key_versions: tuple[KeyVersionName, ...]

    @classmethod
    def read(cls, document: Json) -> Self:
        """Build from the server's document."""
        return cls(
            token=UUID(document["token"]),
            collection=document["collection"],
            state=document["state"],
            erased_at=instant(document["erased_at"]),
            final_at=instant_or_none(document.get("final_at")),
            key_versions=tuple(
                KeyVersionName(keyring=named["keyring"], version=named["version"])
                for named in document["key_versions"]
            ),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSettings:
    """How a collection is kept.

    Attributes:
        strict: refuse fields that the schema does not declare.
        history: how many earlier generations of a record stay readable.
        purpose_required: refuse calls that do not say what they are for.
        if_match_required: refuse writes without ``if_match``.
        default_region: the country (``DE``) that phone numbers without one belong to.
    """

    strict: bool = False
    history: int = 0
    purpose_required: bool = False
    if_match_required: bool = False
    default_region: str | None = None

    @classmethod
    def read(cls, document: Json) -> Self:
        """Build from the server's document."""
        return cls(
            strict=document["strict"],
            history=document["history"],
            purpose_required=document["purpose_required"],
            if_match_required=document["if_match_required"],
            default_region=document.get("default_region"),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CollectionInfo:
    """A record type: its JSON Schema, how it is kept, and the keyring that seals it."""

    name: str
    schema_version: int
    schema: Json = dataclasses.field(repr=False)
    settings: CollectionSettings
    keyring: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def read(cls, document: Json) -> Self:
        """Build from the server's document."""
        return cls(
            name=document["name"],
            schema_version=document["schema_version"],
            schema=document["schema"],
            settings=CollectionSettings.read(document["settings"]),
            keyring=document["keyring"],
            created_at=instant(document["created_at"]),
            updated_at=instant(document["updated_at"]),
        )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Someone to search the audit log for; the server resolves the value and does not keep it."""

    collection: str
    field: str
    value: str = dataclasses.field(repr=False)
    region: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One audit event: who did what, to which record, when and why.

    Attributes:
        credential: the public name of what the principal showed.
        fields: the schema's names of what was touched; ``*other`` for names it does not declare.
        lookup_field: the field by whose value the record, or the person, was looked for.
        reveal: ``masked`` or ``plain``, where data was released.
        count: how many alike events this entry stands for; more than 1 only for refused strangers.
    """

    id: str
    time: datetime
    principal: str | None
    credential: str | None
    action: str
    result: str
    reason: str | None
    collection: str | None
    token: UUID | None
    generation: int | None
    purpose: str | None
    request_id: str | None
    fields: tuple[str, ...]
    lookup_field: str | None
    reveal: str | None
    address: str | None
    count: int

    @classmethod
    def read(cls, document: Json) -> Self:
        """Build from the server's document."""
        token = document.get("token")
        return cls(
            id=str(document["id"]),
            time=instant(document["time"]),
            principal=document.get("principal"),
            credential=document.get("credential"),
            action=document["action"],
            result=document["result"],
            reason=document.get("reason"),
            collection=document.get("collection"),
            token=None if token is None else UUID(token),
            generation=document.get("generation"),
            purpose=document.get("purpose"),
            request_id=document.get("request_id"),
            fields=tuple(document.get("fields") or ()),
            lookup_field=document.get("lookup_field"),
            reveal=document.get("reveal"),
            address=document.get("address"),
            count=document.get("count") or 1,
        )
