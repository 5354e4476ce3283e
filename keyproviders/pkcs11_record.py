"""What the administrator wrote down about a key in the token itself, because PKCS#11 knows no retirement.

A data object labelled ``NAME/retired``: private, so only who is logged in sees it, and never changed in place: the
new one is made before the old one goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["APPLICATION", "KeyRecord", "record_label"]

APPLICATION = "strongroom"
"""The CKA_APPLICATION of the data object."""

# Stored format. It never changes; another form gets another number in place of the 1.
_FORM = "strongroom key record 1: retired {}, highest {}"
_PATTERN = re.compile(_FORM.format("([0-9]{1,9})", "([0-9]{1,9})").encode(), re.ASCII)


def record_label(key: str) -> str:
    """The label of the data object that holds a key's record."""
    return f"{key}/retired"


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key's retirement and the numbers that are spent. Both only ever rise.

    Attributes:
        retired_up_to: no version up to and including this one is used.
        highest: this number and those below it were given out, even if their keys are destroyed.
    """

    retired_up_to: int = 0
    highest: int = 0

    @classmethod
    def of(cls, values: Iterable[bytes]) -> KeyRecord | None:
        """Read the values of all data objects of a key; no object is an empty record.

        Returns:
            None if one of them is no record. Of several, left by an administrator that was stopped between making
            the new one and removing the old one, the higher numbers count.
        """
        matches = [_PATTERN.fullmatch(value) for value in values]
        if None in matches:
            return None
        pairs = [(int(match[1]), int(match[2])) for match in matches if match is not None]
        return cls(
            max((retired for retired, _ in pairs), default=0),
            max((highest for _, highest in pairs), default=0),
        )

    def encode(self) -> bytes:
        """The value of the data object."""
        return _FORM.format(self.retired_up_to, self.highest).encode()
