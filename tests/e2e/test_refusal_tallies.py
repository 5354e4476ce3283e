"""Requests without a credential: one entry per address, reason and minute, over a real store and a made-up clock.

In process, because a test cannot wait for the minute to end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.in_process import configuration_of
from vault.audit.entry import read_entry
from vault.audit.events import AuditEvent
from vault.bootstrap import open_vault
from vault.core.audit_ports import AuditCriteria
from vault.core.clock import MINUTE
from vault.core.policy import DEFAULT_TENANT
from vault.core.ports import Page
from vault.core.trail import AuditTrail

# It opens its vaults in this process, where no variable of --key-provider reaches.
pytestmark = pytest.mark.own_home

START = 30_000_000 * MINUTE


@dataclass
class Clock:
    now: int = START

    def __call__(self) -> int:
        return self.now


@dataclass
class Log:
    clock: Clock
    trail: AuditTrail
    read: Callable[[], list[AuditEvent]]


@pytest.fixture
def log(new_vault: Callable[[], tuple[Path, str]]) -> Iterator[Log]:
    vault = open_vault(configuration_of(new_vault()[0]))
    clock = Clock()
    trail = AuditTrail(vault.stores.audit, lambda: vault.keyrings.authenticator(DEFAULT_TENANT), clock)

    def read() -> list[AuditEvent]:
        entry: Any = trail.entry(AuditEvent(action="audit.search", result="done", tenant=DEFAULT_TENANT))  # type: ignore[arg-type]
        criteria = AuditCriteria(tenant=DEFAULT_TENANT, action="request")
        rows = vault.stores.audit.search(criteria, page=Page(limit=100), entry=entry)
        for row in rows:
            vault.keyrings.authenticator(DEFAULT_TENANT).check(row)
        return [read_entry(row.canonical)[0] for row in rows]

    yield Log(clock, trail, read)
    vault.close()


def _summary(events: list[AuditEvent]) -> set[tuple[str | None, str | None, int | None, int]]:
    return {(each.address, each.reason, each.count, ((each.time or 0) - START) // MINUTE) for each in events}


def test_a_minute_s_refusals_become_one_entry_for_each_address_and_reason(log: Log) -> None:
    for address, reason, times in (
        ("10.0.0.1", "missing", 3),
        ("10.0.0.1", "invalid", 2),
        ("10.0.0.2", "invalid", 1),
    ):
        for _ in range(times):
            log.trail.refused_without_credential(address=address, reason=reason)
    log.trail.close_tallies()
    assert log.read() == []
    log.clock.now += MINUTE
    log.trail.close_tallies()
    assert _summary(log.read()) == {
        ("10.0.0.1", "missing", 3, 0),
        ("10.0.0.1", "invalid", 2, 0),
        ("10.0.0.2", "invalid", 1, 0),
    }
    assert {(each.principal, each.result, each.request_id) for each in log.read()} == {
        (None, "refused", None)
    }


def test_the_next_minute_s_first_refusal_closes_the_one_before(log: Log) -> None:
    log.trail.refused_without_credential(address="10.0.0.1", reason="missing")
    log.clock.now += MINUTE - 1
    log.trail.refused_without_credential(address="10.0.0.1", reason="missing")
    log.clock.now += 1
    log.trail.refused_without_credential(address="10.0.0.2", reason="missing")
    assert _summary(log.read()) == {("10.0.0.1", "missing", 2, 0)}


def test_a_tally_becomes_an_entry_once(log: Log) -> None:
    log.trail.refused_without_credential(address="10.0.0.1", reason="missing")
    log.clock.now += 5 * MINUTE
    for _ in range(3):
        log.trail.close_tallies()
    assert _summary(log.read()) == {("10.0.0.1", "missing", 1, 0)}
