"""What happened, as a plain value: who did what to which record, why, and how it ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Action(enum.StrEnum):
    """What was attempted. The words are part of the frozen entry format: add, never rename."""

    RECORD_CREATE = "record.create"
    RECORD_READ = "record.read"
    RECORD_LIST = "record.list"
    RECORD_UPDATE = "record.update"
    RECORD_ERASE = "record.erase"
    RECORD_LOOKUP = "record.lookup"
    RECORD_REHEARSE = "record.rehearse"
    ERASURE_READ = "erasure.read"
    COLLECTION_DEFINE = "collection.define"
    COLLECTION_READ = "collection.read"
    KEYRING_READ = "keyring.read"
    KEYRING_CREATE = "keyring.create"
    KEYRING_ROTATE = "keyring.rotate"
    KEY_VERSION_CREATE = "key-version.create"
    KEY_VERSION_ADOPT = "key-version.adopt"
    KEY_VERSION_ACTIVATE = "key-version.activate"
    JOB_READ = "job.read"
    AUDIT_SEARCH = "audit.search"
    REQUEST = "request"
    VAULT_INIT = "vault.init"
    CREDENTIAL_CREATE = "credential.create"
    CREDENTIAL_REVOKE = "credential.revoke"


class Result(enum.StrEnum):
    """How it ended.

    ``RELEASED`` is written before plaintext exists in an answer ("release decided"); if the answer then
    fails, a second entry with ``FAILED`` follows.
    """

    DONE = "done"
    RELEASED = "released"
    NOT_FOUND = "not-found"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One event, before it becomes an entry. Holds no personal value, ever.

    Attributes:
        action: what was attempted.
        result: how it ended.
        tenant: the tenant's name.
        principal: who called; None if nobody was authenticated.
        credential: the public id of the credential, hexadecimal.
        reason: the problem code, when it was refused or failed; ``expired`` when a record was erased because its time was
            over (by a write that takes over its value, or in nobody's name by a background worker); ``replayed``
            when a request with an Idempotency-Key was answered again; for actions on keys the keyring, or keyring and
            version as ``default/2``.
        collection: the collection's name, when it exists.
        token: the record, 16 bytes.
        generation: the record's generation that was written or released.
        seal_epoch: of the seal that was written or released.
        document_sha256: SHA-256 of the sealed document, 32 bytes: ties the entry to exact stored bytes.
        fields: names of the fields concerned; undeclared ones stand as ``*other``.
        lookup_field: the indexed field by whose value the record, or the person, was looked for.
        reveal: ``plain`` or ``masked``, for what was released.
        purpose: the caller's stated purpose.
        request_id: the request's id, as the caller saw it.
        address: the peer's network address.
        count: how many events or rows this entry stands for, when not one.
        time: UTC microseconds if the event has its own time (aggregated refusals), else the entry's.
    """

    action: Action
    result: Result
    tenant: str
    principal: str | None = None
    credential: str | None = None
    reason: str | None = None
    collection: str | None = None
    token: bytes | None = None
    generation: int | None = None
    seal_epoch: int | None = None
    document_sha256: bytes | None = None
    fields: tuple[str, ...] = ()
    lookup_field: str | None = None
    reveal: str | None = None
    purpose: str | None = None
    request_id: str | None = None
    address: str | None = None
    count: int | None = None
    time: int | None = None
