"""Opening a vault: engine, stores, providers and services of one process, proven to fit together."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from keyproviders.interface import KeyProvider
from vault.api.problems import refusal_status
from vault.api.services import Services
from vault.api.turns import waiting
from vault.bootstrap.databases import configured_replica, open_database
from vault.bootstrap.key_doors import cache_meter, data_keys_of, guarded, open_providers
from vault.config import Configuration
from vault.core.audit_search import AuditSearch
from vault.core.authentication import Authentication
from vault.core.bulk import Bulk
from vault.core.census import Census
from vault.core.clock import system_clock
from vault.core.collections import DEFAULT_KEYRING, Collections
from vault.core.data_key_cache import CacheBounds
from vault.core.erasure import Erasures
from vault.core.errors import MisconfiguredError
from vault.core.idempotency import Idempotency
from vault.core.key_requests import KeyRequests
from vault.core.keyrings import Keyrings
from vault.core.policy import DEFAULT_TENANT
from vault.core.provisioning import Administrators
from vault.core.readiness import prove_readiness
from vault.core.reading import Reading
from vault.core.record_access import RecordAccess
from vault.core.records import Records
from vault.core.rows import KeyringRow
from vault.core.trail import AuditTrail
from vault.core.verification import Verification, VerificationReport
from vault.storage import schema
from vault.storage.engine import Engine
from vault.storage.stores import Stores, open_stores
from vault.telemetry.metrics import Metrics


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

    engine: Engine
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
    """Whether there is a vault to open.

    Raises:
        MisconfiguredError: the database's server refuses us.
        UnavailableError: it cannot be reached, so nobody knows.
    """
    if not configuration.has_database_server:
        return configuration.database_path.exists()
    engine = open_database(configuration)
    try:
        return schema.holds_vault(engine)
    finally:
        engine.close()


def open_vault(
    configuration: Configuration, metrics: Metrics | None = None, *, needs_all_keyrings: bool = True
) -> Vault:
    """Open an existing vault and prove that its keys and schema fit.

    Args:
        configuration: where it is.
        metrics: counts and times what happens; None measures nothing.
        needs_all_keyrings: refuse if a configured keyring was not made yet; otherwise only those providers are opened
            that the others need.

    Raises:
        MisconfiguredError: a sentence that says what is wrong and what to do.
    """
    engine = _existing(configuration, metrics)
    try:
        _check_upgraded(engine, configuration)
        stores = open_stores(engine, configured_replica(configuration))
        schema.check_indexes(engine)
        engine.check_tables()
        needed = None if needs_all_keyrings else {row.provider for row in stores.keys.key_versions()}
        if needs_all_keyrings:
            # Before the providers: one whose first key is still to be made may not even open.
            _check_keyrings(configuration, stores.keys.keyrings())
        providers = open_providers(configuration, needed)
        return assemble(engine, stores, providers, metrics, _bounds_of(configuration))
    except BaseException:
        # Whoever waits for a provider tries again and again.
        engine.close()
        raise


def _existing(configuration: Configuration, metrics: Metrics | None = None) -> Engine:
    no_vault = MisconfiguredError(
        f"There is no vault at {configuration.database_place}; make one with: {configuration.command('init')}"
    )
    # To open a SQLite file is to make it.
    if not configuration.has_database_server and not vault_exists(configuration):
        raise no_vault
    engine = open_database(configuration, metrics)
    try:
        is_there = not configuration.has_database_server or schema.holds_vault(engine)
    except BaseException:
        engine.close()
        raise
    if not is_there:
        engine.close()
        raise no_vault
    return engine


def _check_keyrings(configuration: Configuration, rows: Sequence[KeyringRow]) -> None:
    made = {row.name: row for row in rows if row.tenant == DEFAULT_TENANT}
    for name in configuration.settings.keyrings if made else ():
        if name not in made:
            raise MisconfiguredError(
                f"[keyrings.{name}] was not made yet; make it with: "
                + configuration.command(f"keys init {name}")
            )
        misplaced = misplaced_keyring(configuration, made[name])
        if misplaced is not None:
            raise misplaced


def misplaced_keyring(configuration: Configuration, row: KeyringRow) -> MisconfiguredError | None:
    """Why a keyring is not where the configuration says; None if it is."""
    section = configuration.settings.keyrings[row.name]
    if (section.provider, section.key) == (row.provider, row.provider_key):
        return None
    return MisconfiguredError(
        f"[keyrings.{row.name}] names key '{section.key}' of provider '{section.provider}', and the keyring's keys are "
        f"made as '{row.provider_key}' by '{row.provider}'. This release cannot move a keyring: put the old names back."
    )


def _check_upgraded(engine: Engine, configuration: Configuration) -> None:
    steps = schema.pending(engine)
    if steps:
        raise MisconfiguredError(
            f"The database needs the upgrade {steps[-1]}; back it up, then: "
            + configuration.command("database upgrade --apply")
        )


def upgrade_database(configuration: Configuration, *, apply: bool) -> list[str]:
    """Name the schema upgrades that are waiting, and run them if asked to."""
    engine = _existing(configuration)
    try:
        return schema.upgrade(engine) if apply else schema.pending(engine)
    finally:
        engine.close()


def scrub(configuration: Configuration) -> None:
    """Empty the write-ahead log, so that nothing erased remains in it."""
    if configuration.has_database_server:
        return
    engine = open_database(configuration)
    try:
        engine.scrub()
    finally:
        engine.close()


def _bounds_of(configuration: Configuration) -> CacheBounds:
    section = configuration.settings.data_key_cache
    return CacheBounds(section.max_entries, section.max_age_seconds, section.max_uses)


def assemble(
    engine: Engine,
    stores: Stores,
    providers: Mapping[str, KeyProvider],
    metrics: Metrics | None = None,
    bounds: CacheBounds | None = None,
) -> Vault:
    """Load the keyrings and put the services together.

    Raises:
        MisconfiguredError: a provider is missing, or holds other keys than this vault was made with.
        UnavailableError: a provider cannot be reached.
        IntegrityError: a key row is not what the vault wrote.
    """
    keyrings = Keyrings(
        stores.keys,
        guarded(providers, metrics),
        data_keys=data_keys_of(bounds or CacheBounds(), metrics),
        waiting=waiting,
    )
    keyrings.load()
    clock = system_clock
    trail = AuditTrail(stores.audit, lambda: keyrings.authenticator(DEFAULT_TENANT), clock)
    collections = Collections(
        stores.collections, keyrings, trail, clock, cache_meter("collection_definitions", metrics)
    )
    access = RecordAccess(stores.records, collections, keyrings, trail, clock)
    reading = Reading(access)
    services = Services(
        authentication=Authentication(stores.credentials, keyrings, clock),
        collections=collections,
        records=Records(access),
        bulk=Bulk(access, reading),
        idempotency=Idempotency(
            stores.receipts,
            clock,
            status_of=refusal_status,
            hasher_of=lambda tenant: keyrings.get(tenant, DEFAULT_KEYRING).requests,
        ),
        reading=reading,
        erasures=Erasures(access),
        census=Census(stores.keys, keyrings, trail, processes=stores.processes, clock=clock),
        key_requests=KeyRequests(
            stores.rotations,
            stores.jobs,
            stores.processes,
            keyrings=keyrings,
            trail=trail,
            clock=clock,
        ),
        audit=AuditSearch(stores.audit, stores.records, reading, collections, keyrings, trail),
        trail=trail,
        readiness=functools.partial(prove_readiness, keyrings, stores.keys),
        metrics=metrics,
    )
    administrators = Administrators(stores.credentials, keyrings.authenticator(DEFAULT_TENANT), trail, clock)
    return Vault(engine, stores, keyrings, services, administrators)
