"""The bodies of batches, as the OpenAPI document describes them; see ``models``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from vault.api.models import Problem, Record


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CreateOperation(_Model):
    """Store a new record."""

    op: Literal["create"]
    data: dict[str, Any]
    expires_at: datetime | None = None
    region: str | None = None


class GetOperation(_Model):
    """Read a record."""

    op: Literal["get"]
    token: UUID
    reveal: Literal["masked", "plain"] = "masked"
    fields: list[str] | None = None
    generation: int | None = Field(default=None, ge=1)


class ReplaceOperation(_Model):
    """Put a new document in the place of a record's."""

    op: Literal["update"]
    token: UUID
    data: dict[str, Any]
    expires_at: datetime | None = None
    region: str | None = None
    if_match: str | None = Field(default=None, description="an ETag with its quotes, or *")


class PatchOperation(_Model):
    """Merge a patch (RFC 7396) into a record's document."""

    op: Literal["update"]
    token: UUID
    patch: dict[str, Any]
    if_match: str | None = Field(default=None, description="an ETag with its quotes, or *")


class EraseOperation(_Model):
    """Erase a record."""

    op: Literal["erase"]
    token: UUID
    if_match: str | None = Field(default=None, description="an ETag with its quotes, or *")


class LookupOperation(_Model):
    """Find records by the value of an indexed field."""

    op: Literal["lookup"]
    field: str
    value: str
    region: str | None = None
    reveal: Literal["masked", "plain"] = "masked"
    fields: list[str] | None = None
    limit: int = Field(default=100, ge=1, le=1000)
    cursor: str | None = None


Operation = (
    CreateOperation | GetOperation | ReplaceOperation | PatchOperation | EraseOperation | LookupOperation
)


class BulkRequest(_Model):
    """Operations that are carried out in their order, in one transaction."""

    operations: Annotated[list[Operation], Field(min_length=1, max_length=1000)]
    atomic: bool = Field(default=False, description="all or nothing")
    dry_run: bool = Field(default=False, description="find out what would happen; writes only")


class RefusedItem(_Model):
    """An operation that was not carried out."""

    status: int
    problem: Problem


class WrittenItem(_Model):
    """A create (201) or an update (200)."""

    status: Literal[200, 201]
    token: UUID
    collection: str
    generation: int
    schema_version: int
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    etag: str | None = Field(description="null in a replay if the record was written since")


class ErasedItem(_Model):
    """An erase."""

    status: Literal[204]
    token: UUID


class RecordWithEtag(Record):
    """A record with its document and ETag."""

    etag: str


class ReadItem(RecordWithEtag):
    """A get."""

    status: Literal[200]


class FoundItem(_Model):
    """A look-up."""

    status: Literal[200]
    items: list[RecordWithEtag]
    next_cursor: str | None


class RehearsedItem(_Model):
    """What a write of a dry run would have answered."""

    status: Literal[200, 201, 204]


class BulkAnswer(_Model):
    """What became of each operation, in their order."""

    items: list[RefusedItem | WrittenItem | ReadItem | FoundItem | ErasedItem | RehearsedItem]
    failed: int = Field(description="how many were refused")
    dry_run: Literal[True] | None = None
