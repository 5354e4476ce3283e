"""Blind indexes: equality look-ups over values that the database never sees.

A tag is HMAC-SHA-256 of the normalised value under a key derived for one field of one collection, so equal values
in different fields, collections or tenants have unrelated tags. What a tag does show, by design, is that two rows
of the same field hold the same value; docs/threat-model.md says what that means for fields with few values.

Frozen format v1. Source: RFC 5869 (HKDF-SHA-256), FIPS 198-1, docs/formats/blind-index.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from keyproviders.interface import SecretBytes
from vault.core.encoding import encode_fields

TAG_BYTES = 32
_LABEL = "strongroom/blind-index/v1"


@dataclass(frozen=True, slots=True)
class IndexedFieldName:
    """Which field a tag is for.

    Attributes:
        tenant: the tenant's name.
        collection: the collection's name.
        field: the top-level property.
        normaliser: the normaliser and its version, for example ``email/1``: a new version is a new key, so
            tags of two versions can never be confused.
    """

    tenant: str
    collection: str
    field: str
    normaliser: str


class BlindIndex:
    """Makes tags under one index key.

    Args:
        key_id: the stored key's global id, written beside every tag.
        key: 32 bytes.
    """

    def __init__(self, key_id: int, key: SecretBytes) -> None:
        self.key_id = key_id
        self._key = key
        self._primed: dict[IndexedFieldName, hmac.HMAC] = {}

    def tag(self, name: IndexedFieldName, normalised: str) -> bytes:
        """Compute the 32-byte tag of a normalised value."""
        primed = self._primed.get(name)
        if primed is None:
            # Two threads may derive the same key at once; the results are equal, so the last one wins unharmed.
            primed = self._primed[name] = hmac.HMAC(self._field_key(name), hashes.SHA256())
        context = primed.copy()
        context.update(normalised.encode())
        return context.finalize()

    def _field_key(self, name: IndexedFieldName) -> bytes:
        info = encode_fields(_LABEL, name.tenant, name.collection, name.field, name.normaliser)
        # Expand alone is right for a key that is uniformly random already (RFC 5869 section 3.3).
        return HKDFExpand(hashes.SHA256(), TAG_BYTES, info).derive(self._key.reveal())
