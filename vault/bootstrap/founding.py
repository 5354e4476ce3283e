"""Making a vault, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from vault.bootstrap.administering import planned_keyring
from vault.bootstrap.databases import open_database
from vault.bootstrap.holding import held
from vault.bootstrap.opening import assemble, vault_exists
from vault.config import Configuration
from vault.core.clock import system_clock
from vault.core.collections import DEFAULT_KEYRING, Settings
from vault.core.credentials import NewCredential
from vault.core.default_collections import USERS_SCHEMA
from vault.core.errors import MisconfiguredError
from vault.core.policy import DEFAULT_TENANT, Caller, Role
from vault.core.provisioning import ADMINISTRATOR, KeyringPlan, ProvisioningStores, create_keyring
from vault.storage import schema
from vault.storage.engine import Engine
from vault.storage.sqlite import SqliteEngine
from vault.storage.stores import Stores, open_stores


def create_vault(configuration: Configuration) -> NewCredential:
    """Make a new vault: folder, KEKs, database, keyrings, collection ``users``, administrator.

    Raises:
        MisconfiguredError: there is one already or somebody makes one now, or something cannot be made.
    """
    if configuration.has_database_server:
        return _on_server(configuration)
    for folder in {configuration.folder, configuration.database_path.parent}:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Two that start at one moment would each make a vault, and the later one would take the other's place.
    folder = configuration.database_path.parent  # itself locked: a try that fails leaves no file behind
    with held(
        os.open(folder, os.O_RDONLY | os.O_CLOEXEC), f"Somebody else makes a vault in {folder} just now."
    ):
        if vault_exists(configuration):
            raise _there_is_one(configuration)
        plan, others = _plans(configuration)
        # Built beside its final name: a vault that was half made when the power went is not taken for one.
        unfinished = configuration.database_path.with_name(configuration.database_path.name + ".new")
        _remove_database(unfinished)
        credential = _fill(unfinished, plan, others)
        unfinished.rename(configuration.database_path)
        _sync_folder(configuration.database_path.parent)
        _remove_database(unfinished)
    return credential


def _on_server(configuration: Configuration) -> NewCredential:
    configuration.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = open_database(configuration)
    try:
        # Tables first, where their changes cannot be part of a transaction; then all rows in one. A vault without rows is
        # none, and the next init goes on from there.
        with engine.alone():
            if schema.holds_vault(engine):
                raise _there_is_one(configuration)
            plan, others = _plans(configuration)
            schema.upgrade(engine)
            stores = open_stores(engine)
            with engine.write():
                return _found(engine, stores, plan, others)
    finally:
        engine.close()


def _plans(configuration: Configuration) -> tuple[KeyringPlan, list[KeyringPlan]]:
    plan = planned_keyring(configuration, DEFAULT_KEYRING)
    others = [
        planned_keyring(configuration, name)
        for name in configuration.settings.keyrings
        if name != DEFAULT_KEYRING
    ]
    return plan, others


def _there_is_one(configuration: Configuration) -> MisconfiguredError:
    return MisconfiguredError(
        f"There is a vault already: {configuration.database_place}. A lost administrator credential is "
        f"replaced by: {configuration.command('init --new-credential')}"
    )


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


def _fill(path: Path, plan: KeyringPlan, others: Sequence[KeyringPlan]) -> NewCredential:
    engine = SqliteEngine(path)
    try:
        schema.upgrade(engine)
        credential = _found(engine, open_stores(engine), plan, others)
        engine.scrub()
    finally:
        engine.close()
    return credential


def _found(engine: Engine, stores: Stores, plan: KeyringPlan, others: Sequence[KeyringPlan]) -> NewCredential:
    create_keyring(plan, ProvisioningStores(stores.keys, stores.audit), system_clock)
    providers = {each.provider.name: each.provider for each in (plan, *others)}
    vault = assemble(engine, stores, providers)
    for each in others:
        place = ProvisioningStores(stores.keys, stores.audit)
        create_keyring(each, place, system_clock, vault.services.trail)
    vault.keyrings.load()
    credential = vault.administrators.create()
    founder = Caller(
        tenant=DEFAULT_TENANT,
        principal=ADMINISTRATOR,
        credential=credential.credential_id.hex(),
        role=Role.ADMINISTRATOR,
    )
    vault.services.collections.define(founder, "users", USERS_SCHEMA, Settings())
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
