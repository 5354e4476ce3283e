"""The calls about everything around records: record types and the access log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from vault.client.arguments import checked_token, collection_path, given, rfc3339
from vault.client.results import AuditEntry, CollectionInfo, CollectionSettings, Person
from vault.client.session import Session, read_answer


class OversightCalls:
    """What a client can define, and what it can see of who did what."""

    _session: Session

    def define_collection(
        self,
        name: str,
        schema: Mapping[str, Any],
        *,
        settings: CollectionSettings | Mapping[str, Any] | None = None,
        keyring: str | None = None,
    ) -> CollectionInfo:
        """Create a record type, or give it a new schema version; the same schema again changes nothing.

        Args:
            name: matches ``[a-z][a-z0-9_]*``.
            schema: JSON Schema (draft 2020-12) with ``x-index``, ``x-normalize`` and ``x-mask``.
            settings: how the collection is kept; the server's defaults if None.
            keyring: which keyring seals its records; None leaves it as it is.

        Raises:
            Conflict: the records already stored do not allow this change.
        """
        body: dict[str, Any] = {"schema": dict(schema)}
        if isinstance(settings, CollectionSettings):
            body["settings"] = {name: getattr(settings, name) for name in CollectionSettings.__slots__}
        elif settings is not None:
            body["settings"] = dict(settings)
        body |= given(keyring=keyring)
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
            lambda cursor: self._session.send(
                "POST", "/v1/audit/search", body=body | given(cursor=cursor), reads=True
            ),
            AuditEntry.read,
        )
