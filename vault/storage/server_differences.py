"""What one kind of database server does its own way, and nobody outside its engine can tell."""

from __future__ import annotations

from abc import ABC, abstractmethod

from vault.core.errors import MisconfiguredError, UnavailableError
from vault.storage.address import ServerAddress
from vault.storage.failures import Failure
from vault.storage.server_pool import ServerPool


class ServerDifferences(ABC):
    """What an engine says about its kind of server; the rest is :class:`vault.storage.server_engine.ServerEngine`."""

    changes_tables_in_transactions: bool
    """Whether tables can be changed in a transaction, and are not if it is rolled back."""

    @abstractmethod
    def _pool(self, address: ServerAddress) -> ServerPool:
        """Make the pool; it connects later."""

    @abstractmethod
    def _check_server(self) -> None:
        """Raise MisconfiguredError if the server would not keep what it is given."""

    @abstractmethod
    def check_tables(self) -> None:
        """Raise MisconfiguredError if a table would not keep what it is given."""

    @abstractmethod
    def id_counter(self, table: str) -> int:
        """The highest id that a table has given."""

    @abstractmethod
    def set_id_counter(self, table: str, last: int) -> None:
        """Let the ids that a table gives begin after this one."""

    @abstractmethod
    def failure_of(self, error: BaseException) -> Failure:
        """What an error of the driver means."""

    @abstractmethod
    def _not_connected(self, error: BaseException) -> MisconfiguredError | UnavailableError:
        """What an error while connecting means."""

    @abstractmethod
    def _begin_snapshot(self) -> None:
        """Begin a transaction that reads, and sees one state."""

    @abstractmethod
    def _session_name(self) -> str:
        """By which the server knows this thread's session."""

    @abstractmethod
    def _is_over(self, session: str) -> bool:
        """End a session on the server, and say whether it has ended."""

    @abstractmethod
    def _try_lock(self) -> bool:
        """Take the lock of this vault, if nobody else has it."""

    @abstractmethod
    def _unlock(self) -> None:
        """Let go of it."""
