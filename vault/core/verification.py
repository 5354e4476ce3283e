"""Checking everything that is stored: every MAC, every seal, every binding, every index row, the log.

A finding names a table row and a fixed word for what is wrong with it; it never shows a value.
"""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from vault.core.collections import Collections
from vault.core.content import Content
from vault.core.errors import CollectionNotFoundError, IntegrityError, VaultError
from vault.core.keyrings import Keyrings
from vault.core.ports import Inspector
from vault.core.record_seal import RecordSealer
from vault.core.rows import (
    AuditRow,
    CollectionRow,
    CollectionSchemaRow,
    CredentialRow,
    IndexRow,
    PrincipalRow,
    RecordHistoryRow,
    RecordRow,
    Row,
)
from vault.core.verification_log import LogCheck, Place, place_of

R = TypeVar("R", bound=Row)
T = TypeVar("T", bound=RecordRow)

# Data keys are asked for in lists: a provider elsewhere answers hundreds in the time of one.
_LIST = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        code: a fixed word, for example ``row-mac``, ``seal``, ``index-missing``.
        where: the table and the row's public reference.
    """

    code: str
    where: str


@dataclass(slots=True)
class VerificationReport:
    """What was checked and what was found.

    Attributes:
        rows: how many rows of each table were checked.
        opened: how many documents were opened.
        findings: what is wrong; empty if all is well.
    """

    rows: Counter[str] = field(default_factory=Counter)
    opened: int = 0
    findings: list[Finding] = field(default_factory=list)


class Verification:
    """Walks all tables once.

    Args:
        inspector: reads whole tables.
        keyrings: loaded, so that keyrings, key versions and stored keys have been checked already.
        collections: the definitions.
        progress: called after each row.
    """

    def __init__(
        self,
        inspector: Inspector,
        keyrings: Keyrings,
        collections: Collections,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._inspector = inspector
        self._keyrings = keyrings
        self._collections = collections
        self._progress = progress
        self._sealer = RecordSealer(keyrings)
        self._report = VerificationReport()
        self._records: dict[Place, RecordRow] = {}
        self._unsound: set[Place] = set()
        self._expected_index: dict[Place, dict[tuple[object, ...], str]] = {}

    def run(self) -> VerificationReport:
        """Check everything and report.

        Raises:
            UnavailableError: a provider or the database cannot be reached; nothing is concluded.
        """
        for row_type in (CollectionSchemaRow, CollectionRow, PrincipalRow, CredentialRow):
            for row in self._sound(row_type):
                self._check(self._check_definition, row)
        for records in _lists_of(self._sound(RecordRow)):
            for record in records:
                self._records[place_of(record)] = record
                self._expected_index[place_of(record)] = {}
                self._check(self._check_erased, record)
            for record, content in self._opened([each for each in records if each.erased_at is None]):
                self._check(functools.partial(self._expect_index, content), record)
        for generations in _lists_of(self._sound(RecordHistoryRow)):
            known = [each for each in generations if self._check(self._check_history, each)]
            for _ in self._opened(known):
                pass
        self._check_index()
        self._check_log()
        return self._report

    def _sound(self, row_type: type[R]) -> Iterator[R]:
        """Rows whose MAC is right; the others become findings."""
        for row in self._inspector.rows(row_type):
            self._report.rows[row_type.TABLE] += 1
            if self._check(self._check_mac, row):
                yield row
            elif isinstance(row, RecordRow) and not isinstance(row, RecordHistoryRow):
                # Named already; that its index rows and its story no longer fit it follows from that.
                self._unsound.add(place_of(row))
            self._progress()

    def _check(self, check: Callable[[R], None], row: R) -> bool:
        try:
            check(row)
        except IntegrityError as error:
            self._found(error.finding, error.where)
            return False
        return True

    def _found(self, code: str, where: str) -> None:
        self._report.findings.append(Finding(code, where))

    def _check_mac(self, row: Row) -> None:
        try:
            authenticator = self._keyrings.authenticator(row.tenant)
        except IntegrityError as error:
            # No tenant of this name: the row is what is wrong, so the row is named.
            raise IntegrityError(error.finding, where=row.where()) from error
        authenticator.check(row)

    def _check_definition(self, row: Row) -> None:
        if isinstance(row, CollectionRow):
            self._collections.current(row.tenant, row.name)

    def _check_erased(self, row: RecordRow) -> None:
        if row.erased_at is not None and (row.wrapped_dek is not None or row.sealed_document is not None):
            raise IntegrityError("erased-not-gone", where=row.where())

    def _expect_index(self, content: Content, row: RecordRow) -> None:
        self._expected_index[place_of(row)] = self._index_of(row, content)

    def _check_history(self, row: RecordHistoryRow) -> None:
        if place_of(row) in self._unsound:
            return
        current = self._records.get(place_of(row))
        if current is None or current.erased_at is not None or current.generation <= row.generation:
            raise IntegrityError("history-orphan", where=row.where())

    def _opened(self, rows: Sequence[T]) -> Iterator[tuple[T, Content]]:
        """Rows with their documents; those that do not open become findings."""
        for row, result in zip(rows, self._sealer.open_all(rows), strict=True):
            if isinstance(result, IntegrityError):
                self._found(result.finding, result.where)
            elif isinstance(result, VaultError):
                raise result
            else:
                self._report.opened += 1
                yield row, result

    def _index_of(self, row: RecordRow, content: Content) -> dict[tuple[object, ...], str]:
        try:
            definition = self._collections.version(
                self._collections.current(row.tenant, row.collection), row.schema_version
            )
        except CollectionNotFoundError as error:
            raise IntegrityError("index-binding", where=row.where()) from error
        entries = self._sealer.index_rows(row.token, content, definition)
        return {_fact(entry): entry.where() for entry in entries}

    def _check_index(self) -> None:
        for entry in self._sound(IndexRow):
            if place_of(entry) in self._unsound:
                continue
            expected = self._expected_index.get(place_of(entry))
            if expected is None or expected.pop(_fact(entry), None) is None:
                # No such record, an erased one, or one whose field has another value.
                self._found("index-binding", entry.where())
        for missing in self._expected_index.values():
            for where in missing.values():
                self._found("index-missing", where)

    def _check_log(self) -> None:
        log = LogCheck()
        for entry in self._sound(AuditRow):
            self._check(log.add, entry)
        for code, where in log.contradictions(self._records, but=self._unsound):
            self._found(code, where)


def _lists_of(rows: Iterator[R]) -> Iterator[list[R]]:
    while some := list(itertools.islice(rows, _LIST)):
        yield some


def _fact(entry: IndexRow) -> tuple[object, ...]:
    return (entry.field, entry.index_key_id, entry.normaliser, entry.tag, entry.slot)
