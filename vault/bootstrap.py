"""The only wiring: configuration -> engine, providers, services -> application. Nothing else knows all rooms."""

from __future__ import annotations

import fcntl
import functools
import logging
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keyproviders.errors import KeyNotFoundError, KeyProviderError, ProviderMisconfiguredError
from keyproviders.interface import KeyProvider, ProviderSettings, VersionState
from keyproviders.registry import open_administration, open_provider
from vault.api.app import create_app
from vault.api.server import Listener
from vault.api.services import Services
from vault.config import Configuration
from vault.core.audit_search import AuditSearch
from vault.core.authentication import Authentication
from vault.core.census import Census
from vault.core.clock import system_clock
from vault.core.collections import Collections, Settings
from vault.core.credentials import NewCredential
from vault.core.default_collections import USERS_SCHEMA
from vault.core.erasure import Erasures
from vault.core.errors import MisconfiguredError
from vault.core.keyrings import Keyrings
from vault.core.policy import DEFAULT_TENANT, Caller, Role
from vault.core.provisioning import (
    ADMINISTRATOR,
    Administrators,
    KeyringPlan,
    ProvisioningStores,
    create_keyring,
)
from vault.core.readiness import prove_readiness
from vault.core.reading import Reading
from vault.core.record_access import RecordAccess
from vault.core.records import Records
from vault.core.trail import AuditTrail
from vault.core.verification import Verification, VerificationReport
from vault.storage import schema
from vault.storage.sqlite import SqliteEngine
from vault.storage.stores import Stores, open_stores

log = logging.getLogger("strongroom")

SCRUB_SECONDS = 15.0
"""How often what erasures and updates left in the write-ahead log is cleared away."""


@dataclass(frozen=True, slots=True)
class Vault:
    """An opened vault in one process.

    Attributes:
        engine: the database.
        stores: whole operations on it.
        keyrings: loaded and checked.
        services: what the HTTP rim and the host's commands call.
        administrators: makes and replaces the administrator's credential.
    """

    engine: SqliteEngine
    stores: Stores
    keyrings: Keyrings
    services: Services
    administrators: Administrators

    def verify(self, progress: Callable[[], None]) -> VerificationReport:
        """Check everything that is stored, all of it as of one moment."""
        with self.engine.snapshot():
            collections = Collections(
                self.stores.collections, self.keyrings, self.services.trail, system_clock
            )
            return Verification(self.stores.inspector, self.keyrings, collections, progress).run()

    def close(self) -> None:
        """Let go of the database."""
        self.engine.close()


def vault_exists(configuration: Configuration) -> bool:
    """Whether there is a vault to open."""
    return configuration.database_path.exists()


def create_vault(configuration: Configuration) -> NewCredential:
    """Make a new vault: folder, KEK, database, default keyring, collection ``users``, administrator.

    Raises:
        MisconfiguredError: there is one already or somebody makes one now, or something cannot be made.
    """
    for folder in {configuration.folder, configuration.database_path.parent}:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Two that start at one moment would each make a vault, and the later one would take the other's place.
    folder = configuration.database_path.parent  # itself locked: a try that fails leaves no file behind
    with _held(
        os.open(folder, os.O_RDONLY | os.O_CLOEXEC), f"Somebody else makes a vault in {folder} just now."
    ):
        if vault_exists(configuration):
            raise MisconfiguredError(
                f"There is a vault already: {configuration.database_path}. A lost administrator credential is "
                f"replaced by: {configuration.command('init --new-credential')}"
            )
        plan = _first_keyring(configuration)
        # Built beside its final name: a vault that was half made when the power went is not taken for one.
        unfinished = configuration.database_path.with_name(configuration.database_path.name + ".new")
        _remove_database(unfinished)
        credential = _fill(unfinished, plan)
        unfinished.rename(configuration.database_path)
        _sync_folder(configuration.database_path.parent)
        _remove_database(unfinished)
    return credential


