"""The credential store: principals and the hashes of what they show."""

from __future__ import annotations

from collections.abc import Callable

from vault.core.rows import AuditRow, CredentialRow, PrincipalRow
from vault.storage.engine import Engine, whole
from vault.storage.epoch import EpochRaise
from vault.storage.fields import locking
from vault.storage.statements import RowMapper, Statement, slot
from vault.storage.tables import CredentialTable, PrincipalTable


class SqlCredentialStore:
    """Principals and credentials in SQL.

    Args:
        engine: where the statements run.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._principals = RowMapper(PrincipalRow)
        self._credentials = RowMapper(CredentialRow)
        self._audit = RowMapper(AuditRow)
        same_principal = (PrincipalTable.tenant == CredentialTable.tenant) & (
            PrincipalTable.name == CredentialTable.principal
        )
        self._find = Statement(
            CredentialTable.select(*self._credentials.columns, *self._principals.columns)
            .join(PrincipalTable, on=same_principal)
            .where(CredentialTable.secret_sha256 == slot("secret_sha256"))
        )
        self._of_principal = self._credentials.select(
            CredentialTable.tenant == slot("tenant"),
            CredentialTable.principal == slot("principal"),
            CredentialTable.revoked_at.is_null(),
        )
        # Two that replace at once would each leave the other's new credential valid.
        self._hold_principal = Statement(
            locking(
                PrincipalTable.select(PrincipalTable.id).where(
                    PrincipalTable.tenant == slot("tenant"), PrincipalTable.name == slot("principal")
                )
            )
        )
        self._update = self._credentials.update(CredentialTable.id == slot("previous_id"))
        self._insert_principal = self._principals.insert_new()
        self._insert_credential = self._credentials.insert()
        self._append = self._audit.insert()
        self._epoch = EpochRaise()

    @whole
    def find(self, secret_sha256: bytes) -> tuple[CredentialRow, PrincipalRow] | None:
        """Find a credential by its hash; see :class:`vault.core.ports.CredentialStore`."""
        with self._engine.read() as database:
            columns = self._find.run(database, {"secret_sha256": secret_sha256}).fetchone()
        if columns is None:
            return None
        width = len(self._credentials.read_names)
        return self._credentials.row(columns[:width]), self._principals.row(columns[width:])

    @whole
    def create(self, principal: PrincipalRow, credential: CredentialRow, entry: AuditRow) -> None:
        """Commit a credential; see :class:`vault.core.ports.CredentialStore`."""
        with self._engine.write() as database:
            self._insert_principal.insert(database, self._principals.values(principal))
            self._insert_credential.run(database, self._credentials.values(credential))
            self._append.run(database, self._audit.values(entry))
            self._epoch.run(database)

    @whole
    def replace_all(
        self,
        tenant: str,
        principal: str,
        *,
        revoke: Callable[[CredentialRow], tuple[CredentialRow, AuditRow]],
        credential: CredentialRow,
        entry: AuditRow,
    ) -> None:
        """Revoke all credentials of a principal for a new one; see :class:`vault.core.ports.CredentialStore`."""
        with self._engine.write() as database:
            name = {"tenant": tenant, "principal": principal}
            self._hold_principal.run(database, name).fetchall()
            selected = self._of_principal.run(database, name)
            for current in self._credentials.all(selected):
                revoked, revocation = revoke(current)
                self._update.run(database, self._credentials.values(revoked) | {"previous_id": current.id})
                self._append.run(database, self._audit.values(revocation))
            self._insert_credential.run(database, self._credentials.values(credential))
            self._append.run(database, self._audit.values(entry))
            self._epoch.run(database)
