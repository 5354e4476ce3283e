"""Finding out by doing whether a token can use a mechanism: its own list of flags may be garbage.

SoftHSM 2.6.1 gives uninitialised memory as the flags of AES-GCM.
"""

from __future__ import annotations

from pkcs11.mechanisms import KeyType
from pkcs11.types import Session

from keyproviders.keyset import KEK_BYTES
from keyproviders.pkcs11_attributes import NEW_KEK, capabilities_of
from keyproviders.pkcs11_errors import DATA_ERRORS, UNSUPPORTED_ERRORS
from keyproviders.pkcs11_mechanisms import GcmKek, Kek, KwpKek

__all__ = ["does_gcm", "does_kwp"]


def does_gcm(session: Session) -> bool:
    """Whether a key of this session wraps with AES-GCM and refuses another context."""
    return _does(session, GcmKek)


def does_kwp(session: Session) -> bool:
    """Whether a key of this session wraps with AES key wrap with padding."""
    return _does(session, KwpKek)


def _does(session: Session, kind: type[Kek]) -> bool:
    # A token in trouble raises: "no" would make the administrator choose the lesser algorithm for good.
    try:
        handle = session.generate_key(
            KeyType.AES, KEK_BYTES * 8, store=False, capabilities=capabilities_of(kind), template=NEW_KEK
        )
    except UNSUPPORTED_ERRORS:
        return False
    try:
        kek = kind(session, handle)
        return kind is KwpKek or _binds(kek)
    except UNSUPPORTED_ERRORS:
        return False
    finally:
        handle.destroy()


def _binds(kek: Kek) -> bool:
    try:
        kek.unwrap(kek.canary, b"another context").wipe()
    except DATA_ERRORS:
        return True
    return False
