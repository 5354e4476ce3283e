"""The two ways in which a KEK in a token wraps: AES-GCM by encrypting, AES key wrap with padding by wrapping.

A key is made for one of them and refused if it could do both: a key that wraps and decrypts gives away what it
wrapped. Which one a key is for is a property that the token keeps, and cannot be changed later.

Source: PKCS#11 version 2.40 mechanisms, sections 2.12 (AES-GCM) and 2.14 (AES key wrap); NIST SP 800-38D section 8.2.2
(random nonces) and 8.3 (at most 2^32 of them under one key); RFC 5649.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from pkcs11.constants import Attribute, ObjectClass
from pkcs11.exceptions import GeneralError, WrappedKeyInvalid
from pkcs11.mechanisms import GCMParams, KeyType, Mechanism
from pkcs11.types import Session

from keyproviders.interface import SecretBytes
from keyproviders.pkcs11_options import A256GCM, A256KWP
from keyproviders.software import LONGEST_BYTES, SHORTEST_BYTES

__all__ = ["MECHANISMS", "GcmKek", "Kek", "KwpKek"]

_NONCE_BYTES = 12
_TAG_BYTES = 16
_BUFFER_BYTES = 256
_KWP_BLOCK_BYTES = 8
_FRAME_BYTES = LONGEST_BYTES + _KWP_BLOCK_BYTES
_CANARY_BYTES = 32
_CANARY_CONTEXT = b"strongroom/pkcs11/canary"

# A session object that dies with its use: readable where its value is wanted, unreadable where it only passes.
_READABLE = {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True, Attribute.PRIVATE: True}
_PASSING = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: True, Attribute.PRIVATE: True}


@dataclass(frozen=True, eq=False)
class _TokenKek:
    """A handle of a KEK in the token, valid for one epoch of one process.

    Attributes:
        session: what to work on.
        handle: python-pkcs11's object; it has only the methods that the key allows.
        canary: a wrapped key that is known to be good, made when the handle was found.
    """

    algorithm: ClassVar[str]
    purposes: ClassVar[frozenset[Attribute]]

    session: Session
    handle: Any
    canary: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Probe by doing: what a token says about its mechanisms is not to be trusted."""
        object.__setattr__(self, "canary", self.wrap(SecretBytes(os.urandom(_CANARY_BYTES)), _CANARY_CONTEXT))
        self.prove()

    @abstractmethod
    def wrap(self, plaintext: SecretBytes, context: bytes) -> bytes: ...

    @abstractmethod
    def unwrap(self, blob: bytes, context: bytes) -> SecretBytes: ...

    def prove(self) -> None:
        """Open the canary.

        Raises:
            PKCS11Error: key or token are in trouble, whatever else failed.
        """
        opened = self.unwrap(self.canary, _CANARY_CONTEXT)
        if len(opened) != _CANARY_BYTES:
            raise GeneralError("the canary came out changed")
        opened.wipe()


