"""From the configuration to an open database."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import ProviderSettings
from keyproviders.options import secret_option
from vault.api.turns import waiting
from vault.config import Configuration
from vault.core.errors import MisconfiguredError
from vault.database import Database
from vault.storage.address import ServerAddress
from vault.storage.engine import Engine
from vault.storage.opening import open_engine
from vault.storage.replica import Replica
from vault.telemetry.metrics import Metrics

_AS_PROVIDER = "database"


def database_address(configuration: Configuration) -> Path | ServerAddress:
    """Where the database is, with what is needed to log in.

    Raises:
        MisconfiguredError: the password is not where the configuration says.
    """
    section = configuration.settings.database
    return _server_address(configuration, section) if section.is_server else configuration.database_path


def _server_address(configuration: Configuration, section: Database) -> ServerAddress:
    return ServerAddress(
        scheme=section.scheme,
        hosts=section.hosts,
        database=section.name,
        user=section.user,
        password=_password(configuration),
        socket=section.socket,
        target_session_attrs=section.target_session_attrs,
        is_encrypted=section.is_encrypted,
        ca=configuration.folder / section.ca if section.ca else None,
        pool_size=section.pool_size,
        pool_wait_seconds=section.pool_wait_seconds,
        connect_seconds=section.connect_timeout_seconds,
        statement_seconds=section.statement_timeout_seconds,
    )


def open_database(configuration: Configuration, metrics: Metrics | None = None) -> Engine:
    """Open the configured database; whether a vault is in it is not asked.

    Raises:
        MisconfiguredError: it cannot be opened, and waiting would not help.
        UnavailableError: its server cannot be reached just now.
    """
    return open_engine(database_address(configuration), metrics, waiting)


def configured_replica(configuration: Configuration) -> Replica | None:
    """The replica that the configuration names; it is opened when it is first asked."""
    section = configuration.settings.database.replica
    if section is None:
        return None
    address = _server_address(configuration, section)
    if len(address.hosts) > 1 and "target_session_attrs" not in (
        configuration.settings.database.replica_url or ""
    ):
        address = dataclasses.replace(address, target_session_attrs="any")
    return Replica(lambda: open_engine(address, waiting=waiting))


def _password(configuration: Configuration) -> bytes | None:
    reference = configuration.settings.database.password
    if reference is None:
        return None
    # A key provider's secrets are read with the same care.
    options = {"password": reference.model_dump(exclude_none=True)}
    try:
        secret = secret_option(ProviderSettings(_AS_PROVIDER, options, configuration.folder), "password")
    except ProviderMisconfiguredError as error:
        sentence = str(error).replace(f"[providers.{_AS_PROVIDER}]", "[database]")
        raise MisconfiguredError(sentence) from error
    return None if secret is None else bytes(secret.reveal())
