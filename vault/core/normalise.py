"""Normalisers: the one form of a value that the blind index hashes. The record keeps the value as it was sent.

Every normaliser has a version, and the version is part of the index (design section 10). A normaliser that is
released never changes what it returns: an index entry made by the old code would silently no longer be found. Better
rules are a new version beside the old one, and rotation carries a collection over by reindexing it.

The Unicode forms used here are stable for characters that are assigned (Unicode stability policies), so unassigned
ones are refused: a newer Python could normalise them differently.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import email_validator
import phonenumbers

MAX_INDEXED_CHARACTERS = 1_024
"""The longest value of an indexed field, in characters, before it is normalised."""


class NormaliseError(Exception):
    """A value cannot be normalised. Holds the rule that it breaks, never the value.

    Args:
        code: ``too-long``, ``empty``, ``invalid``, ``unassigned-character``, ``region`` or ``region-required``.
        detail: one sentence for the caller.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Normaliser:
    """One version of one normaliser. Normalising twice gives what normalising once gave.

    Attributes:
        name: what a schema writes after ``x-normalize``.
        version: a whole number from 1.
        function: the rule itself; use :meth:`normalise`, which checks the length first.
    """

    name: str
    version: int
    function: Callable[[str, str | None], str]

    @property
    def id(self) -> str:
        """The name that index entries carry, for example ``email/1``."""
        return f"{self.name}/{self.version}"

    def normalise(self, value: str, *, region: str | None) -> str:
        """Return the form of a value that equal values share.

        Args:
            value: the field as it was sent, at most 1,024 characters.
            region: ISO 3166 code (``DE``) for telephone numbers without ``+``, or None; others ignore it.

        Raises:
            NormaliseError: the value breaks a rule; the error does not hold the value.
        """
        if len(value) > MAX_INDEXED_CHARACTERS:
            raise NormaliseError(
                "too-long", f"An indexed value has at most {MAX_INDEXED_CHARACTERS} characters."
            )
        return self.function(value, region)


def normaliser(name: str) -> Normaliser:
    """Return the newest version of a normaliser.

    Args:
        name: ``email``, ``phone``, ``login`` or ``text``.

    Raises:
        KeyError: there is no normaliser of this name.
    """
    return _NEWEST[name]


def is_region(code: str) -> bool:
    """Say whether a code is a region that telephone numbers can be read for: two capital letters, like ``DE``."""
    return code in phonenumbers.SUPPORTED_REGIONS


def _email_1(value: str, _region: str | None) -> str:
    """E-mail: trimmed, NFC, lower case, the domain in ASCII (IDNA); ``+tag`` and dots are kept.

    Lower case, not case folding: a fold would make ``straße@`` and ``strasse@``, two mailboxes, one. Refused: quoted
    local parts, display names, address literals, domains without a dot, and the special-use domains that no mail
    reaches (``.local``, ``.test``, ``.invalid``, ``.onion``...; ``example.com`` and its like pass).
    """
    before = value.strip()
    # ASCII settles in one round; lower-casing beyond ASCII can decompose (U+0130), so it is checked once more.
    for _ in range(3):
        try:
            # No DNS: an index must not depend on the network, nor tell a name server whom we store.
            address = email_validator.validate_email(before, check_deliverability=False)
        except email_validator.EmailNotValidError:
            break  # its message quotes characters of the value
        local_part = unicodedata.normalize("NFC", address.local_part.lower())
        after = f"{local_part}@{address.ascii_domain.lower()}"
        if after == before or local_part.isascii():
            return after
        before = after
    raise NormaliseError(
        "invalid", "This is not an e-mail address of the form name@domain that mail can reach."
    )


def _phone_1(value: str, region: str | None) -> str:
    """Telephone: E.164 of a number that exists, with ``;ext=NN`` (RFC 3966) if it has an extension.

    The extension stays, so that two people behind one switchboard number stay two.
    """
    if region is not None and not is_region(region):
        raise NormaliseError("region", "The region is not a known two-letter code, such as DE.")
    try:
        number = phonenumbers.parse(value, region)
    except phonenumbers.NumberParseException as error:
        needs_region = (
            region is None and error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE
        )
    else:
        if phonenumbers.is_valid_number(number):
            e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
            # The library leaves an extension's digits in the script they were typed in.
            extension = phonenumbers.normalize_digits_only(number.extension or "")
            return f"{e164};ext={extension}" if extension else e164
        needs_region = False
    if needs_region and not value.strip().startswith(("+", "\N{FULLWIDTH PLUS SIGN}")):
        raise NormaliseError("region-required", "Send the number with + and country code, or send a region.")
    raise NormaliseError("invalid", "This is not a telephone number that exists.")


# Default_Ignorable_Code_Point, which toNFKC_Casefold removes: zero-width and invisible characters. Unicode 14,
# DerivedCoreProperties.txt. Frozen with login/1.
_IGNORABLE_RANGES = (
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
_WITHOUT_IGNORABLE = dict.fromkeys(
    code for first, last in _IGNORABLE_RANGES for code in range(first, last + 1)
)


def _login_1(value: str, _region: str | None) -> str:
    """Login: trimmed, compatibility characters and case folded, invisible characters dropped.

    So that no two logins that a person reads as one can stand beside each other as "different".

    Source: toNFKC_Casefold, The Unicode Standard section 3.13 (D147), with trimming.
    """
    _refuse_unassigned(value)
    before = value
    while True:  # each round only folds further: two or three rounds in practice
        folded = unicodedata.normalize("NFKC", before).casefold().translate(_WITHOUT_IGNORABLE)
        after = unicodedata.normalize("NFKC", folded).strip()
        if after == before:
            break
        before = after
    return _not_empty(after)


def _text_1(value: str, _region: str | None) -> str:
    """Text: trimmed and NFC. Case and everything else that a reader can see counts."""
    _refuse_unassigned(value)
    return _not_empty(unicodedata.normalize("NFC", value.strip()))


def _refuse_unassigned(value: str) -> None:
    if any(unicodedata.category(character) in {"Cn", "Cs"} for character in value):
        raise NormaliseError(
            "unassigned-character", "The value holds a character that Unicode has not assigned."
        )


def _not_empty(value: str) -> str:
    if not value:
        raise NormaliseError("empty", "An indexed value cannot be empty; leave the field out or send null.")
    return value


# Oldest first: the newest version of a name is the last one.
_ALL = (
    Normaliser("email", 1, _email_1),
    Normaliser("phone", 1, _phone_1),
    Normaliser("login", 1, _login_1),
    Normaliser("text", 1, _text_1),
)
_NEWEST = {each.name: each for each in _ALL}
