"""What is inside a seal: the document as it was sent, and what is needed to read it again as it was meant.

Frozen with sealed format v1: a UTF-8 JSON object with the members ``data``, ``region`` if the write had one, and
``index`` if the document has indexed values. The region is sealed with the document because the same digits are
another telephone number elsewhere. The normalised values are sealed, too, because what is a valid number today may be
none by next year's numbering plan: a check of the index must not depend on the release of a library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from vault.core.documents import MAX_DOCUMENT_BYTES, Document, dump_json, parse_json
from vault.core.errors import TooLargeError


@dataclass(frozen=True, slots=True)
class Content:
    """A document and what it meant when it was written.

    Attributes:
        data: the user's document.
        region: ISO 3166 code that its national telephone numbers belong to, or None.
        index: for each indexed field, its normalised value by normaliser (``email/1``).
    """

    data: Document
    region: str | None
    index: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Encode for sealing.

        Raises:
            TooLargeError: the document is over :data:`MAX_DOCUMENT_BYTES` as JSON without white space.
        """
        members: Document = {"data": self.data}
        if self.region is not None:
            members["region"] = self.region
        if self.index:
            members["index"] = self.index
        encoded = dump_json(members)
        if len(encoded) > MAX_DOCUMENT_BYTES and len(dump_json(self.data)) > MAX_DOCUMENT_BYTES:
            raise TooLargeError(
                f"A document has at most {MAX_DOCUMENT_BYTES:,} bytes as JSON without white space."
            )
        return encoded

    @classmethod
    def from_bytes(cls, plaintext: bytes) -> Content:
        """Decode what was sealed; the seal has vouched for it."""
        members = parse_json(plaintext)
        return cls(data=members["data"], region=members.get("region"), index=members.get("index", {}))
