"""The states of a key version, and how each becomes the next (NIST SP 800-57 part 1, section 7).

A version begins *pending*: it opens what it wrapped and wraps nothing for a record. It becomes *active* once every
process that lives has wrapped and unwrapped under it, and in the same transaction the version before it is
*deactivated*: that one still opens, and the database refuses every write under it. A keyring has one active version, and
one pending version at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from keyproviders.interface import KeyInfo, ProviderVersion, VersionState
from vault.core.job_ports import ProcessRow, proof_name
from vault.core.key_requests import VersionChange
from vault.core.keyring_loading import Keyring
from vault.core.rows import KeyState, KeyVersionRow


def pending_of(ring: Keyring) -> KeyVersionRow | None:
    """The version that waits to become active, if there is one."""
    waiting = [row for row in ring.versions.values() if row.state == KeyState.PENDING]
    return max(waiting, key=lambda row: row.version, default=None)


def strangers(ring: Keyring, info: KeyInfo) -> list[ProviderVersion]:
    """Versions that the provider has and the keyring does not know, newer than all that it knows; oldest first.

    Older ones were there before the keyring, and wrapped nothing of it.
    """
    known = max(
        (
            row.provider_version
            for row in ring.versions.values()
            if (row.provider, row.provider_key) == (ring.row.provider, ring.row.provider_key)
        ),
        default=0,
    )
    return [
        version
        for version in info.versions
        if version.version > known and version.state is VersionState.ENABLED
    ]


def next_version(ring: Keyring, made: ProviderVersion, now: int, *, is_adopted: bool) -> KeyVersionRow:
    """The keyring's next version, pending, over a version that the provider has; signed.

    Args:
        ring: the keyring.
        made: the provider's version.
        now: UTC microseconds.
        is_adopted: it was found in the provider, and not made for this row.
    """
    return ring.authenticator.sign(
        KeyVersionRow(
            tenant=ring.row.tenant,
            keyring=ring.row.name,
            version=max(ring.versions) + 1,
            provider=ring.row.provider,
            provider_key=ring.row.provider_key,
            provider_version=made.version,
            algorithm=made.algorithm,
            state=KeyState.PENDING.value,
            compromised=0,
            created_at=now,
            adopted_at=now if is_adopted else None,
        )
    )


def change_over(ring: Keyring, pending: KeyVersionRow, now: int) -> VersionChange:
    """The pending version in the place of the active one; signed."""
    sign = ring.authenticator.sign
    return VersionChange(
        pending=pending,
        active=ring.active,
        activated=sign(replace(pending, state=KeyState.ACTIVE.value, activated_at=now)),
        deactivated=sign(replace(ring.active, state=KeyState.DEACTIVATED.value, deactivated_at=now)),
    )


def without_proof(version: KeyVersionRow, processes: Iterable[ProcessRow], now: int) -> list[ProcessRow]:
    """The processes that live and have not proved a version."""
    name = name_of(version)
    return [process for process in processes if process.is_alive(now) and not process.has_proved(name)]


def name_of(version: KeyVersionRow) -> str:
    """A version as processes name it when they have proved it."""
    return proof_name(version.tenant, version.keyring, version.version)


def reason_of(version: KeyVersionRow) -> str:
    """A version as the access log names it."""
    return f"{version.keyring}/{version.version}"
