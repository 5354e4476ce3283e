"""What the HTTP rim is given: core's services, and nothing of how they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vault.core.audit_search import AuditSearch
from vault.core.authentication import Authentication
from vault.core.census import Census
from vault.core.collections import Collections
from vault.core.erasure import Erasures
from vault.core.readiness import Readiness
from vault.core.reading import Reading
from vault.core.records import Records
from vault.core.trail import AuditTrail


@dataclass(frozen=True, slots=True)
class Services:
    """Core's services of one process.

    Attributes:
        census: what depends on each key version.
        readiness: proves that keys and store work.
    """

    authentication: Authentication
    collections: Collections
    records: Records
    reading: Reading
    erasures: Erasures
    census: Census
    audit: AuditSearch
    trail: AuditTrail
    readiness: Callable[[], Readiness]
