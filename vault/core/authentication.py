"""From what a caller shows to who it is."""

from __future__ import annotations

import os

from vault.core.credentials import is_well_formed, secret_sha256
from vault.core.errors import NotAuthenticatedError
from vault.core.keyrings import Keyrings
from vault.core.policy import DEFAULT_TENANT, Role
from vault.core.ports import Clock, CredentialStore
from vault.core.rows import CredentialRow, PrincipalRow


class Authentication:
    """Checks credentials.

    Args:
        store: the hashes of what principals show.
        keyrings: checks the rows.
        clock: tells the time.
    """

    def __init__(self, store: CredentialStore, keyrings: Keyrings, clock: Clock) -> None:
        self._store = store
        self._keyrings = keyrings
        self._clock = clock
        self._decoy = self._make_decoy()

    def authenticate(self, text: str) -> tuple[CredentialRow, PrincipalRow]:
        """Find who shows this credential.

        Raises:
            NotAuthenticatedError: unknown, revoked or expired, with nothing to tell them apart.
            IntegrityError: a stored row is not what the vault wrote.
        """
        if not is_well_formed(text):
            raise NotAuthenticatedError("malformed")
        found = self._store.find(secret_sha256(text))
        # An unknown credential costs the same checks as a revoked one: the time must not tell them apart.
        credential, principal = found or self._decoy
        authenticator = self._keyrings.authenticator(DEFAULT_TENANT)
        authenticator.check(credential)
        authenticator.check(principal)
        is_expired = credential.expires_at is not None and credential.expires_at <= self._clock()
        if credential.revoked_at is not None or is_expired:
            raise NotAuthenticatedError("invalid")
        return credential, principal

    def _make_decoy(self) -> tuple[CredentialRow, PrincipalRow]:
        authenticator = self._keyrings.authenticator(DEFAULT_TENANT)
        credential = CredentialRow(
            tenant=DEFAULT_TENANT,
            credential_id=os.urandom(8),
            principal="nobody",
            secret_sha256=os.urandom(32),
            created_at=0,
            revoked_at=0,
        )
        principal = PrincipalRow(
            tenant=DEFAULT_TENANT, name="nobody", role=Role.ADMINISTRATOR.value, created_at=0
        )
        return authenticator.sign(credential), authenticator.sign(principal)
