"""Where a database server is, and how to reach it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

DEFAULT_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
"""The schemes of servers, each with the port that it has unless another is named."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """A database on a server.

    Attributes:
        scheme: ``postgresql``, ``mysql`` or ``mariadb``.
        hosts: each with its port; more than one only for PostgreSQL. Empty if ``socket`` is there.
        socket: a Unix socket (for PostgreSQL its folder) instead of hosts.
        database: its name.
        user: who logs in.
        password: with what; None if the server asks for none.
        target_session_attrs: which of several hosts will do, as libpq calls it.
        is_encrypted: whether the connection is encrypted and the server's certificate checked.
        ca: the certificates that vouch for the server's, PEM; None for those of the system.
        pool_size: the most connections of one process.
        pool_wait_seconds: how long to wait for one of them.
        connect_seconds: how long to wait for a connection, for each host.
        statement_seconds: how long one statement may take.
    """

    scheme: str
    hosts: tuple[tuple[str, int], ...]
    database: str
    user: str
    password: bytes | None = field(default=None, repr=False)
    socket: str | None = None
    target_session_attrs: str | None = None
    is_encrypted: bool = False
    ca: Path | None = None
    pool_size: int = 8
    pool_wait_seconds: float = 3.0
    connect_seconds: float = 3.0
    statement_seconds: float = 5.0

    @property
    def place(self) -> str:
        """The address for people: no user, no password."""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{self.scheme}://{hosts or self.socket}/{self.database}"
