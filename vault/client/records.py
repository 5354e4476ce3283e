"""The calls about single records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from vault.client.arguments import (
    Reveal,
    checked_key,
    given,
    joined,
    names_of,
    new_key,
    record_body,
    record_path,
    records_path,
)
from vault.client.results import Erasure, Record, RecordMetadata, RecordPage
from vault.client.session import Session, read_answer

_MERGE_PATCH = "application/merge-patch+json"


class RecordCalls:
    """What a client can do with one record, and how it finds records."""

    _session: Session

    def create(
        self,
        collection: str,
        data: Mapping[str, Any],
        *,
        expires_at: datetime | None = None,
        region: str | None = None,
        idempotency_key: str | None = None,
    ) -> RecordMetadata:
        """Store a record and return its metadata; ``token`` is what to keep.

        Args:
            collection: the record type, for example ``users``.
            data: the document.
            expires_at: an aware time from which on the record answers ``Gone``.
            region: the country (``DE``) that phone numbers without one belong to.
            idempotency_key: names this very creation, so that it is carried out once however often it is sent
                within 24 hours; one of its own if None.

        Raises:
            Duplicate: another record holds a value that must be unique.
            InvalidRequest: ``data`` breaks the collection's schema.
        """
        answer = self._session.send(
            "POST",
            records_path(collection),
            body=record_body(data, expires_at, region),
            idempotency_key=new_key() if idempotency_key is None else checked_key(idempotency_key),
        )
        return read_answer(
            answer, RecordMetadata.read, answer.document, answer.etag, replayed=answer.replayed
        )

    def get(
        self,
        collection: str,
        token: UUID | str,
        *,
        reveal: Reveal = "masked",
        fields: Iterable[str] | None = None,
        generation: int | None = None,
    ) -> Record:
        """Read a record, masked unless ``reveal="plain"``; the vault audits each call.

        Args:
            collection: the record type.
            token: the record's.
            reveal: ``masked`` or ``plain``.
            fields: the names of the fields to return; all if None.
            generation: an earlier one, where the collection keeps history; the newest if None.

        Raises:
            NotFound: no such record.
            Gone: it was erased, or its time is over.
        """
        answer = self._session.send(
            "GET",
            record_path(collection, token),
            query={"reveal": reveal, "fields": joined(fields), "generation": generation},
        )
        return read_answer(answer, Record.read, answer.document, answer.etag)

    def list(self, collection: str, *, page_size: int | None = None) -> Iterator[RecordMetadata]:
        """Walk through the metadata of all records of a collection, page by page as you go."""
        path = records_path(collection)
        return self._session.pages(
            lambda cursor: self._session.send("GET", path, query={"limit": page_size, "cursor": cursor}),
            lambda item: RecordMetadata.read(item, None),
        )

    def list_page(
        self, collection: str, *, cursor: str | None = None, page_size: int | None = None
    ) -> RecordPage:
        """Return one page of ``list``, for a walk that has to go on later.

        Args:
            collection: the record type.
            cursor: the ``next_cursor`` of the page before; None for the first.
            page_size: how many records the server sends at once.
        """
        answer = self._session.send(
            "GET", records_path(collection), query={"limit": page_size, "cursor": cursor}
        )
        return read_answer(answer, RecordPage.read, answer.document)

    def lookup(
        self,
        collection: str,
        field: str,
        value: str,
        *,
        region: str | None = None,
        reveal: Reveal = "masked",
        fields: Iterable[str] | None = None,
        page_size: int | None = None,
    ) -> Iterator[Record]:
        """Find the records whose indexed field equals a value, compared in its normal form; none is no error.

        Args:
            collection: the record type.
            field: an indexed field of it.
            value: what to look for; it travels in the body.
            region: the country (``DE``) that a phone number without one belongs to.
            reveal: ``masked`` or ``plain``.
            fields: the names of the fields to return; all if None.
            page_size: how many records the server sends at once.
        """
        path = f"{records_path(collection)}/lookup"
        body: dict[str, Any] = {"field": field, "value": value, "reveal": reveal}
        body |= given(region=region, fields=names_of(fields), limit=page_size)
        return self._session.pages(
            lambda cursor: self._session.send("POST", path, body=body | given(cursor=cursor), reads=True),
            lambda item: Record.read(item, None),
        )

    def replace(
        self,
        collection: str,
        token: UUID | str,
        data: Mapping[str, Any],
        *,
        expires_at: datetime | None = None,
        region: str | None = None,
        if_match: str | None = None,
    ) -> RecordMetadata:
        """Put a new document in the place of a record's; what ``expires_at`` does not renew is lifted.

        Raises:
            PreconditionFailed: the record is no longer in the state that ``if_match`` (an ``etag``) names.
        """
        body = record_body(data, expires_at, region)
        answer = self._session.send("PUT", record_path(collection, token), body=body, if_match=if_match)
        return read_answer(answer, RecordMetadata.read, answer.document, answer.etag)

    def patch(
        self, collection: str, token: UUID | str, changes: Mapping[str, Any], *, if_match: str | None = None
    ) -> RecordMetadata:
        """Change some fields of a record: an RFC 7396 merge patch, in which None removes a field.

        Raises:
            PreconditionFailed: the record is no longer in the state that ``if_match`` (an ``etag``) names.
        """
        answer = self._session.send(
            "PATCH",
            record_path(collection, token),
            body=dict(changes),
            media_type=_MERGE_PATCH,
            if_match=if_match,
        )
        return read_answer(answer, RecordMetadata.read, answer.document, answer.etag)

    def erase(self, collection: str, token: UUID | str, *, if_match: str | None = None) -> None:
        """Erase a record for good: its data key is destroyed with it.

        Raises:
            Gone: that has been done before.
        """
        self._session.send("DELETE", record_path(collection, token), if_match=if_match)

    def erasure(self, collection: str, token: UUID | str) -> Erasure:
        """Tell what was done about an erased record, and when it is final."""
        answer = self._session.send("GET", f"{record_path(collection, token)}/erasure")
        return read_answer(answer, Erasure.read, answer.document)
