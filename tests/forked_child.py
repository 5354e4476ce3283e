"""Running something in a forked child of the process that tests."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable

import pytest

RAISED = 70


def start_in_child(work: Callable[[], object]) -> int:
    """Run it in a forked child, which ends with 0 if it returned and :data:`RAISED` if it raised; return its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork beside threads
        child = os.fork()
    if child:
        return child
    code = RAISED
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - a child has nobody to raise it to, and never returns into pytest
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def exit_code_of(child: int) -> int:
    """Wait for a child's end: its exit code, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run_in_child(work: Callable[[], object]) -> int:
    """Run it in a forked child and return what it ended with."""
    return exit_code_of(start_in_child(work))


@pytest.fixture
def exit_code_of_child() -> Callable[[Callable[[], object]], int]:
    """See :func:`run_in_child`."""
    return run_in_child