def open_vault(configuration: Configuration) -> Vault:
    """Open an existing vault and prove that its keys and schema fit.

    Raises:
        MisconfiguredError: a sentence that says what is wrong and what to do.
    """
    if not vault_exists(configuration):
        raise MisconfiguredError(
            f"There is no vault at {configuration.database_path}; make one with: {configuration.command('init')}"
        )
    engine = SqliteEngine(configuration.database_path)
    waiting = schema.pending(engine)
    if waiting:
        raise MisconfiguredError(
            f"The database needs the upgrade {waiting[-1]}; back it up, then: "
            + configuration.command("database upgrade --apply")
        )
    stores = open_stores(engine)
    schema.check_indexes(engine)
    return _assemble(engine, stores, _open_providers(configuration))


def upgrade_database(configuration: Configuration, *, apply: bool) -> list[str]:
    """Name the schema upgrades that are waiting, and run them if asked to."""
    if not vault_exists(configuration):
        raise MisconfiguredError(
            f"There is no vault at {configuration.database_path}; make one with: {configuration.command('init')}"
        )
    engine = SqliteEngine(configuration.database_path)
    try:
        return schema.upgrade(engine) if apply else schema.pending(engine)
    finally:
        engine.close()


def scrub(configuration: Configuration) -> None:
    """Empty the write-ahead log, so that nothing erased remains in it."""
    engine = SqliteEngine(configuration.database_path)
    try:
        engine.scrub()
    finally:
        engine.close()


def listener_of(configuration: Configuration) -> Listener:
    """Where the server listens."""
    server = configuration.settings.server
    return Listener(
        host=server.host,
        port=server.port,
        workers=server.workers,
        certificate=configuration.folder / server.tls.certificate if server.tls else None,
        key=configuration.folder / server.tls.key if server.tls else None,
    )


@contextmanager
def only_server(configuration: Configuration) -> Iterator[None]:
    """Hold the database for one server; its worker processes inherit the hold.

    Raises:
        MisconfiguredError: another server, or a worker that outlived its server, has it.
    """
    path = configuration.database_path.with_name(configuration.database_path.name + ".server")
    refusal = (
        f"Another strongroom server runs on {configuration.database_path}. Stop it first; if it was killed, its "
        "last workers may still be finishing: try again in a few seconds."
    )
    with _held(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), refusal):
        yield


def application_loader(configuration: Configuration) -> Callable[[], Any]:
    """What each worker process calls, after the fork, to make its application."""
    return functools.partial(_load_application, configuration, os.getpid())


def _load_application(configuration: Configuration, server_pid: int) -> Any:
    # Until granian sets a worker's own handler, after this returns, the one inherited from the server swallows the
    # signal: a server that was stopped right after its start would wait its whole kill timeout for this worker.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    vault = open_vault(configuration)
    threading.Thread(target=_scrub_for_ever, args=(vault.engine,), name="scrubber", daemon=True).start()
    threading.Thread(target=_end_with_server, args=(server_pid,), name="orphan-watch", daemon=True).start()
    return create_app(vault.services)


def _scrub_for_ever(engine: SqliteEngine) -> None:
    while True:
        # Not all workers at the same moment.
        threading.Event().wait(SCRUB_SECONDS * random.uniform(0.8, 1.2))  # noqa: S311  # no secret depends on it
        try:
            engine.scrub()
        except Exception as error:  # noqa: BLE001  # a worker loop: report, and try again at the next turn
            log.warning("the write-ahead log could not be cleared just now: %s", type(error).__name__)


def _end_with_server(server_pid: int) -> None:
    while os.getppid() == server_pid:
        threading.Event().wait(1.0)
    # The server was killed: a worker that went on would hold port and vault without anyone to stop it.
    os._exit(1)


