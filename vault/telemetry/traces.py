"""Where an error happened, without its message: messages can hold what somebody sent."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

_MOST_CAUSES = 8


def places_of(error: BaseException) -> str:
    """Types and places of an error and its causes: ``KeyError at app.py:1 > rows.py:2; from OSError(ENOSPC) at ...``."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None and len(parts) < _MOST_CAUSES:
        frames = traceback.extract_tb(current.__traceback__, limit=-40)
        places = " > ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames)
        parts.append(f"{type(current).__name__}{_code_of(current)} at {places}")
        current = current.__cause__ or current.__context__
    return "; from ".join(parts)


def _code_of(error: BaseException) -> str:
    code = getattr(error, "sqlite_errorname", None)
    if code is None and isinstance(error, OSError):
        code = errno.errorcode.get(error.errno or 0)
    return "" if code is None else f"({code})"
