"""Where an error happened, without its message: messages can hold what somebody sent."""

from __future__ import annotations

import traceback
from pathlib import Path

_MOST_CAUSES = 8


def places_of(error: BaseException) -> str:
    """Types and places of an error and its causes: ``KeyError at app.py:10 > records.py:20; from OSError at ...``."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < _MOST_CAUSES:
        frames = traceback.extract_tb(current.__traceback__, limit=-40)
        places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
        parts.append(f"{type(current).__name__} at {places}")
        current = current.__cause__ or current.__context__
    return "; from ".join(parts)
