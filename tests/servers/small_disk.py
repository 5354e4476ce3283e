"""A disk that is soon full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(missing: Callable[[str], None], folder: Path, megabytes: int) -> Iterator[None]:
    """Mount a small filesystem over a folder."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "strongroom-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        missing("the right to mount a small filesystem")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)
