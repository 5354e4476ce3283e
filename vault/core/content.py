"""What is inside a seal: the document as it was sent, and what is needed to read it again as it was meant.

Frozen with sealed format v1: a UTF-8 JSON object with the member ``data``, and ``region`` if the write had one.
The region is sealed with the document because the same digits are another telephone number elsewhere: without it a
later check of the index could not repeat the normalisation.
"""

from __future__ import annotations

from dataclasses import dataclass

from vault.core.documents import MAX_DOCUMENT_BYTES, Document, dump_json, parse_json
from vault.core.errors import TooLargeError


@dataclass(frozen=True, slots=True)
class Content:
    """A document and the region that its national telephone numbers belong to.

    Attributes:
        data: the user's document.
        region: ISO 3166 code, or None.
    """

    data: Document
    region: str | None

    def to_bytes(self) -> bytes:
        """Encode for sealing.

        Raises:
            TooLargeError: the document is over :data:`MAX_DOCUMENT_BYTES` as JSON without white space.
        """
        members: Document = {"data": self.data}
        if self.region is not None:
            members["region"] = self.region
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
        return cls(data=members["data"], region=members.get("region"))
