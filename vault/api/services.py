"""What the HTTP rim is given: core's services, and nothing of how they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vault.core.audit_search import AuditSearch
from vault.core.authentication import Authentication
from vault.core.bulk import Bulk
from vault.core.census import Census
from vault.core.collections import Collections
from vault.core.erasure import Erasures
from vault.core.idempotency import Idempotency
from vault.core.key_requests import KeyRequests
from vault.core.readiness import Readiness
from vault.core.reading import Reading
from vault.core.records import Records
from vault.core.trail import AuditTrail
from vault.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Services:
    """Core's services of one process.

    Attributes:
        census: what depends on each key version.
        key_requests: takes what is wanted of keys, and tells what became of it.
        readiness: proves that keys and store work.
        metrics: the numbers of this process; None lets the rim keep numbers of its own.
    """

    authentication: Authentication
    collections: Collections
    records: Records
    bulk: Bulk
    idempotency: Idempotency
    reading: Reading
    erasures: Erasures
    census: Census
    key_requests: KeyRequests
    audit: AuditSearch
    trail: AuditTrail
    readiness: Callable[[], Readiness]
    metrics: Metrics | None = None
