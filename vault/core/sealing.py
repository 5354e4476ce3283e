"""Sealed format v1: one plaintext under one data key in one context.

Frozen. Rows written years ago are read by this layout; a change is a new format version with its own functions,
and the row's ``format`` column says which one to call::

    offset  length  content
    0       1       format version, 0x01
    1       1       algorithm, 0x01 = AES-256-GCM with a 96-bit nonce and a 128-bit tag
    2       12      nonce, random
    14      n       ciphertext, as long as the plaintext
    14 + n  16      tag

Source: NIST SP 800-38D; docs/formats/sealed-record.md; vectors in tests/vectors/.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keyproviders.interface import DATA_KEY_BYTES, SecretBytes
from vault.core.context import FORMAT_VERSION, SealContext
from vault.core.errors import IntegrityError

ALGORITHM_AES_256_GCM = 1
NONCE_BYTES = 12
TAG_BYTES = 16
HEADER_BYTES = 2
OVERHEAD_BYTES = HEADER_BYTES + NONCE_BYTES + TAG_BYTES
"""How much longer a sealed value is than its plaintext: 30 bytes."""

_HEADER = bytes((FORMAT_VERSION, ALGORITHM_AES_256_GCM))


def seal(plaintext: bytes, *, dek: SecretBytes, context: SealContext) -> bytes:
    """Encrypt so that only this data key, in this context, opens it.

    Args:
        plaintext: any length; callers hold their own limits.
        dek: 32 bytes, used for this one seal.
        context: what the seal is bound to.

    Returns:
        The sealed bytes, :data:`OVERHEAD_BYTES` longer than the plaintext.

    Raises:
        ValueError: the data key is not 32 bytes long.

    Security: random 96-bit nonce; a data key is never used for a second seal, so no nonce can repeat under it.
    Source: NIST SP 800-38D section 8.2.
    """
    nonce = os.urandom(NONCE_BYTES)
    return _HEADER + nonce + _cipher(dek).encrypt(nonce, plaintext, context.associated_data())


def open_sealed(sealed: bytes, *, dek: SecretBytes, context: SealContext, where: str) -> bytes:
    """Decrypt what :func:`seal` made, or say that it is not what was sealed.

    Args:
        sealed: the stored bytes.
        dek: the 32-byte data key.
        context: the context that the row claims; it must be the one that was sealed.
        where: the row, for the operator ("record 6f1c...").

    Raises:
        IntegrityError: ``seal-format`` if the header or length is unknown, ``seal`` if key, context or bytes
            are not those of the seal. Nothing of the plaintext is released.
    """
    if len(sealed) < OVERHEAD_BYTES or not sealed.startswith(_HEADER):
        raise IntegrityError("seal-format", where=where)
    nonce = sealed[HEADER_BYTES : HEADER_BYTES + NONCE_BYTES]
    try:
        return _cipher(dek).decrypt(nonce, sealed[HEADER_BYTES + NONCE_BYTES :], context.associated_data())
    except InvalidTag as error:
        raise IntegrityError("seal", where=where) from error


def _cipher(dek: SecretBytes) -> AESGCM:
    # AESGCM takes shorter keys, too; a truncated data key must not quietly become AES-128.
    if len(dek) != DATA_KEY_BYTES:
        raise ValueError(f"a data key has {DATA_KEY_BYTES} bytes")
    return AESGCM(dek.reveal())
