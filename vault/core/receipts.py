"""What is remembered of a request that carried an Idempotency-Key: who won, and nothing of what it said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one operation of a request.

    Attributes:
        tenant: the tenant's name.
        request_hash: HMAC of principal, method, path and key, 32 bytes.
        position: of the operation; -1 stands for a batch as a whole.
        body_hash: HMAC of the operation, 32 bytes; None for a whole batch, and once the record is erased.
        status: the HTTP status.
        code: the problem code of a refused operation.
        collection: the record type.
        token: the record, 16 bytes; None if none was touched.
        generation: the record's generation that was written.
        expires_at: UTC microseconds.
    """

    tenant: str
    request_hash: bytes
    position: int
    body_hash: bytes | None
    status: int
    code: str | None
    collection: str
    token: bytes | None
    generation: int | None
    expires_at: int


class ReceiptExistsError(Exception):
    """A twin of this request committed first; nothing of this one was kept. Answer from its receipts."""


class ReceiptStore(Protocol):
    """Receipts are written with the records that they name; here they are found."""

    def find(self, tenant: str, request_hash: bytes) -> list[Receipt]:
        """The receipts of one request in the order of their positions; none is an empty list."""
        ...
