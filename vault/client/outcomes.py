"""What became of a batch, operation by operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from vault.client.arguments import checked_token
from vault.client.errors import StrongroomError
from vault.client.operations import Create, Erase, Get, Lookup, Operation, Update
from vault.client.problems import problem_error
from vault.client.results import Json, Record, RecordMetadata


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkItem:
    """What became of one operation.

    Attributes:
        status: the HTTP status that the operation would have had as a request of its own.
        token: the record's; None for a look-up, and for a record that was not stored.
        metadata: after a create or update.
        record: what a get has read.
        found: the records of a look-up.
        next_cursor: where a look-up goes on; None if that was all.
        error: why the operation was refused; None if it was carried out. It is not raised.
    """

    status: int
    token: UUID | None = None
    metadata: RecordMetadata | None = None
    record: Record | None = None
    found: tuple[Record, ...] | None = None
    next_cursor: str | None = None
    error: StrongroomError | None = None

    @classmethod
    def read(cls, document: Json, operation: Operation, *, replayed: bool) -> Self:
        """Build from the server's document and the operation that it answers."""
        status = document["status"]
        token = None if isinstance(operation, Create | Lookup) else checked_token(operation.token)
        if "problem" in document:
            error = problem_error(status, document["problem"], retry_after=None)
            return cls(status=status, token=token, error=error)
        match operation:
            case Lookup():
                found = tuple(Record.read(item, None) for item in document["items"])
                return cls(status=status, found=found, next_cursor=document["next_cursor"])
            case Get():
                return cls(status=status, token=token, record=Record.read(document, None))
            case Create() | Update() if "token" in document:  # a dry run gives the status only
                metadata = RecordMetadata.read(document, None, replayed=replayed)
                return cls(status=status, token=metadata.token, metadata=metadata)
            case Create() | Update() | Erase():
                return cls(status=status, token=token)


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResult:
    """What became of a batch.

    Attributes:
        items: one for each operation, in their order.
        failed: how many of them were refused.
        replayed: the vault had carried out this very batch before and has told again what came of it.
    """

    items: tuple[BulkItem, ...]
    failed: int
    replayed: bool

    @classmethod
    def read(cls, document: Json, operations: Sequence[Operation], *, replayed: bool) -> Self:
        """Build from the server's document and the operations that it answers.

        Raises:
            ValueError: not as many items as operations.
        """
        items = tuple(
            BulkItem.read(item, operation, replayed=replayed)
            for item, operation in zip(document["items"], operations, strict=True)
        )
        return cls(items=items, failed=document["failed"], replayed=replayed)
