"""What every engine does for the stores: transactions, locks and what is done again. The only thing that they know."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from peewee import Database

from vault.core.errors import UnavailableError

P = ParamSpec("P")
T = TypeVar("T")


class Told(NamedTuple):
    """What a transaction said of an audit entry that it inserts.

    Attributes:
        action: of the entry.
        result: of the entry.
        entry_id: by which a transaction whose end was not heard is found.
    """

    action: str
    result: str
    entry_id: bytes


class Connection(Protocol):
    """What an engine's connection has beyond peewee's ``Database``."""

    told: list[Told]
    """The audit entries of the transaction that is open."""

    def insert_if_new(self, sql: str, values: Sequence[Any]) -> int:
        """Insert a row unless a unique index refuses it; return how many were inserted."""
        ...


class Text(Protocol):
    """A statement's text, and its values in the order of the text."""

    sql: str

    def bind(self, values: Mapping[str, Any]) -> list[Any]:
        """Put the values in order."""
        ...


Step = tuple[Text, Mapping[str, Any]]


class TransactionLostError(UnavailableError):
    """Nothing of the transaction was kept; the whole of it may run again, with the same bytes."""


class Engine(Protocol):
    """One database.

    Attributes:
        place: where it is, for people; never a password.
        database: what peewee builds SQL with.
    """

    place: str
    database: Any

    def write(self) -> AbstractContextManager[Database]:
        """Run the body in one durable transaction; leaving by an exception rolls it back.

        Inside another one of the same thread it is a part of that.

        Raises:
            TransactionLostError: nothing was kept, and trying again may help.
            UnavailableError: the database cannot be had, or (code ``outcome-unknown``) did not say whether it committed.
            IntegrityError: the engine finds its own data damaged.
        """
        ...

    def read(self) -> AbstractContextManager[Database]:
        """Run single SELECTs, each of which sees one consistent state."""
        ...

    def snapshot(self) -> AbstractContextManager[Database]:
        """Run several SELECTs that all see the same state, for as long as they take."""
        ...

    def decide(self) -> AbstractContextManager[Database]:
        """Run SELECTs, and at last one INSERT that tests in its own text that what they found still holds.

        Between them the rows may change: where transactions run side by side, this is none.
        """
        ...

    def in_one(self, steps: Callable[[], Sequence[Step]]) -> bool:
        """Commit several INSERTs, each of exactly one row, as one statement, if the engine can and all of them do.

        Returns:
            Whether it did. If not, nothing was changed: the ordinary way finds out why.
        """
        ...

    def alone(self) -> AbstractContextManager[Database]:
        """Run the body while nobody else is in here, for as long as it takes: upgrades, and making a vault."""
        ...

    def reserved(self) -> AbstractContextManager[None]:
        """Keep out others who would make, upgrade or fill a vault here, while the body commits as often as it likes."""
        ...

    def id_counter(self, table: str) -> int:
        """The highest id that a table has ever given, as far as the engine keeps that in mind; else 0."""
        ...

    def set_id_counter(self, table: str, last: int) -> None:
        """Let the ids that a table gives begin after this one, which is no less than any in it."""
        ...

    def check_tables(self) -> None:
        """Find tables that would not keep what they are given.

        Raises:
            MisconfiguredError: names the first.
        """
        ...

    def again(self, whole: Callable[[], T]) -> T:
        """Run a whole operation, and once more if its transaction was lost."""
        ...

    def scrub(self) -> bool:
        """Clear away what erasing leaves behind in the engine's own files, as far as that is up to us.

        Returns:
            Whether nothing remains; False if it is worth trying again later.
        """
        ...

    def close(self) -> None:
        """Let go of the database."""
        ...


class _Store(Protocol):
    _engine: Engine


S = TypeVar("S", bound=_Store)


def whole(operation: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """Mark a store's method as one transaction: if the engine loses it, all of it runs again with the same values."""

    @functools.wraps(operation)
    def repeated(store: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return store._engine.again(lambda: operation(store, *args, **kwargs))  # noqa: SLF001  # the store is ours

    return repeated
