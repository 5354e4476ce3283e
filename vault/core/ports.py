"""What core needs from outside, as Protocols: the stores and the clock. The key door is keyproviders.interface.

Each store method is one whole operation: atomic, its audit entry included. How many statements that takes is the
engine's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from vault.core.receipts import Receipt
from vault.core.rows import (
    AuditRow,
    CollectionRow,
    CollectionSchemaRow,
    CredentialRow,
    IndexRow,
    KeyringRow,
    KeyVersionRow,
    PrincipalRow,
    RecordHistoryRow,
    RecordRow,
    Row,
    StoredKeyRow,
)

if TYPE_CHECKING:
    from vault.core.batches import Batch, Outcome

R = TypeVar("R", bound=Row)


class Clock(Protocol):
    """Tells the time. Order in the vault never depends on it."""

    def __call__(self) -> int:
        """Now, in integer UTC microseconds."""
        ...


class StaleWriteError(Exception):
    """The database refused a write because what it was computed from has changed; compute it again.

    Args:
        cause: ``keys`` (a key version may not be written any more), ``schema`` (the collection was redefined),
            ``keyring`` (its records are sealed by another keyring), ``record`` (the row was changed in between) or
            ``expired`` (a unique value belongs to a record whose time is over).
        tokens: those expired records.
    """

    def __init__(self, cause: str, tokens: Sequence[bytes] = ()) -> None:
        super().__init__(cause)
        self.cause = cause
        self.tokens = tuple(tokens)


@dataclass(frozen=True, slots=True)
class Holder:
    """The record that holds a unique value: its token, and until when it lives (UTC microseconds or None)."""

    token: bytes
    expires_at: int | None


class DuplicateIndexError(Exception):
    """A unique index refused the write; nothing of it was kept.

    Args:
        holders: every field whose value is taken, in the order of the index rows, with the record that holds it.
    """

    def __init__(self, holders: Mapping[str, Holder]) -> None:
        super().__init__(", ".join(holders))
        self.holders = dict(holders)

    def expired(self, now: int) -> list[bytes]:
        """The tokens of holders whose time is over: their values are free to whoever erases them first."""
        return [
            holder.token
            for holder in self.holders.values()
            if holder.expires_at is not None and holder.expires_at <= now
        ]


@dataclass(frozen=True, slots=True)
class RecordKey:
    """Which record: its public address within one tenant."""

    tenant: str
    collection: str
    token: bytes


@dataclass(frozen=True, slots=True)
class TagQuery:
    """Which index rows to find: one tag of one field."""

    tenant: str
    collection: str
    field: str
    index_key_id: int
    normaliser: str
    tag: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """A slice of a list: at most ``limit`` rows after row id ``after``."""

    limit: int
    after: int = 0


@dataclass(frozen=True, slots=True)
class RecordWrite:
    """Everything that one write of a record commits together.

    Attributes:
        record: the new row, signed.
        index: its index rows, signed.
        entry: the audit entry, signed.
        history_limit: how many earlier generations the collection keeps.
        history: the row being replaced, as it goes into the history; None if none is kept.
        receipt: what is remembered of the request, if it had an Idempotency-Key.
    """

    record: RecordRow
    index: Sequence[IndexRow]
    entry: AuditRow
    history_limit: int = 0
    history: RecordHistoryRow | None = None
    receipt: Receipt | None = None


class RecordStore(Protocol):
    """Records, their history and their index rows."""

    def create(self, write: RecordWrite) -> None:
        """Commit a new record.

        Raises:
            ReceiptExistsError: a twin of the request committed first.
            DuplicateIndexError: a unique value is taken.
            StaleWriteError: the key version or schema version may not be written any more.
        """
        ...

    def batch(self, batch: Batch) -> list[Outcome]:
        """Carry out prepared operations in their order, in one transaction.

        A refused operation leaves nothing but its entry, unless the batch is atomic.

        Returns:
            What became of each operation.

        Raises:
            BatchRefusedError: the batch is atomic and an operation was refused; nothing was kept.
            ReceiptExistsError: a twin of the request committed first; nothing was kept.
            StaleWriteError: a plan does not fit any more; nothing was kept.
        """
        ...

    def replace(self, write: RecordWrite, *, previous: RecordRow) -> None:
        """Commit the next generation, if ``previous`` is still the stored revision.

        Raises:
            DuplicateIndexError: a unique value is taken.
            StaleWriteError: keys, schema or the record itself have changed.
        """
        ...

    def erase(self, tombstone: RecordRow, *, previous: RecordRow, entry: AuditRow) -> None:
        """Turn the record into its tombstone; delete its index rows and history.

        Raises:
            StaleWriteError: the record has changed.
        """
        ...

    def find(self, key: RecordKey) -> RecordRow | None:
        """Fetch a row without an entry: for work that shows nothing of it to anyone."""
        ...

    def find_many(self, tenant: str, collection: str, tokens: Sequence[bytes]) -> dict[bytes, RecordRow]:
        """Fetch rows by token without entries, as of one moment; those that do not exist are left out."""
        ...

    def read_for(
        self,
        key: RecordKey,
        *,
        generation: int | None,
        entry_for: Callable[[RecordRow, RecordRow | None], AuditRow],
    ) -> RecordRow | None:
        """Fetch a row and commit the entry for it, both or none.

        Args:
            key: which record.
            generation: an earlier generation from the history; None for the current one.
            entry_for: makes the signed entry from the current row and the wanted one (None: not kept); may
                raise to refuse, and then nothing is written. Not called if there is no record.
        """
        ...

    def lookup_for(
        self,
        query: TagQuery,
        *,
        now: int,
        page: Page,
        entries_for: Callable[[Sequence[tuple[IndexRow, RecordRow]]], Sequence[AuditRow]],
    ) -> list[tuple[IndexRow, RecordRow]]:
        """Find live, unexpired records by tag and commit the entries for them, all or none."""
        ...

    def index_rows_with(self, query: TagQuery) -> list[IndexRow]:
        """Find the index rows with a tag without an entry (for the audit search, which has its own)."""
        ...

    def list_page(
        self, tenant: str, collection: str, *, now: int, page: Page, entry: AuditRow
    ) -> list[RecordRow]:
        """List live, unexpired records in the order of their ids and commit the entry."""
        ...


class CollectionStore(Protocol):
    """Collections and the versions of their definitions."""

    def get(self, tenant: str, name: str) -> CollectionRow | None:
        """Fetch a collection."""
        ...

    def get_schema(self, tenant: str, collection: str, version: int) -> CollectionSchemaRow | None:
        """Fetch one version of a definition."""
        ...

    def list_all(self, tenant: str) -> list[CollectionRow]:
        """List the collections by name."""
        ...

    def define(
        self,
        row: CollectionRow,
        schema: CollectionSchemaRow | None,
        *,
        previous: CollectionRow | None,
        entry: AuditRow,
        only_if_empty: bool,
    ) -> None:
        """Commit a definition, its new schema version if there is one, and the entry.

        Args:
            row: the collection as it is to be.
            schema: the new version of its definition.
            previous: the stored row that this replaces, or None for a new collection.
            entry: the audit entry.
            only_if_empty: refuse if the collection holds a live record.

        Raises:
            StaleWriteError: ``record`` if the collection was redefined in between, ``schema`` if it holds records
                and must not, ``keyring`` if it holds records and ``row`` names another keyring.
        """
        ...


class KeyStore(Protocol):
    """Keyrings, key versions and stored keys."""

    def keyrings(self) -> list[KeyringRow]:
        """All keyrings of all tenants."""
        ...

    def key_versions(self) -> list[KeyVersionRow]:
        """All key versions, oldest first."""
        ...

    def stored_keys(self) -> list[StoredKeyRow]:
        """All stored keys, oldest first."""
        ...

    def create_keyring(
        self,
        keyring: KeyringRow,
        version: KeyVersionRow,
        stored_keys: Sequence[StoredKeyRow],
        entry: AuditRow,
    ) -> None:
        """Commit a new keyring whole."""
        ...

    def census(self) -> Mapping[tuple[str, str, int], dict[str, int]]:
        """Count what depends on each (tenant, keyring, version): records, history, stored keys."""
        ...

    def index_census(self) -> Mapping[int, int]:
        """Count index rows by index key id."""
        ...


class CredentialStore(Protocol):
    """Principals and their credentials."""

    def find(self, secret_sha256: bytes) -> tuple[CredentialRow, PrincipalRow] | None:
        """Find the credential with this hash and its principal."""
        ...

    def create(self, principal: PrincipalRow, credential: CredentialRow, entry: AuditRow) -> None:
        """Commit a credential, and its principal if it does not exist yet."""
        ...

    def replace_all(
        self,
        tenant: str,
        principal: str,
        *,
        revoke: Callable[[CredentialRow], tuple[CredentialRow, AuditRow]],
        credential: CredentialRow,
        entry: AuditRow,
    ) -> None:
        """Revoke every credential of a principal and commit a new one, each with its entry."""
        ...


class Inspector(Protocol):
    """Reads every row for ``verify``; shows a consistent snapshot."""

    def rows(self, row_type: type[R]) -> Iterator[R]:
        """All rows of one table in the order of their ids."""
        ...
