"""What a KEK in a token must be, asserted of each one before it is used."""

from __future__ import annotations

import functools
import operator
from typing import Any

from pkcs11.constants import Attribute, MechanismFlag
from pkcs11.mechanisms import KeyType

from keyproviders.keyset import KEK_BYTES
from keyproviders.pkcs11_mechanisms import MECHANISMS, Kek

__all__ = ["NEW_KEK", "capabilities_of", "label_of", "purpose_of"]

NEW_KEK: dict[Attribute, Any] = {
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    # Otherwise whoever has the PIN could switch on a second purpose, and wrap and decrypt data keys out of the token.
    Attribute.MODIFIABLE: False,
    Attribute.PRIVATE: True,
}
"""How the administrator makes one."""

_WANTED: dict[Attribute, Any] = {
    Attribute.KEY_TYPE: KeyType.AES,
    Attribute.VALUE_LEN: KEK_BYTES,
    **NEW_KEK,
    # Together: it was made in this token and was never readable, not even for a moment.
    Attribute.LOCAL: True,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
}
_PURPOSES = (
    Attribute.ENCRYPT,
    Attribute.DECRYPT,
    Attribute.WRAP,
    Attribute.UNWRAP,
    Attribute.SIGN,
    Attribute.VERIFY,
    Attribute.DERIVE,
)


def purpose_of(handle: Any) -> tuple[type[Kek] | None, list[str]]:
    """Return what a key in the token is for, and what about it is wrong.

    Args:
        handle: python-pkcs11's object of a secret key.

    Returns:
        None in the first place if the key is for anything but exactly one of our two purposes.
    """
    # An attribute that the token does not tell is not as wanted.
    attributes = _attributes(handle)
    wrong = [
        f"{each.name} is not {wanted.name if isinstance(wanted, KeyType) else wanted}"
        for each, wanted in _WANTED.items()
        if attributes.get(each) != wanted
    ]
    purposes = {each for each in _PURPOSES if attributes.get(each)}
    kind = next((each for each in MECHANISMS if each.purposes == purposes), None)
    if kind is None:
        wrong.append(f"it is for {', '.join(sorted(each.name for each in purposes)) or 'nothing'}")
    return kind, wrong


def label_of(handle: Any) -> str:
    """Return a key's label; the empty one if it is no text, so that a stranger's key is not one of ours."""
    try:
        return str(handle.label or "")
    except UnicodeDecodeError:
        return ""


def capabilities_of(kind: type[Kek]) -> MechanismFlag:
    """Return the flags with which python-pkcs11 makes a key for this purpose and no other."""
    return functools.reduce(operator.or_, (MechanismFlag[each.name] for each in kind.purposes))


def _attributes(handle: Any) -> dict[Attribute, Any]:
    try:
        found: dict[Attribute, Any] = handle.get_attributes([*_WANTED, *_PURPOSES])
    except ValueError:
        return {}  # a vendor's own key type, for which python-pkcs11 has no name
    return found
