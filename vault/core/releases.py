"""Releasing records: the entry that decides it, and what may be shown once that entry is committed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import constant_time

from vault.audit.events import Action, AuditEvent, Result
from vault.core.collections import Definition
from vault.core.content import Content
from vault.core.documents import Document
from vault.core.errors import IntegrityError, RecordNotFoundError, VaultError
from vault.core.masking import mask_document
from vault.core.policy import Caller
from vault.core.ports import TagQuery
from vault.core.record_access import RecordAccess
from vault.core.record_rules import check_live
from vault.core.record_seal import RecordSealer, document_sha256, indexed_values
from vault.core.rows import AuditRow, IndexRow, RecordRow
from vault.core.trail import event_of


@dataclass(frozen=True, slots=True)
class View:
    """How much of a document an answer shows.

    Attributes:
        plain: unmasked.
        fields: only these top-level fields; None for all.
    """

    plain: bool = False
    fields: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class ShownRecord:
    """A record as an answer shows it.

    Attributes:
        row: its metadata.
        data: the document, masked or plain, with the fields asked for.
        masked: JSON pointers of the fields that are masked.
        view: what was asked for.
    """

    row: RecordRow
    data: Document
    masked: list[str]
    view: View


@dataclass(frozen=True, slots=True)
class Release:
    """A row whose entry is committed, so that it may be opened and shown.

    Attributes:
        action: read or look-up.
        row: what was released.
        definition: of its collection.
        view: how much of it.
        query: the look-up that found it, whose tag the opened record must have; None for a read.
    """

    action: Action
    row: RecordRow
    definition: Definition
    view: View
    query: TagQuery | None = None


class Releases:
    """Decides and carries out releases.

    Args:
        access: the way to the records.
    """

    def __init__(self, access: RecordAccess) -> None:
        self._access = access
        self._sealer = RecordSealer(access.keyrings)

    def read_entry(
        self,
        caller: Caller,
        definition: Definition,
        view: View,
        *,
        current: RecordRow,
        wanted: RecordRow | None,
    ) -> tuple[RecordRow, AuditRow]:
        """The row to release and its entry.

        Args:
            caller: who asks.
            definition: of the collection.
            view: how much of the record.
            current: the record as it is stored.
            wanted: the generation asked for, or None if it is not kept.

        Raises:
            RecordErasedError: it was erased.
            RecordExpiredError: its time is over.
            RecordNotFoundError: the generation is not kept.
            IntegrityError: a row is not what the vault wrote.
        """
        self._access.check(current)
        check_live(current, self._access.clock())
        if wanted is None:
            raise RecordNotFoundError("This generation of the record is not kept.")
        if wanted is not current:
            self._access.check(wanted)
        return wanted, self._access.trail.entry(
            _release(caller, Action.RECORD_READ, wanted, definition, view)
        )

    def lookup_entries(
        self,
        caller: Caller,
        definition: Definition,
        view: View,
        *,
        field: str,
        found: Sequence[tuple[IndexRow, RecordRow]],
    ) -> list[AuditRow]:
        """The entries of what a look-up found, or the one that says that it found nothing.

        Raises:
            IntegrityError: a row is not what the vault wrote.
        """
        for index_row, row in found:
            self._access.check(row)
            self._access.keyrings.authenticator(row.tenant, row.keyring).check(index_row)
        events = [
            replace(_release(caller, Action.RECORD_LOOKUP, row, definition, view), lookup_field=field)
            for _, row in found
        ] or [_found_nothing(caller, definition.row.name, field)]
        return [self._access.trail.entry(event) for event in events]

    def show(self, releases: Sequence[Release]) -> list[ShownRecord | VaultError]:
        """Open released rows, with one call to each key provider.

        Returns:
            For each what may be shown, or why nothing can be: ``IntegrityError`` or ``UnavailableError``. Then the
            caller says so with :meth:`failed`.
        """
        contents = self._sealer.open_all([release.row for release in releases])
        return [
            content if isinstance(content, VaultError) else self._shown(release, content)
            for release, content in zip(releases, contents, strict=True)
        ]

    def failed(self, caller: Caller, releases: Sequence[Release], error: VaultError) -> None:
        """Commit that what was released was not shown after all."""
        events = [
            event_of(
                caller,
                release.action,
                Result.FAILED,
                reason=error.code,
                collection=release.row.collection,
                token=release.row.token,
                generation=release.row.generation,
                seal_epoch=release.row.seal_epoch,
                lookup_field=release.query.field if release.query is not None else None,
            )
            for release in releases
        ]
        self._access.trail.append(*events)
        error.is_audited = True

    def _shown(self, release: Release, content: Content) -> ShownRecord | VaultError:
        if release.query is not None and not self._has_tag(release, content, release.query):
            return IntegrityError("index-binding", where=release.row.where())
        return _shown(release.row, content, release.definition, release.view)

    def _has_tag(self, release: Release, content: Content, query: TagQuery) -> bool:
        # An index row that was pointed at another record shows here: that record's own value has another tag.
        ring = self._access.keyrings.get(release.row.tenant, release.row.keyring)
        own_tags = (
            ring.index.tag(release.definition.index_name(field), normalised)
            for field, normalised in indexed_values(content, release.definition)
            if field.name == query.field
        )
        return any(constant_time.bytes_eq(tag, query.tag) for tag in own_tags)


def _release(
    caller: Caller, action: Action, row: RecordRow, definition: Definition, view: View
) -> AuditEvent:
    return event_of(
        caller,
        action,
        Result.RELEASED,
        collection=row.collection,
        token=row.token,
        generation=row.generation,
        seal_epoch=row.seal_epoch,
        document_sha256=document_sha256(row),
        fields=definition.loggable(view.fields or ()),
        reveal="plain" if view.plain else "masked",
    )


def _found_nothing(caller: Caller, collection: str, field: str) -> AuditEvent:
    return event_of(caller, Action.RECORD_LOOKUP, Result.NOT_FOUND, collection=collection, lookup_field=field)


def _shown(row: RecordRow, content: Content, definition: Definition, view: View) -> ShownRecord:
    if not view.plain:
        data, masked = mask_document(content.data, definition.schema.masks, fields=view.fields)
        return ShownRecord(row, data, masked, view)
    wanted = view.fields
    data = content.data if wanted is None else {name: v for name, v in content.data.items() if name in wanted}
    return ShownRecord(row, data, [], view)
