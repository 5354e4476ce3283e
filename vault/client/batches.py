"""The calls about many records at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from vault.client.arguments import checked_key, new_key, records_path
from vault.client.documents import encode
from vault.client.errors import InvalidRequest
from vault.client.operations import READS, Create, Operation
from vault.client.outcomes import BulkItem, BulkResult
from vault.client.session import Session, read_answer

MOST_OPERATIONS = 1_000
"""How many operations a vault takes at once."""
ENOUGH_BYTES = 8 * 1024 * 1024
"""Where ``create_many`` ends a batch; a vault takes twice that."""
_TOO_LARGE = 413
_BATCH_NUMBER_DIGITS = 9


class BatchCalls:
    """What a client can do with many records at once."""

    _session: Session

    def bulk(
        self,
        collection: str,
        operations: Iterable[Operation],
        *,
        atomic: bool = False,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> BulkResult:
        """Carry out up to 1,000 operations in their order, in one transaction.

        An operation that is refused leaves nothing and is told in its item; the others are carried out. With
        ``atomic`` it is all or nothing.

        Args:
            collection: the record type.
            operations: ``Create``, ``Get``, ``Update``, ``Erase`` and ``Lookup``; each token once.
            atomic: raise the first refusal, with its place in ``index``, and store nothing.
            dry_run: only tell what would be refused; for writes.
            idempotency_key: names this batch of writes, so that it is carried out once however often it is sent;
                one of its own if None.

        Raises:
            StrongroomError: the batch as a whole was refused, or an operation of it if ``atomic``.
            ValueError: an operation that must not be sent, or a key for a batch that reads or is a dry run.
        """
        listed = [*operations]
        parts = [_encoded(operation, f"operation {index}") for index, operation in enumerate(listed)]
        return self._send_batch(
            collection, listed, parts, atomic=atomic, dry_run=dry_run, idempotency_key=idempotency_key
        )

    def create_many(
        self,
        collection: str,
        documents: Iterable[Mapping[str, Any] | Create],
        *,
        expires_at: datetime | None = None,
        region: str | None = None,
        idempotency_key: str | None = None,
    ) -> Iterator[BulkItem]:
        """Store any number of records, in batches, and tell what became of each, in their order.

        Documents are taken as you go, at most 1,000 or about 8 MiB ahead. One that is refused is told in its item
        and does not hold up the others; one that cannot be sent at all ends the walk, after those before it.

        Args:
            collection: the record type.
            documents: a document each, or ``Create`` for one with an expiry or region of its own.
            expires_at: for all plain documents.
            region: for all plain documents.
            idempotency_key: names this job, at most 118 characters: within 24 hours the same job with the same
                documents stores nothing twice. Each batch has a key of its own if None.

        Raises:
            StrongroomError: a batch could not be sent; what came before it is stored.
            ValueError: a document that cannot be sent; the sentence says which.
        """
        records_path(collection)
        if idempotency_key is not None:
            checked_key(f"{idempotency_key}:{'0' * _BATCH_NUMBER_DIGITS}")
        operations = (
            document
            if isinstance(document, Create)
            else Create(document, expires_at=expires_at, region=region)
            for document in documents
        )
        return self._create_many(collection, operations, idempotency_key)

    def _create_many(
        self, collection: str, operations: Iterable[Create], job_key: str | None
    ) -> Iterator[BulkItem]:
        for number, (batch, parts) in enumerate(_batches(operations)):
            key = None if job_key is None else f"{job_key}:{number}"
            try:
                result = self._send_batch(collection, batch, parts, idempotency_key=key)
            except InvalidRequest as error:
                # A document too large for any batch stands alone in its own, and is refused like any other.
                if error.status != _TOO_LARGE or len(batch) > 1:
                    raise
                yield BulkItem(status=_TOO_LARGE, error=error)
            else:
                yield from result.items

    def _send_batch(
        self,
        collection: str,
        operations: Sequence[Operation],
        parts: Iterable[bytes],
        *,
        atomic: bool = False,
        dry_run: bool = False,
        idempotency_key: str | None = None,
    ) -> BulkResult:
        reads = [isinstance(operation, READS) for operation in operations]
        is_written_once = not (dry_run or any(reads))
        if idempotency_key is not None and not is_written_once:
            raise ValueError(
                "an idempotency key is for writes: not for a batch that reads, nor for a dry run"
            )
        if is_written_once:
            idempotency_key = new_key() if idempotency_key is None else checked_key(idempotency_key)
        head = encode({"atomic": atomic, "dry_run": dry_run})
        answer = self._session.send(
            "POST",
            f"{records_path(collection)}/bulk",
            content=b'%b,"operations":[%b]}' % (head[:-1], b",".join(parts)),
            idempotency_key=idempotency_key,
            reads=dry_run or all(reads),
        )
        return read_answer(answer, BulkResult.read, answer.document, operations, replayed=answer.replayed)


def _encoded(operation: Operation, name: str) -> bytes:
    if not isinstance(operation, Operation):
        raise TypeError(f"{name}: not a Create, Get, Update, Erase or Lookup")
    try:
        return encode(operation.document())
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}") from None


def _batches(operations: Iterable[Create]) -> Iterator[tuple[list[Create], list[bytes]]]:
    """Part operations into batches that a vault takes, each with its encoded parts."""
    batch: list[Create] = []
    parts: list[bytes] = []
    size = 0
    for index, operation in enumerate(operations):
        try:
            part = _encoded(operation, f"document {index}")
        except (TypeError, ValueError):
            if batch:
                yield batch, parts
            raise
        if batch and size + len(part) > ENOUGH_BYTES:
            yield batch, parts
            batch, parts, size = [], [], 0
        batch.append(operation)
        parts.append(part)
        size += len(part)
        if len(batch) == MOST_OPERATIONS:
            yield batch, parts
            batch, parts, size = [], [], 0
    if batch:
        yield batch, parts
