"""Bearer credentials: 256 random bits with a prefix that secret scanners can find.

The vault stores only the SHA-256. A slow hash protects guessable passwords; nobody guesses 256 random bits, and
a slow hash would hand attackers a way to keep the processors busy.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes

PREFIX = "strongroom_"
SECRET_BYTES = 32
_SHAPE = re.compile(r"strongroom_[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NewCredential:
    """A credential at the one moment when its secret exists in the clear.

    Attributes:
        credential_id: 8 random bytes, public: the name under which it is audited and revoked.
        text: what the caller sends as bearer token.
    """

    credential_id: bytes
    text: str

    def __repr__(self) -> str:
        return f"NewCredential({self.credential_id.hex()})"


def mint_credential() -> NewCredential:
    """Make a credential from the operating system's generator."""
    secret = base64.urlsafe_b64encode(os.urandom(SECRET_BYTES)).rstrip(b"=").decode()
    return NewCredential(credential_id=os.urandom(8), text=PREFIX + secret)


def is_well_formed(text: str) -> bool:
    """Whether this could be one of our credentials at all."""
    return _SHAPE.fullmatch(text) is not None


def secret_sha256(text: str) -> bytes:
    """Hash the whole credential text for storage and look-up, 32 bytes."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(text.encode())
    return digest.finalize()
