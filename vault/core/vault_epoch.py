"""The vault epoch: a number that grows with every change of what processes keep in memory.

Keyrings, key versions, stored keys, collections and credentials raise it in the transaction that changes them. Every
process looks at it about once a second, so that none goes on for long with what has changed. Nothing that must not be
wrong depends on it: writes test in SQL whether their key version may still be written.
"""

from __future__ import annotations

from typing import Protocol


class EpochStore(Protocol):
    """Tells the vault epoch."""

    def current(self) -> int:
        """The epoch as of the newest commit."""
        ...
