"""From an address to its engine: the one place that knows which engines there are."""

from __future__ import annotations

import importlib
from contextlib import nullcontext
from pathlib import Path

from vault.core.errors import MisconfiguredError
from vault.storage.address import ServerAddress
from vault.storage.engine import Engine
from vault.storage.server_engine import ServerEngine, Waiting
from vault.storage.sqlite import SqliteEngine
from vault.telemetry.metrics import Metrics

_SERVERS = {
    "postgresql": ("vault.storage.postgresql", "PostgresqlEngine", "postgresql"),
    "mysql": ("vault.storage.mariadb", "MariadbEngine", "mysql"),
    "mariadb": ("vault.storage.mariadb", "MariadbEngine", "mysql"),
}
"""Scheme -> module, engine, extra that brings the driver. Imported when it is asked for: a driver may be missing."""


def open_engine(
    address: Path | ServerAddress, metrics: Metrics | None = None, waiting: Waiting = nullcontext
) -> Engine:
    """Open a database.

    Args:
        address: a SQLite file, or a server.
        metrics: counts and times what happens; None measures nothing.
        waiting: gives the interpreter's turn to others while the network is waited for.

    Raises:
        MisconfiguredError: it cannot be opened, and waiting would not help.
        UnavailableError: the server cannot be reached just now.
    """
    if isinstance(address, Path):
        return SqliteEngine(address, metrics)
    module, name, extra = _SERVERS[address.scheme]
    try:
        engine: type[ServerEngine] = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise MisconfiguredError(
            f"{address.scheme}: the driver is not installed; run: pip install 'strongroom[{extra}]'"
        ) from error
    return engine(address, metrics, waiting)
