from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from vault.cli.failure import Failure
from vault.cli.moving.batches import Batch
from vault.cli.moving.entries import Entry, NewRecord, Refusal
from vault.cli.moving.patience import Patience
from vault.cli.moving.progress import Count, Meter
from vault.cli.moving.sending import KEY_SECONDS, Outcome, Sender
from vault.client import BulkItem, BulkResult, ConnectionFailed, Create, Duplicate, InvalidRequest, Violation
from vault.core.stop_signal import StopSignal

TOKEN = UUID("6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f")


class Quiet:
    def show(self, count: Count) -> None:
        pass

    def say(self, event: str, sentence: str, **members: Any) -> None:
        pass


class Hurried(StopSignal):
    def wait(self, timeout: float | None = None) -> bool:
        assert timeout
        return self.is_set()


class FakeClient:
    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.calls: list[tuple[str, list[Any], dict[str, Any]]] = []

    def bulk(self, collection: str, operations: list[Any], **options: Any) -> BulkResult:
        self.calls.append((collection, operations, options))
        result = self.results.pop(0)
        if isinstance(result, Exception):
            raise result
        return BulkResult(items=tuple(result), failed=0, replayed=False)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        self.now += 10 * 3600
        return self.now


def sender(client: Any, *, is_dry_run: bool = False) -> Sender:
    return Sender(
        client,
        "users",
        import_id="abc",
        declared={"email", "a/b"},
        is_dry_run=is_dry_run,
        patience=Patience(Hurried(), Meter(Quiet(), done=0, refused=0, total=None)),
        clock=Clock(),
    )


def good(line: int) -> Entry:
    return Entry(line, line, record=NewRecord({"n": line}, None, "DE", 7))


BAD = Entry(2, 3, refusals=(Refusal("", "cells"),))
STORED = BulkItem(status=201, token=TOKEN)


def refused(
    *violations: tuple[str, str], code: str = "schema-violation", kind: Any = InvalidRequest
) -> BulkItem:
    errors = [Violation(pointer, rule, "A sentence.") for pointer, rule in violations]
    return BulkItem(status=422, error=kind("No.", status=422, code=code, errors=errors))


def test_outcomes_are_in_the_order_of_the_entries() -> None:
    client = FakeClient([STORED, refused(("/email", "format"), ("/a~1b/0", "type"))])
    outcomes = sender(client).send(Batch(7, (good(1), BAD, good(4)), ""))
    assert outcomes == (
        Outcome(good(1), token=TOKEN),
        Outcome(BAD, refusals=(Refusal("", "cells"),)),
        Outcome(good(4), refusals=(Refusal("/email", "format"), Refusal("/a~1b/0", "type"))),
    )
    assert client.calls == [
        (
            "users",
            [Create({"n": 1}, None, "DE"), Create({"n": 4}, None, "DE")],
            {"dry_run": False, "idempotency_key": "import-abc-7"},
        )
    ]


def test_nothing_is_sent_for_nothing() -> None:
    client = FakeClient()
    assert sender(client).send(Batch(7, (BAD,), "")) == (Outcome(BAD, refusals=BAD.refusals),)
    assert client.calls == []


def test_a_dry_run_has_no_key() -> None:
    client = FakeClient([BulkItem(status=201)])
    assert sender(client, is_dry_run=True).send(Batch(7, (good(1),), "")) == (Outcome(good(1)),)
    assert client.calls[0][2] == {"dry_run": True, "idempotency_key": None}


def test_names_that_nobody_declared_are_not_told() -> None:
    client = FakeClient(
        [refused(("/canary", "type"), ("/*other/5", "x"), ("/expires_at", "past"), ("", "depth"))]
    )
    (outcome,) = sender(client).send(Batch(1, (good(1),), ""))
    assert [refusal.pointer for refusal in outcome.refusals] == ["/*other", "/*other/5", "/expires_at", ""]


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        (refused(code="duplicate-value", kind=Duplicate), "duplicate"),
        (refused(code="schema-violation"), "schema-violation"),
    ],
)
def test_a_batch_that_is_told_again_has_its_rules_from_the_problems(item: BulkItem, rule: str) -> None:
    (outcome,) = sender(FakeClient([item])).send(Batch(1, (good(1),), ""))
    assert outcome.refusals == (Refusal("", rule),)


def test_a_lost_answer_is_asked_for_with_the_same_key() -> None:
    lost = ConnectionFailed("Lost.", code="connection-lost")
    client = FakeClient(lost, lost, [STORED])
    assert sender(client).send(Batch(3, (good(1),), ""))[0].token == TOKEN
    assert {call[2]["idempotency_key"] for call in client.calls} == {"import-abc-3"}
    assert len(client.calls) == 3


def test_not_after_the_server_may_have_forgotten_it() -> None:
    lost = ConnectionFailed("Lost.", code="connection-lost")
    client = FakeClient(*[lost] * 10)
    with pytest.raises(Failure, match="did not answer for 23 hours"):
        sender(client).send(Batch(3, (good(1),), ""))
    assert len(client.calls) == KEY_SECONDS // (10 * 3600) + 1
    dry = FakeClient(*[lost] * 9, [STORED])
    assert sender(dry, is_dry_run=True).send(Batch(3, (good(1),), ""))
