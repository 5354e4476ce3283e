"""The only wiring: configuration -> engine, providers, services -> application. Nothing else knows all rooms."""

from vault.bootstrap.administering import init_keyring
from vault.bootstrap.founding import create_vault, refuse_keys_that_vanish
from vault.bootstrap.opening import Vault, assemble, open_vault, scrub, upgrade_database, vault_exists
from vault.bootstrap.serving import (
    application_loader,
    keys_in_local_files,
    listener_of,
    only_server,
    shared_metrics,
    start_logs,
)
from vault.bootstrap.transferring import Watcher, is_same_database, transfer

__all__ = [
    "Vault",
    "Watcher",
    "application_loader",
    "assemble",
    "create_vault",
    "init_keyring",
    "is_same_database",
    "keys_in_local_files",
    "listener_of",
    "only_server",
    "open_vault",
    "refuse_keys_that_vanish",
    "scrub",
    "shared_metrics",
    "start_logs",
    "transfer",
    "upgrade_database",
    "vault_exists",
]
