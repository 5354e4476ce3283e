"""Looking at every key of the vault: whether each works, whether its provider says of it what its row says."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from keyproviders.errors import KeyProviderError
from keyproviders.health import HealthStatus, status_of
from keyproviders.interface import KeyInfo, VersionState
from vault.core.errors import VaultError
from vault.core.job_ports import ProcessRow
from vault.core.key_versions import strangers, without_proof
from vault.core.keyring_loading import UNWRAPPABLE, Keyring
from vault.core.keyrings import Keyrings
from vault.core.rows import KeyState, KeyVersionRow

_NEXT_STEP = {
    HealthStatus.DOWN: "start it, or mend the way to it",
    HealthStatus.SEALED: "unseal it",
    HealthStatus.THROTTLED: "raise its quota, or ask it less often: [data_key_cache]",
    HealthStatus.AUTH: "give [providers.{name}] a PIN, token or secret that it accepts",
    HealthStatus.DENIED: "give the vault's role there what `strongroom keys policy` prints",
    HealthStatus.KEY_MISSING: "bring the key back from its backup; nothing else opens this vault",
    HealthStatus.CANARY_REJECTED: "put back the keys that this vault was made with",
}


class Level(enum.StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class KeyFinding:
    """One thing about a key.

    Attributes:
        subject: a provider, key version or process.
        sentence: what was found.
        next_step: what to do about it; empty if nothing.
    """

    subject: str
    level: Level
    sentence: str
    next_step: str = ""


def check_keys(keyrings: Keyrings, processes: Iterable[ProcessRow], now: int) -> list[KeyFinding]:
    """Prove every provider and every version in use, and compare rows with what providers say.

    Args:
        keyrings: loaded.
        processes: who is at work.
        now: UTC microseconds.
    """
    alive = [process for process in processes if process.is_alive(now)]
    found = list(_of_providers(keyrings))
    for ring in keyrings.all():
        found += _of_ring(keyrings, ring, alive, now)
    found += [_of_process(process) for process in alive]
    return found


def _of_providers(keyrings: Keyrings) -> Iterator[KeyFinding]:
    for name, health in keyrings.health().items():
        subject = f"provider {name}"
        if health.status is HealthStatus.OK:
            yield KeyFinding(subject, Level.OK, "unwraps what this vault needs")
        else:
            sentence = f"{health.status}: {health.detail}"
            step = _NEXT_STEP.get(health.status, "").format(name=name)
            yield KeyFinding(subject, Level.PROBLEM, sentence, step)


def _of_ring(keyrings: Keyrings, ring: Keyring, alive: list[ProcessRow], now: int) -> Iterator[KeyFinding]:
    subject = f"keyring {ring.row.name}"
    try:
        info = keyrings.key_info(ring)
    except (KeyProviderError, VaultError) as error:
        yield KeyFinding(subject, Level.PROBLEM, f"its provider says nothing of its key: {error}")
        return
    place = (ring.row.provider, ring.row.provider_key)
    for version in sorted(ring.versions.values(), key=lambda row: row.version):
        if version.state in UNWRAPPABLE:
            known = info if (version.provider, version.provider_key) == place else None
            yield _of_version(keyrings, version, known, without_proof(version, alive, now))
    for stranger in strangers(ring, info):
        yield KeyFinding(
            subject,
            Level.NOTE,
            f"provider {ring.row.provider} has version {stranger.version} of key '{info.key}', which nobody here made",
            "a worker adopts it as pending: strongroom worker --admin",
        )


def _of_version(
    keyrings: Keyrings, version: KeyVersionRow, info: KeyInfo | None, silent: list[ProcessRow]
) -> KeyFinding:
    subject = f"{version.keyring} version {version.version}"
    what = f"{version.state}, {version.algorithm}, version {version.provider_version} of '{version.provider_key}'"
    if version.adopted_at is not None:
        what += ", adopted"
    if info is not None and (objection := _objection(version, info)):
        return KeyFinding(subject, Level.PROBLEM, f"{what}: {objection}")
    if version.state != KeyState.DEACTIVATED:
        try:
            keyrings.prove(version)
        except KeyProviderError as error:
            step = _NEXT_STEP.get(status_of(error), "").format(name=version.provider)
            return KeyFinding(subject, Level.PROBLEM, f"{what}: it does not wrap: {error}", step)
        except VaultError as error:
            return KeyFinding(subject, Level.PROBLEM, f"{what}: it does not wrap: {error}")
    if version.state == KeyState.PENDING and silent:
        names = ", ".join(f"{process.role} {process.pid} on {process.host}" for process in silent)
        return KeyFinding(subject, Level.NOTE, f"{what}: not proved yet by {names}")
    return KeyFinding(subject, Level.OK, what)


def _objection(version: KeyVersionRow, info: KeyInfo) -> str:
    """What the provider says otherwise than the row; empty if nothing."""
    theirs = {each.version: each for each in info.versions}.get(version.provider_version)
    if theirs is None:
        return "its provider does not have it; bring it back from the provider's backup"
    if theirs.state is not VersionState.ENABLED:
        return "its provider has retired it"
    if theirs.algorithm != version.algorithm:
        return f"its provider says that it wraps by {theirs.algorithm}"
    return ""


def _of_process(process: ProcessRow) -> KeyFinding:
    subject = f"{process.role} {process.pid}"
    proved = ", ".join(
        f"{keyring} {version}"
        for _, keyring, version in (name.split("/") for name in (process.proved or "").split())
    )
    door = ", has the administration door" if process.administers else ""
    kept = f", keeps {process.cached_data_keys or 0} data keys"
    return KeyFinding(
        subject, Level.OK, f"on {process.host}: has proved {proved or 'nothing yet'}{kept}{door}"
    )
