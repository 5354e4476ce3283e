"""From a document to the row and index rows that may be stored, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes

from keyproviders.interface import SecretBytes
from vault.core.collections import Definition
from vault.core.content import Content
from vault.core.context import FORMAT_VERSION, RecordContext
from vault.core.errors import IntegrityError, VaultError
from vault.core.keyrings import Keyrings, NewDataKey, StoredDataKey
from vault.core.rows import IndexRow, RecordRow
from vault.core.schema import IndexedField
from vault.core.sealing import open_sealed, seal
from vault.core.tokens import mint_write_id


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordDraft:
    """What a write is about to store, before it is sealed.

    Attributes:
        token: 16 bytes.
        generation: the user's version number.
        content: the document, its region and its normalised values.
        plaintext: the same, encoded.
        created_at: UTC microseconds.
        updated_at: UTC microseconds.
        expires_at: UTC microseconds, or None.
        seal_epoch: raised by re-encrypt only.
        revision: of the row.
    """

    token: bytes
    generation: int
    content: Content
    plaintext: bytes
    created_at: int
    updated_at: int
    expires_at: int | None
    seal_epoch: int = 1
    revision: int = 1


@dataclass(frozen=True, slots=True)
class SealedRecord:
    """A signed row and its signed index rows."""

    row: RecordRow
    index: list[IndexRow]


class RecordSealer:
    """Seals drafts and opens rows.

    Args:
        keyrings: data keys, tags and row MACs.
    """

    def __init__(self, keyrings: Keyrings) -> None:
        self._keyrings = keyrings

    def seal(self, drafts: Sequence[RecordDraft], definition: Definition) -> list[SealedRecord]:
        """Seal each draft under a fresh data key of its own, and make its index rows; all signed.

        Raises:
            UnavailableError: no data keys can be had just now.
        """
        collection = definition.row
        contexts = [
            RecordContext(
                tenant=collection.tenant,
                collection=collection.name,
                token=draft.token,
                generation=draft.generation,
                seal_epoch=draft.seal_epoch,
                schema_version=definition.version,
            )
            for draft in drafts
        ]
        data_keys = self._keyrings.new_data_keys(collection.tenant, collection.keyring, contexts)
        return [
            self._sealed(draft, definition, data_key, context)
            for draft, data_key, context in zip(drafts, data_keys, contexts, strict=True)
        ]

    def _sealed(
        self,
        draft: RecordDraft,
        definition: Definition,
        data_key: NewDataKey,
        context: RecordContext,
    ) -> SealedRecord:
        collection = definition.row
        try:
            sealed = seal(draft.plaintext, dek=data_key.dek, context=context)
        finally:
            data_key.dek.wipe()
        row = RecordRow(
            tenant=collection.tenant,
            collection=collection.name,
            token=draft.token,
            generation=draft.generation,
            seal_epoch=draft.seal_epoch,
            revision=draft.revision,
            schema_version=definition.version,
            format=FORMAT_VERSION,
            keyring=collection.keyring,
            key_version=data_key.key_version,
            wrapped_dek=data_key.wrapped,
            sealed_document=sealed,
            write_id=mint_write_id(),
            created_at=draft.created_at,
            updated_at=draft.updated_at,
            expires_at=draft.expires_at,
        )
        ring = self._keyrings.get(collection.tenant, collection.keyring)
        return SealedRecord(
            ring.authenticator.sign(row), self.index_rows(draft.token, draft.content, definition)
        )

    def index_rows(self, token: bytes, content: Content, definition: Definition) -> list[IndexRow]:
        """Make the signed index rows that belong to a record's content."""
        ring = self._keyrings.get(definition.row.tenant, definition.row.keyring)
        return [
            ring.authenticator.sign(
                IndexRow(
                    tenant=definition.row.tenant,
                    collection=definition.row.name,
                    field=field.name,
                    index_key_id=ring.index.key_id,
                    normaliser=field.normaliser.id,
                    tag=ring.index.tag(definition.index_name(field), normalised),
                    slot=b"" if field.unique else token,
                    token=token,
                )
            )
            for field, normalised in indexed_values(content, definition)
        ]

    def open(self, row: RecordRow) -> Content:
        """Open one row; see :meth:`open_all`.

        Raises:
            UnavailableError: the provider cannot be reached.
            IntegrityError: key, context or bytes are not those of the seal.
        """
        (result,) = self.open_all([row])
        if isinstance(result, VaultError):
            raise result
        return result

    def open_all(self, rows: Sequence[RecordRow]) -> list[Content | VaultError]:
        """Unwrap the data keys of rows whose MAC has been checked, and open their documents.

        Returns:
            For each its content, or why it does not open: ``UnavailableError`` or ``IntegrityError``.
        """
        stored = [_stored_data_key(row) for row in rows]
        unwrapped = iter(self._keyrings.unwrap([key for key in stored if not isinstance(key, VaultError)]))
        return [
            key if isinstance(key, VaultError) else _opened(row, next(unwrapped))
            for row, key in zip(rows, stored, strict=True)
        ]


def _stored_data_key(row: RecordRow) -> StoredDataKey | VaultError:
    if row.wrapped_dek is None or row.sealed_document is None or row.format != FORMAT_VERSION:
        return IntegrityError("seal-format", where=row.where())
    return StoredDataKey(
        tenant=row.tenant,
        keyring=row.keyring,
        key_version=row.key_version,
        wrapped=row.wrapped_dek,
        context=_context_of(row),
        where=row.where(),
    )


def _opened(row: RecordRow, dek: SecretBytes | VaultError) -> Content | VaultError:
    if isinstance(dek, VaultError):
        return dek
    try:
        plaintext = open_sealed(
            row.sealed_document or b"", dek=dek, context=_context_of(row), where=row.where()
        )
        return Content.from_bytes(plaintext)
    except VaultError as error:
        return error
    finally:
        dek.wipe()


def _context_of(row: RecordRow) -> RecordContext:
    return RecordContext(
        tenant=row.tenant,
        collection=row.collection,
        token=row.token,
        generation=row.generation,
        seal_epoch=row.seal_epoch,
        schema_version=row.schema_version,
    )


def indexed_values(content: Content, definition: Definition) -> Iterator[tuple[IndexedField, str]]:
    """The indexed fields that a document has, each with the normalised value that its tag is made of."""
    for field in definition.schema.indexed:
        normalised = content.index.get(field.name, {}).get(field.normaliser.id)
        if normalised is not None:
            yield field, normalised


def document_sha256(row: RecordRow) -> bytes:
    """SHA-256 of the sealed document: ties an audit entry to exact stored bytes."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(row.sealed_document or b"")
    return digest.finalize()
