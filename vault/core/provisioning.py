"""Making a vault: the first keyring with its stored keys, the first principal and its credential."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from keyproviders.errors import KeyProviderError
from keyproviders.interface import DATA_KEY_BYTES, KeyProvider, SecretBytes
from vault.audit.events import Action, AuditEvent, Result
from vault.core.audit_ports import AuditStore
from vault.core.context import FORMAT_VERSION, StoredKeyContext
from vault.core.credentials import NewCredential, mint_credential, secret_sha256
from vault.core.policy import DEFAULT_TENANT, Role
from vault.core.ports import Clock, CredentialStore, KeyStore
from vault.core.row_mac import RowAuthenticator
from vault.core.rows import (
    AuditRow,
    CredentialRow,
    KeyPurpose,
    KeyringRow,
    KeyState,
    KeyVersionRow,
    PrincipalRow,
    StoredKeyRow,
)
from vault.core.sealing import seal
from vault.core.trail import AuditTrail

ADMINISTRATOR = "admin"
"""Name of the principal that ``strongroom init`` makes."""


@dataclass(frozen=True, slots=True)
class KeyringPlan:
    """A keyring to be made over a KEK that exists already.

    Attributes:
        name: the keyring's name.
        provider: the opened key door.
        provider_key: the provider's name of the KEK.
        provider_version: the version of it to start with.
        algorithm: how that version wraps.
    """

    name: str
    provider: KeyProvider
    provider_key: str
    provider_version: int
    algorithm: str


@dataclass(frozen=True, slots=True)
class ProvisioningStores:
    """The stores that provisioning writes to."""

    keys: KeyStore
    audit: AuditStore


def create_keyring(
    plan: KeyringPlan, stores: ProvisioningStores, clock: Clock, trail: AuditTrail | None = None
) -> None:
    """Create a keyring with one active version, a MAC key and an index key, in one transaction.

    Args:
        plan: what it is made over.
        stores: where it goes.
        clock: tells the time.
        trail: where it is audited; None for the first keyring of a vault, whose own MAC key signs its entry.

    Raises:
        KeyProviderError: the provider did not wrap; nothing was written.
    """
    now = clock()
    first_id = 1 + max((row.key_id for row in stores.keys.stored_keys()), default=0)
    mac_key, mac_row = _new_stored_key(plan, KeyPurpose.MAC, key_id=first_id, now=now)
    _, index_row = _new_stored_key(plan, KeyPurpose.INDEX, key_id=first_id + 1, now=now)
    authenticator = RowAuthenticator({mac_row.key_id: mac_key}, mac_row.key_id)
    event = AuditEvent(
        action=Action.KEYRING_CREATE, result=Result.DONE, tenant=DEFAULT_TENANT, reason=plan.name
    )
    if trail is None:
        event = AuditEvent(action=Action.VAULT_INIT, result=Result.DONE, tenant=DEFAULT_TENANT)
        trail = AuditTrail(stores.audit, lambda: authenticator, clock)
    keyring = KeyringRow(
        tenant=DEFAULT_TENANT,
        name=plan.name,
        provider=plan.provider.name,
        provider_key=plan.provider_key,
        created_at=now,
    )
    version = KeyVersionRow(
        tenant=DEFAULT_TENANT,
        keyring=plan.name,
        version=1,
        provider=plan.provider.name,
        provider_key=plan.provider_key,
        provider_version=plan.provider_version,
        algorithm=plan.algorithm,
        state=KeyState.ACTIVE.value,
        compromised=0,
        created_at=now,
        activated_at=now,
    )
    stores.keys.create_keyring(
        authenticator.sign(keyring),
        authenticator.sign(version),
        [authenticator.sign(mac_row), authenticator.sign(index_row)],
        trail.entry(event),
    )


def _new_stored_key(
    plan: KeyringPlan, purpose: KeyPurpose, *, key_id: int, now: int
) -> tuple[SecretBytes, StoredKeyRow]:
    context = StoredKeyContext(
        purpose=purpose.value, tenant=DEFAULT_TENANT, keyring=plan.name, key_id=key_id, version=1
    )
    (result,) = plan.provider.generate(plan.provider_key, plan.provider_version, [context.associated_data()])
    if isinstance(result, KeyProviderError):
        raise result
    material = SecretBytes(os.urandom(DATA_KEY_BYTES))
    row = StoredKeyRow(
        tenant=DEFAULT_TENANT,
        key_id=key_id,
        keyring=plan.name,
        purpose=purpose.value,
        version=1,
        state=KeyState.ACTIVE.value,
        format=FORMAT_VERSION,
        key_version=1,
        wrapped_dek=result.wrapped.blob,
        sealed_key=seal(material.reveal(), dek=result.plaintext, context=context),
        created_at=now,
    )
    return material, row


class Administrators:
    """Makes and replaces the administrator's credential, on the host.

    Args:
        store: principals and credentials.
        authenticator: signs the rows.
        trail: where it is audited.
        clock: tells the time.
    """

    def __init__(
        self, store: CredentialStore, authenticator: RowAuthenticator, trail: AuditTrail, clock: Clock
    ) -> None:
        self._store = store
        self._authenticator = authenticator
        self._trail = trail
        self._clock = clock

    def create(self) -> NewCredential:
        """Make the administrator with a first credential, and return it for the one time it is shown."""
        minted, row = self._mint()
        principal = PrincipalRow(
            tenant=DEFAULT_TENANT, name=ADMINISTRATOR, role=Role.ADMINISTRATOR.value, created_at=self._clock()
        )
        entry = self._trail.entry(_event(Action.CREDENTIAL_CREATE, minted.credential_id))
        self._store.create(self._authenticator.sign(principal), row, entry)
        return minted

    def replace(self) -> NewCredential:
        """Revoke every credential of the administrator and make a new one."""
        minted, row = self._mint()
        self._store.replace_all(
            DEFAULT_TENANT,
            ADMINISTRATOR,
            revoke=self._revoked,
            credential=row,
            entry=self._trail.entry(_event(Action.CREDENTIAL_CREATE, minted.credential_id)),
        )
        return minted

    def _mint(self) -> tuple[NewCredential, CredentialRow]:
        minted = mint_credential()
        row = CredentialRow(
            tenant=DEFAULT_TENANT,
            credential_id=minted.credential_id,
            principal=ADMINISTRATOR,
            secret_sha256=secret_sha256(minted.text),
            created_at=self._clock(),
        )
        return minted, self._authenticator.sign(row)

    def _revoked(self, old: CredentialRow) -> tuple[CredentialRow, AuditRow]:
        self._authenticator.check(old)
        entry = self._trail.entry(_event(Action.CREDENTIAL_REVOKE, old.credential_id))
        return self._authenticator.sign(replace(old, revoked_at=self._clock())), entry


def _event(action: Action, credential_id: bytes) -> AuditEvent:
    # Without a principal: who works on the host has shown no credential.
    return AuditEvent(
        action=action, result=Result.DONE, tenant=DEFAULT_TENANT, credential=credential_id.hex()
    )
