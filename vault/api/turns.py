"""One request at a time computes in a worker; requests that wait for their bytes do not count.

Python threads that compute side by side only take the interpreter lock from each other, most often from the one
that holds the database: measured with 16 connections, that costs a third of all creates. But granian reads a body in
the thread that answers and has no deadline for it, so with a single thread a client that sends slowly would stop the
worker. Hence many threads, and one turn.

A batch computes for up to a second. It gives the turn to the others and takes the one long turn in its place: it then
shares the interpreter with single requests, which would else wait for the whole of it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from flask import g, has_app_context

from vault.core.errors import UnavailableError

TURN_DEADLINE_SECONDS = 10.0
"""How long a request waits for its turn before it answers 503."""
LONG_TURN_DEADLINE_SECONDS = 30.0
"""How long a batch waits for the long turn before it answers 503."""


class Turns:
    """Hands out turns to the requests of one process.

    Args:
        at_once: how many requests compute at the same time.
    """

    def __init__(self, at_once: int = 1) -> None:
        self._free = threading.Semaphore(at_once)
        self._long = threading.Semaphore(1)

    def take_again(self) -> None:
        """Wait for a turn for a request that had one before, for as long as it takes.

        What it waited for outside may have been a commit: to refuse now would be to say that nothing was done. Each of
        the few threads of a process is before it once at most.
        """
        self._free.acquire()
        g.turn = self

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

    @contextmanager
    def long(self) -> Iterator[None]:
        """Hold the one long turn.

        Raises:
            UnavailableError: ``busy``; it was not free within the deadline.
        """
        if not self._long.acquire(timeout=LONG_TURN_DEADLINE_SECONDS):
            raise UnavailableError(
                f"This worker was busy with other batches for {LONG_TURN_DEADLINE_SECONDS:.0f} seconds; nothing was "
                "done.",
                code="busy",
            )
        try:
            yield
        finally:
            self._long.release()

    def release(self) -> None:
        """Let the next request go on."""
        self._free.release()


def give_back_turn() -> None:
    """Give the request's turn back, if it has one."""
    turn: Turns | None = g.pop("turn", None)
    if turn is not None:
        turn.release()


@contextmanager
def waiting() -> Iterator[None]:
    """Give the turn to others while this request waits for the network, and take it again; none outside a request."""
    if not has_app_context():
        yield
        return
    turn: Turns | None = g.get("turn")
    give_back_turn()
    try:
        yield
    finally:
        if turn is not None:
            turn.take_again()


@contextmanager
def long_work() -> Iterator[None]:
    """Let single requests go on beside this one: take the long turn in place of the turn.

    Raises:
        UnavailableError: ``busy``; other batches were at work for too long.
    """
    turn: Turns | None = g.get("turn")
    give_back_turn()
    if turn is None:
        yield
        return
    with turn.long():
        yield
