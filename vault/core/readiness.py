"""Whether this process can do its work at this moment, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass

from keyproviders.interface import Health, HealthStatus
from vault.core.errors import VaultError
from vault.core.keyrings import Keyrings
from vault.core.ports import KeyStore


@dataclass(frozen=True, slots=True)
class Readiness:
    """The outcome of one proof.

    Attributes:
        store: ``ok``, or the code of what is wrong with the database.
        providers: each key provider's proof of life.
    """

    store: str
    providers: dict[str, Health]

    @property
    def is_ready(self) -> bool:
        """Whether requests can be answered."""
        return self.store == "ok" and all(
            proof.status is HealthStatus.OK for proof in self.providers.values()
        )


def prove_readiness(keyrings: Keyrings, store: KeyStore) -> Readiness:
    """Read from the database and let every provider unwrap a canary."""
    try:
        store.keyrings()
    except VaultError as error:
        return Readiness(store=error.code, providers={})
    return Readiness(store="ok", providers=keyrings.health())