class GcmKek(_TokenKek):
    """Wraps with AES-256-GCM; the blob is 12 bytes of nonce, the ciphertext and 16 bytes of tag.

    Security: nonces are random, so at most 2^32 wraps under one version: rotate before.
    """

    algorithm = A256GCM
    purposes = frozenset({Attribute.ENCRYPT, Attribute.DECRYPT})

    def wrap(self, plaintext: SecretBytes, context: bytes) -> bytes:
        """Return nonce, ciphertext and tag."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed: bytes = self.handle.encrypt(
            plaintext.reveal(),
            mechanism=Mechanism.AES_GCM,
            mechanism_param=GCMParams(nonce, context),
            buffer_size=_BUFFER_BYTES,
        )
        return nonce + sealed

    def unwrap(self, blob: bytes, context: bytes) -> SecretBytes:
        """Return what was wrapped under this context."""
        return SecretBytes(
            self.handle.decrypt(
                blob[_NONCE_BYTES:],
                mechanism=Mechanism.AES_GCM,
                mechanism_param=GCMParams(blob[:_NONCE_BYTES], context),
                buffer_size=_BUFFER_BYTES,
            )
        )

    @staticmethod
    def could_be(blob: bytes) -> bool:
        """Whether a blob has the length of one of ours."""
        return SHORTEST_BYTES <= len(blob) - _NONCE_BYTES - _TAG_BYTES <= LONGEST_BYTES


class KwpKek(_TokenKek):
    """Wraps with AES-256 key wrap with padding; the key to wrap is a session object for a moment.

    SoftHSM 2.6.1 adds zeros to a key whose length is no multiple of 8, and gives them back as part of the key. So such
    a key is wrapped in a frame of 72 bytes, longer than any key: its length, the key, zeros.

    Security: no context. Which keys are framed is known from the length of the wrapped value, which the wrap
        authenticates like the value itself.
    """

    algorithm = A256KWP
    purposes = frozenset({Attribute.WRAP, Attribute.UNWRAP})

    def wrap(self, plaintext: SecretBytes, context: bytes) -> bytes:  # noqa: ARG002 - one signature for both
        """Return the wrapped key, 8 bytes longer."""
        passing = self.session.create_object(
            {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
                Attribute.TOKEN: False,
                Attribute.VALUE: _framed(plaintext).reveal(),
                **_READABLE,
            }
        )
        try:
            return self._wrap_inside(passing)
        finally:
            passing.destroy()

    def unwrap(self, blob: bytes, context: bytes) -> SecretBytes:  # noqa: ARG002 - the same
        """Return what was wrapped."""
        passing = self._unwrap_inside(blob, _READABLE)
        try:
            opened = SecretBytes(passing[Attribute.VALUE])
        finally:
            passing.destroy()
        return _unframed(opened)

    def open_inside(self, blob: bytes) -> Any:
        """Unwrap to a session object that nobody can read; the caller destroys it."""
        return self._unwrap_inside(blob, _PASSING)

    def close_inside(self, passing: Any) -> bytes:
        """Wrap the session object, and destroy it."""
        try:
            return self._wrap_inside(passing)
        finally:
            passing.destroy()

    @staticmethod
    def could_be(blob: bytes) -> bool:
        """Whether a blob has the length of one of ours."""
        length = len(blob) - _KWP_BLOCK_BYTES
        return not length % _KWP_BLOCK_BYTES and SHORTEST_BYTES <= length <= _FRAME_BYTES

    def _wrap_inside(self, passing: Any) -> bytes:
        blob: bytes = self.handle.wrap_key(passing, mechanism=Mechanism.AES_KEY_WRAP_PAD)
        return blob

    def _unwrap_inside(self, blob: bytes, template: dict[Attribute, bool]) -> Any:
        return self.handle.unwrap_key(
            ObjectClass.SECRET_KEY,
            KeyType.GENERIC_SECRET,
            blob,
            mechanism=Mechanism.AES_KEY_WRAP_PAD,
            store=False,
            capabilities=0,
            template=template,
        )


def _framed(plaintext: SecretBytes) -> SecretBytes:
    length = len(plaintext)
    if not length % _KWP_BLOCK_BYTES:
        return plaintext
    return SecretBytes(bytes([length]) + plaintext.reveal() + bytes(_FRAME_BYTES - 1 - length))


def _unframed(opened: SecretBytes) -> SecretBytes:
    if len(opened) != _FRAME_BYTES:
        return opened
    # The frame is not named: an error's traceback must not hold key material.
    length = opened.reveal()[0]
    if not SHORTEST_BYTES <= length <= LONGEST_BYTES or any(opened.reveal()[1 + length :]):
        raise WrappedKeyInvalid
    return SecretBytes(opened.reveal()[1 : 1 + length])


Kek: TypeAlias = GcmKek | KwpKek
MECHANISMS: tuple[type[Kek], ...] = (GcmKek, KwpKek)
"""Both, the better one first."""
