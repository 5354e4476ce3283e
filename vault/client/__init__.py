"""The REST client: what an application imports (as ``strongroom``), and what the commands are built on."""

from vault.client.arguments import Reveal
from vault.client.client import Client
from vault.client.errors import (
    Conflict,
    ConnectionFailed,
    Duplicate,
    Gone,
    InvalidRequest,
    Misconfigured,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    PreconditionFailed,
    StrongroomError,
    Unavailable,
    UnexpectedAnswer,
    Violation,
)
from vault.client.key_results import Job, KeyExposure, Keyring, KeyVersion
from vault.client.operations import Create, Erase, Get, Lookup, Operation, Update
from vault.client.outcomes import BulkItem, BulkResult
from vault.client.results import (
    AuditEntry,
    CollectionInfo,
    CollectionSettings,
    Erasure,
    KeyVersionName,
    Person,
    Record,
    RecordMetadata,
)
from vault.client.transport import Exchange

__all__ = [
    "AuditEntry",
    "BulkItem",
    "BulkResult",
    "Client",
    "CollectionInfo",
    "CollectionSettings",
    "Conflict",
    "ConnectionFailed",
    "Create",
    "Duplicate",
    "Erase",
    "Erasure",
    "Exchange",
    "Get",
    "Gone",
    "InvalidRequest",
    "Job",
    "KeyExposure",
    "KeyVersion",
    "KeyVersionName",
    "Keyring",
    "Lookup",
    "Misconfigured",
    "NotAllowed",
    "NotAuthenticated",
    "NotFound",
    "Operation",
    "Person",
    "PreconditionFailed",
    "Record",
    "RecordMetadata",
    "Reveal",
    "StrongroomError",
    "Unavailable",
    "UnexpectedAnswer",
    "Update",
    "Violation",
]