def _assemble(engine: SqliteEngine, stores: Stores, providers: dict[str, KeyProvider]) -> Vault:
    keyrings = Keyrings(stores.keys, providers)
    keyrings.load()
    clock = system_clock
    trail = AuditTrail(stores.audit, lambda: keyrings.authenticator(DEFAULT_TENANT), clock)
    collections = Collections(stores.collections, keyrings, trail, clock)
    access = RecordAccess(stores.records, collections, keyrings, trail, clock)
    reading = Reading(access)
    services = Services(
        authentication=Authentication(stores.credentials, keyrings, clock),
        collections=collections,
        records=Records(access),
        reading=reading,
        erasures=Erasures(access),
        census=Census(stores.keys, keyrings, trail),
        audit=AuditSearch(stores.audit, stores.records, reading, collections, keyrings, trail),
        trail=trail,
        readiness=functools.partial(prove_readiness, keyrings, stores.keys),
    )
    administrators = Administrators(stores.credentials, keyrings.authenticator(DEFAULT_TENANT), trail, clock)
    return Vault(engine, stores, keyrings, services, administrators)


def _open_providers(configuration: Configuration) -> dict[str, KeyProvider]:
    try:
        return {
            name: open_provider(section.type, _provider_settings(configuration, name))
            for name, section in configuration.settings.providers.items()
        }
    except KeyProviderError as error:
        raise MisconfiguredError(f"Key provider '{error.provider}': {error}") from error


def _provider_settings(configuration: Configuration, name: str) -> ProviderSettings:
    options = configuration.settings.providers[name].model_dump(exclude={"type"})
    return ProviderSettings(name=name, options=options, folder=configuration.folder)


def refuse_keys_that_vanish(configuration: Configuration) -> None:
    """Raise if the first keyring's keys would end with the process that makes them.

    Raises:
        MisconfiguredError: the provider has the type memory, which is for tests.
    """
    section = configuration.settings.keyrings["default"]
    if configuration.settings.providers[section.provider].type == "memory":
        raise MisconfiguredError(
            f"[providers.{section.provider}] has the type memory: its keys end with this process, and nothing could "
            "open the vault afterwards. Choose another type, for example file."
        )


def _first_keyring(configuration: Configuration) -> KeyringPlan:
    section = configuration.settings.keyrings["default"]
    kind = configuration.settings.providers[section.provider].type
    settings = _provider_settings(configuration, section.provider)
    try:
        try:
            info = open_provider(kind, settings).key_info(section.key)
        except (ProviderMisconfiguredError, KeyNotFoundError):
            administration = open_administration(kind, settings)
            administration.create(section.key)
            administration.close()
            info = open_provider(kind, settings).key_info(section.key)
        newest = [version for version in info.versions if version.state is VersionState.ENABLED][-1]
        return KeyringPlan(
            name="default",
            provider=open_provider(kind, settings),
            provider_key=section.key,
            provider_version=newest.version,
            algorithm=newest.algorithm,
        )
    except KeyProviderError as error:
        raise MisconfiguredError(f"Key provider '{error.provider}': {error}") from error


def _fill(path: Path, plan: KeyringPlan) -> NewCredential:
    engine = SqliteEngine(path)
    try:
        schema.upgrade(engine)
        stores = open_stores(engine)
        create_keyring(plan, ProvisioningStores(stores.keys, stores.audit), system_clock)
        vault = _assemble(engine, stores, {plan.provider.name: plan.provider})
        credential = vault.administrators.create()
        founder = Caller(
            tenant=DEFAULT_TENANT,
            principal=ADMINISTRATOR,
            credential=credential.credential_id.hex(),
            role=Role.ADMINISTRATOR,
        )
        vault.services.collections.define(founder, "users", USERS_SCHEMA, Settings())
        engine.scrub()
    finally:
        engine.close()
    return credential


def _remove_database(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", ".lock"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _held(descriptor: int, refusal: str) -> Iterator[None]:
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MisconfiguredError(refusal) from None
        yield
    finally:
        os.close(descriptor)
