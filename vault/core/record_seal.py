"""From a document to the row and index rows that may be stored, and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes

from vault.core.collections import Definition
from vault.core.content import Content
from vault.core.context import FORMAT_VERSION, RecordContext
from vault.core.errors import IntegrityError
from vault.core.keyrings import Keyrings
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
        created_at: UTC microseconds.
        updated_at: UTC microseconds.
        expires_at: UTC microseconds, or None.
        seal_epoch: raised by re-encrypt only.
        revision: of the row.
    """

    token: bytes
    generation: int
    content: Content
    created_at: int
    updated_at: int
    expires_at: int | None
    seal_epoch: int = 1
    revision: int = 1


class RecordSealer:
    """Seals drafts and opens rows.

    Args:
        keyrings: data keys, tags and row MACs.
    """

    def __init__(self, keyrings: Keyrings) -> None:
        self._keyrings = keyrings

    def seal(self, draft: RecordDraft, definition: Definition) -> tuple[RecordRow, list[IndexRow]]:
        """Seal a draft under a fresh data key, and make its index rows; all signed.

        Raises:
            UnavailableError: no data key can be had just now.
            TooLargeError: the document is over its limit.
        """
        collection = definition.row
        plaintext = draft.content.to_bytes()
        context = RecordContext(
            tenant=collection.tenant,
            collection=collection.name,
            token=draft.token,
            generation=draft.generation,
            seal_epoch=draft.seal_epoch,
            schema_version=definition.version,
        )
        data_key = self._keyrings.new_data_key(collection.tenant, collection.keyring, context)
        try:
            sealed = seal(plaintext, dek=data_key.dek, context=context)
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
        return ring.authenticator.sign(row), self.index_rows(draft.token, draft.content, definition)

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
        """Unwrap a row's data key and open its document. The row's MAC has been checked.

        Raises:
            UnavailableError: the provider cannot be reached.
            IntegrityError: key, context or bytes are not those of the seal.
        """
        if row.wrapped_dek is None or row.sealed_document is None or row.format != FORMAT_VERSION:
            raise IntegrityError("seal-format", where=row.where())
        context = RecordContext(
            tenant=row.tenant,
            collection=row.collection,
            token=row.token,
            generation=row.generation,
            seal_epoch=row.seal_epoch,
            schema_version=row.schema_version,
        )
        dek = self._keyrings.unwrap(
            row.tenant,
            row.keyring,
            key_version=row.key_version,
            wrapped=row.wrapped_dek,
            context=context,
            where=row.where(),
        )
        try:
            return Content.from_bytes(
                open_sealed(row.sealed_document, dek=dek, context=context, where=row.where())
            )
        finally:
            dek.wipe()


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
