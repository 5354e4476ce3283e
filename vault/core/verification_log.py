"""Whether the log and the records tell the same story.

Every row can be genuine and the story still wrong: a record put back to an older state, or deleted whole. The log
knows the newest write of each record by generation and by the hash of its sealed bytes.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from vault.audit.entry import read_entry
from vault.audit.events import Action, AuditEvent, Result
from vault.core.errors import IntegrityError
from vault.core.record_seal import document_sha256
from vault.core.rows import AuditRow, IndexRow, RecordRow
from vault.core.tokens import token_text

Place = tuple[str, str, bytes]
"""A record's address: tenant, collection, token."""

_WRITES = frozenset({Action.RECORD_CREATE, Action.RECORD_UPDATE})


def place_of(row: RecordRow | IndexRow) -> Place:
    """The address of the record that a row belongs to."""
    return row.tenant, row.collection, row.token


@dataclass(slots=True)
class _Story:
    newest: AuditEvent | None = None
    is_erased: bool = False


class LogCheck:
    """Collects what the log says about each record."""

    def __init__(self) -> None:
        self._stories: dict[Place, _Story] = {}

    def add(self, row: AuditRow) -> None:
        """Take in one entry whose MAC is right.

        Raises:
            IntegrityError: ``audit-entry``; the searched columns do not say what the canonical bytes say.
        """
        try:
            event, origin = read_entry(row.canonical)
        except ValueError as error:
            raise IntegrityError("audit-entry", where=row.where()) from error
        columns = (row.entry_id, row.time, row.principal, row.action, row.result, row.collection, row.token)
        said = (
            origin.entry_id,
            origin.time,
            event.principal,
            event.action,
            event.result,
            event.collection,
            event.token,
        )
        if columns != said or (row.reason, row.purpose, row.tenant) != (
            event.reason,
            event.purpose,
            event.tenant,
        ):
            raise IntegrityError("audit-entry", where=row.where())
        if event.result is Result.DONE and event.collection is not None and event.token is not None:
            self._tell(event, (event.tenant, event.collection, event.token))

    def contradictions(
        self, records: Mapping[Place, RecordRow], *, but: Container[Place]
    ) -> Iterator[tuple[str, str]]:
        """Compare the stories with the stored records: (finding, where) for each contradiction.

        Args:
            records: the records whose rows are sound.
            but: records whose rows are not, and have been named for that.
        """
        for place, story in self._stories.items():
            row = records.get(place)
            if row is None and place in but:
                continue
            if row is None:
                yield "record-missing", f"record {token_text(place[2])}"
            elif not _agrees(story, row):
                yield "record-rolled-back", row.where()
        for place, row in records.items():
            if place not in self._stories:
                yield "record-unlogged", row.where()

    def _tell(self, event: AuditEvent, place: Place) -> None:
        if event.action is Action.RECORD_ERASE:
            self._stories.setdefault(place, _Story()).is_erased = True
        elif event.action in _WRITES:
            story = self._stories.setdefault(place, _Story())
            if story.newest is None or (event.generation or 0) > (story.newest.generation or 0):
                story.newest = event


def _agrees(story: _Story, row: RecordRow) -> bool:
    if story.is_erased or row.erased_at is not None:
        return story.is_erased and row.erased_at is not None
    newest = story.newest
    return (
        newest is not None
        and (newest.generation, newest.seal_epoch) == (row.generation, row.seal_epoch)
        and newest.document_sha256 == document_sha256(row)
    )
