"""The client: one method per thing a vault does."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from uuid import UUID

from vault.client.arguments import (
    checked_purpose,
    checked_token,
    collection_path,
    given,
    joined,
    record_body,
    record_path,
    records_path,
    rfc3339,
)
from vault.client.credential import checked, read_credential
from vault.client.errors import Misconfigured, Unavailable
from vault.client.results import (
    AuditEntry,
    CollectionInfo,
    CollectionSettings,
    Erasure,
    Keyring,
    Person,
    Record,
    RecordMetadata,
)
from vault.client.session import PURPOSE_HEADER, Session, read_answer
from vault.client.transport import Exchange, Transport

DEFAULT_SERVER = "http://127.0.0.1:8420"
Reveal = Literal["masked", "plain"]

_MERGE_PATCH = "application/merge-patch+json"


class Client:
    """A connection to a vault, safe to share between threads; use it as a context manager or close it.

    Every method raises ``StrongroomError`` (see ``vault.client.errors``) when the vault says no, and ``ValueError``
    for an argument that must not be sent. Personal values travel in bodies only, never in a URL.

    Args:
        server: ``https://host[:port]``, or ``http://`` to this machine.
        credential: ``strongroom_...``.
        credential_file: a file that holds it in its first line, with mode 0600; give this or ``credential``.
        purpose: what the calls are for, ``[a-z0-9._:-]{1,64}``; the vault records it with each of them.
        timeout_seconds: for connecting, and for each wait on an answer.
        ca: PEM file of the authorities to trust instead of the system's.
        insecure_http: allow ``http://`` to another machine, which sends everything in the clear.
        exact_numbers: give fractions in ``data`` as ``Decimal`` instead of ``float``; integers are always exact.
        observer: called after each exchange with method, path, status and time.

    Raises:
        Misconfigured: the settings do not allow a safe call.
    """

    def __init__(  # noqa: PLR0913 - the settings of a client, each with its default
        self,
        server: str = DEFAULT_SERVER,
        *,
        credential: str | None = None,
        credential_file: str | Path | None = None,
        purpose: str | None = None,
        timeout_seconds: float = 10.0,
        ca: str | Path | None = None,
        insecure_http: bool = False,
        exact_numbers: bool = False,
        observer: Callable[[Exchange], None] | None = None,
    ) -> None:
        if credential is not None and credential_file is not None:
            raise Misconfigured("Give credential or credential_file, not both.", code="credential-twice")
        if credential_file is not None:
            credential = read_credential(Path(credential_file))
        headers: dict[str, str] = {}
        if credential is not None:
            headers["Authorization"] = f"Bearer {checked(credential)}"
        if purpose is not None:
            headers[PURPOSE_HEADER] = checked_purpose(purpose)
        transport = Transport(
            server,
            timeout_seconds=timeout_seconds,
            ca=None if ca is None else Path(ca),
            insecure_http=insecure_http,
            exact_numbers=exact_numbers,
            observer=observer,
        )
        self._session = Session(transport, headers)

    def __repr__(self) -> str:
        return f"Client({self._session.server!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A closed client raises ``ConnectionFailed``."""
        self._session.close()

    def for_purpose(self, purpose: str) -> Self:
        """Return a client for another purpose that shares this one's connections (and their end)."""
        other = copy.copy(self)
        other._session = self._session.for_purpose(checked_purpose(purpose))  # noqa: SLF001 - a copy of this class
        return other

    # Records

    def create(
        self,
        collection: str,
        data: Mapping[str, Any],
        *,
        expires_at: datetime | None = None,
        region: str | None = None,
    ) -> RecordMetadata:
        """Store a record and return its metadata; ``token`` is what to keep.

        Args:
            collection: the record type, for example ``users``.
            data: the document.
            expires_at: an aware time from which on the record answers ``Gone``.
            region: the country (``DE``) that phone numbers without one belong to.

        Raises:
            Duplicate: another record holds a value that must be unique.
            InvalidRequest: ``data`` breaks the collection's schema.
        """
        answer = self._session.send(
            "POST", records_path(collection), body=record_body(data, expires_at, region)
        )
        return read_answer(answer, RecordMetadata.read, answer.document, answer.etag)

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
        body |= given(region=region, fields=None if fields is None else [*fields], limit=page_size)
        return self._session.pages(
            lambda cursor: self._session.send("POST", path, body=body | given(cursor=cursor)),
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

    # Collections

    def define_collection(
        self,
        name: str,
        schema: Mapping[str, Any],
        *,
        settings: CollectionSettings | Mapping[str, Any] | None = None,
    ) -> CollectionInfo:
        """Create a record type, or give it a new schema version; the same schema again changes nothing.

        Args:
            name: matches ``[a-z][a-z0-9_]*``.
            schema: JSON Schema (draft 2020-12) with ``x-index``, ``x-normalize`` and ``x-mask``.
            settings: how the collection is kept; the server's defaults if None.

        Raises:
            Conflict: the records already stored do not allow this change.
        """
        body: dict[str, Any] = {"schema": dict(schema)}
        if isinstance(settings, CollectionSettings):
            body["settings"] = {name: getattr(settings, name) for name in CollectionSettings.__slots__}
        elif settings is not None:
            body["settings"] = dict(settings)
        answer = self._session.send("PUT", collection_path(name), body=body)
        return read_answer(answer, CollectionInfo.read, answer.document)

    def collection(self, name: str) -> CollectionInfo:
        """Return a record type with its newest schema."""
        answer = self._session.send("GET", collection_path(name))
        return read_answer(answer, CollectionInfo.read, answer.document)

    def collections(self, *, page_size: int | None = None) -> Iterator[CollectionInfo]:
        """Walk through the record types."""
        return self._session.pages(
            lambda cursor: self._session.send(
                "GET", "/v1/collections", query={"limit": page_size, "cursor": cursor}
            ),
            CollectionInfo.read,
        )

    # Oversight

    def audit(  # noqa: PLR0913 - each argument narrows the search, none is needed
        self,
        *,
        principal: str | None = None,
        token: UUID | str | None = None,
        person: Person | None = None,
        action: str | None = None,
        result: str | None = None,
        collection: str | None = None,
        purpose: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        page_size: int | None = None,
    ) -> Iterator[AuditEntry]:
        """Walk through audit entries, newest first; every argument given must fit.

        Args:
            principal: who called.
            token: the record that was touched.
            person: whoever's records hold this value now; the value is not stored by the search.
            action: what was done.
            result: how it ended.
            collection: the record type.
            purpose: what the caller said it was for.
            since: an aware time, included.
            until: an aware time, excluded.
            page_size: how many entries the server sends at once.
        """
        body = given(
            principal=principal,
            token=None if token is None else str(checked_token(token)),
            action=action,
            result=result,
            collection=collection,
            purpose=purpose,
            since=rfc3339(since),
            until=rfc3339(until),
            limit=page_size,
        )
        if person is not None:
            body["person"] = given(
                collection=person.collection, field=person.field, value=person.value, region=person.region
            )
        return self._session.pages(
            lambda cursor: self._session.send("POST", "/v1/audit/search", body=body | given(cursor=cursor)),
            AuditEntry.read,
        )

    def keyrings(self) -> tuple[Keyring, ...]:
        """Return the keyrings with their versions and what depends on each."""
        return tuple(
            self._session.pages(
                lambda cursor: self._session.send("GET", "/v1/keyrings", query=given(cursor=cursor)),
                Keyring.read,
            )
        )

    def ready(self) -> bool:
        """Tell whether the vault can serve just now; needs no credential.

        Raises:
            ConnectionFailed: nobody answers at all.
        """
        try:
            self._session.send("GET", "/readyz")
        except Unavailable:
            return False
        return True
