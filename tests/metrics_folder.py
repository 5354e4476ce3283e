"""Where a running server keeps its numbers."""

from __future__ import annotations

import tempfile
from pathlib import Path


def folder_of(pid: int) -> Path:
    """The folder in which the children of this server say that they live."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = {
        hold.parent
        for place in ("/dev/shm", tempfile.gettempdir())  # noqa: S108  # where the server puts it
        for child in children
        for hold in Path(place).glob(f"strongroom-metrics-*/{child}.alive")
    }
    (folder,) = found
    return folder
