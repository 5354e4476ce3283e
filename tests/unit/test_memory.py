"""What a process that holds keys forbids itself; tried in a child, since it cannot be taken back."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes, resource
from vault.bootstrap.memory import keep_memory_private
get = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
before = get()
keep_memory_private()
print(before, get(), resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_no_core_dumps_and_no_debugger() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "1 0 (0, 0)\n"
