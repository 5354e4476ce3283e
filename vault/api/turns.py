"""One request at a time computes in a worker; requests that wait for their bytes do not count.

Python threads that compute side by side only take the interpreter lock from each other, most often from the one
that holds the database: measured with 16 connections, that costs a third of all creates. But granian reads a body in
the thread that answers and has no deadline for it, so with a single thread a client that sends slowly would stop the
worker. Hence many threads, and one turn.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import g

from vault.core.errors import UnavailableError

TURN_DEADLINE_SECONDS = 10.0
"""How long a request waits for its turn before it answers 503."""


class Turns:
    """Hands out turns to the requests of one process.

    Args:
        at_once: how many requests compute at the same time.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._free = threading.Semaphore(at_once)

    def take(self) -> None:
        """Wait for a turn and keep it until :func:`give_back_turn`.

        Raises:
            UnavailableError: ``busy``; no turn within the deadline.
        """
        if not self._free.acquire(timeout=TURN_DEADLINE_SECONDS):
            raise UnavailableError(
                f"This worker was busy for {TURN_DEADLINE_SECONDS:.0f} seconds; nothing was done.",
                code="busy",
            )
        g.turn = self

    def release(self) -> None:
        """Let the next request go on."""
        self._free.release()


def give_back_turn() -> None:
    """Give the request's turn back, if it has one."""
    turn: Turns | None = g.pop("turn", None)
    if turn is not None:
        turn.release()


@contextmanager
def waiting_for_bytes() -> Iterator[None]:
    """Give the turn to others while this request waits for the network, and take it again."""
    turn: Turns | None = g.get("turn")
    give_back_turn()
    try:
        yield
    finally:
        if turn is not None:
            turn.take()
