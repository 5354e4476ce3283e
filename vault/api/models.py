"""The bodies of requests and answers, as the OpenAPI document describes them.

They describe and do not run: requests are read in ``bodies``, answers are written by the views. A test sends real
answers through these models, so the description cannot drift from the code.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """What all shapes share: a member that nobody declared is wrong."""

    model_config = ConfigDict(extra="forbid")


class ProblemItem(Model):
    """One thing that is wrong."""

    pointer: str = Field(description="RFC 6901 JSON pointer; undeclared names stand as *other")
    code: str
    detail: str | None = None


class Problem(Model):
    """RFC 9457 problem details."""

    type: str = Field(
        description="urn:strongroom:error:CODE", examples=["urn:strongroom:error:duplicate-value"]
    )
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[ProblemItem] = []
    index: int | None = Field(
        default=None, description="of an atomic batch: the place of the refused operation"
    )


class RecordMetadata(Model):
    """What is known of a record without opening it."""

    token: UUID
    collection: str
    generation: int
    schema_version: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None


class Record(RecordMetadata):
    """A record with its document."""

    data: dict[str, Any]
    reveal: Literal["masked", "plain"]
    masked: list[str] = Field(description="JSON pointers of the fields that are masked")


class RecordPage(Model):
    """A page of records without their documents."""

    items: list[RecordMetadata]
    next_cursor: str | None


class FoundRecords(Model):
    """What a look-up found; none is an empty list."""

    items: list[Record]
    next_cursor: str | None


class NewRecord(Model):
    """A document to store."""

    data: dict[str, Any] = Field(description="at most 1 MiB as JSON, 32 levels, 10,000 members")
    expires_at: datetime | None = None
    region: str | None = Field(default=None, description="for telephone numbers without +", examples=["DE"])


class LookupRequest(Model):
    """A look-up by the value of an indexed field. Values never stand in a URL."""

    field: str
    value: str
    region: str | None = None
    reveal: Literal["masked", "plain"] = "masked"
    fields: list[str] | None = None
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = None


class Erasure(Model):
    """What became of an erased record."""

    token: UUID
    collection: str
    state: Literal["done", "final"] = Field(
        description="done: gone from the live database; final: no backup can bring it back"
    )
    erased_at: datetime
    final_at: datetime | None
    key_versions: list[KeyVersionReference] = Field(
        description="versions that could still open the record in a backup; final once all are destroyed"
    )


class KeyVersionReference(Model):
    """A key version by name."""

    keyring: str
    version: int


class CollectionSettings(Model):
    """How a collection treats its records."""

    strict: bool = False
    history: int = Field(default=0, ge=0, le=1000)
    purpose_required: bool = False
    if_match_required: bool = False
    default_region: str | None = None


class CollectionRequest(Model):
    """A record type: a JSON Schema (draft 2020-12) with x-index, x-normalize, x-mask."""

    json_schema: dict[str, Any] = Field(alias="schema", description="at most 64 KiB")
    settings: CollectionSettings = CollectionSettings()
    keyring: str | None = Field(
        default=None,
        description="which keyring seals its records; left out: as it is, or for a new one the tenant's, or default",
    )


class Collection(CollectionRequest):
    """A collection as it is in force."""

    name: str
    schema_version: int
    keyring: str
    created_at: datetime
    updated_at: datetime


class CollectionList(Model):
    """All collections."""

    items: list[Collection]
    next_cursor: str | None


class Person(Model):
    """Whose entries to find; the value is resolved through the live index and never stored."""

    collection: str
    field: str
    value: str
    region: str | None = None


class AuditQuery(Model):
    """What to search the access log for; members left out match all."""

    principal: str | None = None
    token: UUID | None = None
    person: Person | None = None
    action: str | None = None
    result: str | None = None
    collection: str | None = None
    purpose: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = None


class AuditEntry(Model):
    """One entry of the access log."""

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
    fields: list[str]
    lookup_field: str | None
    reveal: str | None
    purpose: str | None
    request_id: str | None
    address: str | None
    count: int | None


class AuditPage(Model):
    """Entries, newest first."""

    items: list[AuditEntry]
    next_cursor: str | None


class ReadinessAnswer(Model):
    """Whether this process can answer requests, and if not, why."""

    status: Literal["ready", "not-ready"]
    store: str
    providers: dict[str, str] = Field(
        description="each key provider: ok, down, sealed, throttled, auth, denied, key-missing or canary-rejected"
    )


class HealthAnswer(Model):
    """The process runs."""

    status: Literal["ok"]


class ReadQuery(Model):
    """How much of a record to show."""

    reveal: Literal["masked", "plain"] = "masked"
    fields: str | None = Field(default=None, description="comma-separated top-level fields")
    generation: int | None = Field(
        default=None, ge=1, description="an earlier one, if the collection keeps them"
    )


class PageQuery(Model):
    """Which slice of a list."""

    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = None


class PurposeHeader(BaseModel):
    """Why; recorded in the access log, demanded by some collections."""

    purpose: str | None = Field(default=None, alias="Strongroom-Purpose", pattern="^[a-z0-9._:-]{1,64}$")


class CreateHeaders(PurposeHeader):
    """A key under which the request is carried out once, however often it is sent."""

    idempotency_key: str | None = Field(
        default=None,
        alias="Idempotency-Key",
        pattern="^[\\x21-\\x7e]{1,128}$",
        description="kept for 24 hours; batches that read and dry runs take none",
    )


class WriteHeaders(PurposeHeader):
    """The state that a change is based on."""

    if_match: str | None = Field(default=None, alias="If-Match", description="the ETag of your last read")
