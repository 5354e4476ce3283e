"""Key material in memory: one type, so that every access to it greps."""

from __future__ import annotations

from typing import NoReturn


class SecretBytes:
    """Key material that never shows itself in a repr, a log, a pickle or a comparison.

    The bytes live in a ``bytearray`` of our own, so that :meth:`wipe` can overwrite them. Python and the
    libraries below it may still hold copies: the claim is "short-lived and never printed", not "erased".
    """

    __slots__ = ("_buffer",)

    def __init__(self, material: bytes | bytearray) -> None:
        self._buffer = bytearray(material)

    def reveal(self) -> bytes:
        """Return the material. Call it only at the line that hands it to the cryptography library.

        Raises:
            ValueError: the material was wiped.
        """
        buffer = self._buffer
        material = bytes(buffer)
        # Checked after the copy: a wipe in another thread unlinks the buffer before it zeroes it, so a copy that
        # caught zeros is never handed out. A data key wrapped under a key of zeros would be lost and public at once.
        if not material or self._buffer is not buffer:
            raise ValueError("this secret was wiped")
        return material

    def wipe(self) -> None:
        """Overwrite our copy with zeros and drop it. Safe to call twice."""
        buffer, self._buffer = self._buffer, bytearray()
        buffer[:] = bytes(len(buffer))

    def __len__(self) -> int:
        return len(self._buffer)

    def __repr__(self) -> str:
        return f"SecretBytes(<{len(self._buffer)} bytes>)"

    # Comparing secrets with == is how timing leaks start; hmac.compare_digest on reveal() is the only way.
    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("secrets are not compared with ==; use hmac.compare_digest")

    def __reduce__(self) -> NoReturn:
        raise TypeError("secrets are not pickled or copied")
