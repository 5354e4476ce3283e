"""What a seal is bound to. A ciphertext copied to another place, row or time does not open there.

The binding lives in our own layer, so it holds with every provider: AES key wrap has no associated data, and
transit's ``rewrap`` refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from vault.core.encoding import encode_fields

FORMAT_VERSION = 1
"""Version of the sealed format that these contexts belong to; it is part of the associated data."""


class SealContext(Protocol):
    """Anything a seal can be bound to."""

    def associated_data(self) -> bytes:
        """The canonical bytes that the seal authenticates."""
        ...


@dataclass(frozen=True, slots=True)
class RecordContext:
    """Binds a sealed document to one write of one record.

    Attributes:
        tenant: the tenant's name.
        collection: the collection's name.
        token: 16 bytes.
        generation: the user's version number, 1 or more.
        seal_epoch: raised by re-encrypt, 1 or more.
        schema_version: the collection's schema version that the document was validated against.
    """

    tenant: str
    collection: str
    token: bytes
    generation: int
    seal_epoch: int
    schema_version: int

    def associated_data(self) -> bytes:
        """Encode the context. Frozen; see docs/formats/sealed-record.md."""
        return encode_fields(
            "strongroom/sealed-record/v1",
            FORMAT_VERSION,
            self.tenant,
            self.collection,
            self.token,
            self.generation,
            self.seal_epoch,
            self.schema_version,
        )


@dataclass(frozen=True, slots=True)
class StoredKeyContext:
    """Binds a stored key (index, MAC, signing) to its purpose and place.

    Attributes:
        purpose: ``index``, ``mac`` or ``signing``.
        tenant: the tenant's name.
        keyring: the keyring it belongs to.
        key_id: the key's global number.
        version: the key's version within its keyring and purpose.
    """

    purpose: str
    tenant: str
    keyring: str
    key_id: int
    version: int

    def associated_data(self) -> bytes:
        """Encode the context. Frozen; see docs/formats/stored-key.md."""
        return encode_fields(
            "strongroom/stored-key/v1",
            FORMAT_VERSION,
            self.purpose,
            self.tenant,
            self.keyring,
            self.key_id,
            self.version,
        )
