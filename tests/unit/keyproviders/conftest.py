from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import pytest


@pytest.fixture
def exit_code_of_child() -> Callable[[Callable[[], None]], int]:
    """Run something in a forked child; 0 if it returned, 70 if it raised, or whatever it exited with."""

    def run(work: Callable[[], None]) -> int:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # Python 3.12 warns of every fork beside threads
            child = os.fork()
        if not child:
            code = 70
            try:
                work()
                code = 0
            finally:
                os._exit(code)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    return run
