"""Rows as plain values: what the stores take and give back.

The column names of a row are part of its MAC (see ``row_mac``): renaming one is a new table layout and needs
an upgrade that signs the rows again. Adding a nullable column does not. Times are integer UTC microseconds:
what every SQL engine gives back exactly as it was stored.
"""

from __future__ import annotations

import enum
import uuid
from dataclasses import dataclass
from typing import ClassVar

_UUID_BYTES = 16


class KeyState(enum.StrEnum):
    """Life of a key version or stored key (NIST SP 800-57 part 1, section 7)."""

    PENDING = "pending"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"
    RETIRED = "retired"
    DESTROYED = "destroyed"


class KeyPurpose(enum.StrEnum):
    """What a stored key is for; each key has one purpose."""

    INDEX = "index"
    MAC = "mac"
    SIGNING = "signing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What all authenticated rows share.

    Attributes:
        id: the table's integer id, given by the database; the only column outside the MAC.
        tenant: the tenant's name.
        mac_key_id: which MAC key signed the row.
        mac: HMAC-SHA-256 over all other columns, 32 bytes.
    """

    TABLE: ClassVar[str]

    tenant: str
    mac_key_id: int = 0
    mac: bytes = b""
    id: int | None = None

    def where(self) -> str:
        """Name the row for an operator, without anything personal.

        Works for rows that somebody tampered with, too: a reference that is none gives way to the row's number.
        """
        return f"{self.TABLE} #{self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRow(Row):
    """One record, or the tombstone that remains of it; see docs/formats/sealed-record.md.

    A tombstone has ``erased_at`` and ``erased_versions`` and no longer a wrapped key or a document.
    """

    TABLE: ClassVar[str] = "record"

    collection: str
    token: bytes
    generation: int
    seal_epoch: int
    revision: int
    schema_version: int
    format: int
    keyring: str
    key_version: int
    wrapped_dek: bytes | None
    sealed_document: bytes | None
    write_id: bytes
    created_at: int
    updated_at: int
    expires_at: int | None = None
    erased_at: int | None = None
    erased_versions: str | None = None
    final_at: int | None = None

    def where(self) -> str:
        """Name the row by its token and generation."""
        return f"{self.TABLE} {_uuid_text(self.token)} generation {self.generation}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHistoryRow(RecordRow):
    """An earlier generation of a record, for collections that keep them."""

    TABLE: ClassVar[str] = "record_history"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexRow(Row):
    """One blind-index entry.

    Attributes:
        field: the indexed top-level field.
        index_key_id: the stored key that made the tag.
        normaliser: for example ``email/1``.
        tag: 32 bytes.
        slot: empty if the index is unique, else the record's token: this is what makes the database's
            unique constraint refuse a second record with the same tag, or allow it.
        token: the record, 16 bytes.
    """

    TABLE: ClassVar[str] = "index_entry"

    collection: str
    field: str
    index_key_id: int
    normaliser: str
    tag: bytes
    slot: bytes
    token: bytes

    def where(self) -> str:
        """Name the row by record and field."""
        return f"{self.TABLE} {_uuid_text(self.token)} {self.field}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionRow(Row):
    """A collection: which definition is current, and which keyring seals its records."""

    TABLE: ClassVar[str] = "collection"

    name: str
    schema_version: int
    keyring: str
    revision: int
    created_at: int
    updated_at: int

    def where(self) -> str:
        """Name the row by collection."""
        return f"{self.TABLE} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionSchemaRow(Row):
    """One version of a collection's definition; never changed once written."""

    TABLE: ClassVar[str] = "collection_schema"

    collection: str
    version: int
    schema_json: str
    settings_json: str
    created_at: int

    def where(self) -> str:
        """Name the row by collection and version."""
        return f"{self.TABLE} {self.collection} version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyringRow(Row):
    """A lineage of KEK versions: where its newest versions are made."""

    TABLE: ClassVar[str] = "keyring"

    name: str
    provider: str
    provider_key: str
    created_at: int

    def where(self) -> str:
        """Name the row by keyring."""
        return f"{self.TABLE} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyVersionRow(Row):
    """The keyring's own counter, mapped to a provider's key and version.

    Attributes:
        version: 1, 2, ...: ours, never used twice.
        state: a :class:`KeyState`.
        compromised: 1 if the version is known or feared to be known to others.
        adopted_at: when it was found in the provider without having been made for this row; None otherwise.
    """

    TABLE: ClassVar[str] = "key_version"

    keyring: str
    version: int
    provider: str
    provider_key: str
    provider_version: int
    algorithm: str
    state: str
    compromised: int
    created_at: int
    activated_at: int | None = None
    deactivated_at: int | None = None
    retired_at: int | None = None
    destroyed_at: int | None = None
    adopted_at: int | None = None

    def where(self) -> str:
        """Name the row by keyring and version."""
        return f"{self.TABLE} {self.keyring} version {self.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKeyRow(Row):
    """A sealed index, MAC or signing key; see docs/formats/stored-key.md.

    Attributes:
        key_id: global number, never used twice; rows that the key made refer to it.
        version: counts within (keyring, purpose).
        key_version: the KEK version that wraps its data key.
    """

    TABLE: ClassVar[str] = "stored_key"

    key_id: int
    keyring: str
    purpose: str
    version: int
    state: str
    format: int
    key_version: int
    wrapped_dek: bytes
    sealed_key: bytes
    created_at: int

    def where(self) -> str:
        """Name the row by number and purpose."""
        return f"{self.TABLE} {self.key_id} ({self.purpose})"


@dataclass(frozen=True, slots=True, kw_only=True)
class PrincipalRow(Row):
    """Who calls. The role decides what is allowed until grants come."""

    TABLE: ClassVar[str] = "principal"

    name: str
    role: str
    created_at: int

    def where(self) -> str:
        """Name the row by principal."""
        return f"{self.TABLE} {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRow(Row):
    """What a principal shows. Of the secret only its SHA-256 is kept (256 random bits need no slow hash)."""

    TABLE: ClassVar[str] = "credential"

    credential_id: bytes
    principal: str
    secret_sha256: bytes
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None

    def where(self) -> str:
        """Name the row by its public id."""
        return f"{self.TABLE} {_hex_text(self.credential_id)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow(Row):
    """One audit entry: the canonical bytes, and copies of what is searched.

    Attributes:
        entry_id: 16 random bytes.
        canonical: see docs/formats/audit-entry.md; the tree hashes these bytes.
    """

    TABLE: ClassVar[str] = "audit_entry"

    entry_id: bytes
    time: int
    principal: str | None
    action: str
    result: str
    reason: str | None
    collection: str | None
    token: bytes | None
    purpose: str | None
    canonical: bytes

    def where(self) -> str:
        """Name the row by entry id."""
        return f"{self.TABLE} {_hex_text(self.entry_id)}"


# Rows are named most of all when they were tampered with, and then a column can hold anything.
def _uuid_text(value: object) -> str:
    if isinstance(value, bytes) and len(value) == _UUID_BYTES:
        return str(uuid.UUID(bytes=value))
    return _hex_text(value)


def _hex_text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else repr(value)
