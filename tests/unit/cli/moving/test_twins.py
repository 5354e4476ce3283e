from __future__ import annotations

from typing import Any

from vault.cli.moving.entries import Entry, NewRecord, Refusal
from vault.cli.moving.sending import Outcome
from vault.cli.moving.twins import Twins
from vault.core.default_collections import USERS_SCHEMA


def outcome(region: str | None = None, **data: Any) -> Outcome:
    return Outcome(Entry(1, 1, record=NewRecord(data, None, region, 10)))


def judged(twins: Twins, *outcomes: Outcome) -> list[list[str]]:
    return [[refusal.pointer for refusal in twins.judged(each).refusals] for each in outcomes]


def test_values_are_compared_in_their_normal_form() -> None:
    with Twins(USERS_SCHEMA, "DE") as twins:
        assert judged(
            twins,
            outcome(email="Ada@Example.com", phone="030 1234567"),
            outcome(email="ada@EXAMPLE.com", phone="+49 30 1234567"),
            outcome(email="bob@example.com", phone="030 1234567", region="FR"),
            outcome(login="ada@example.com"),
            outcome(email=None, phone=5),
            outcome(email=None),
        ) == [[], ["/email", "/phone"], [], [], [], []]


def test_a_refused_record_takes_no_value() -> None:
    refused = Outcome(outcome(login="ada").entry, refusals=(Refusal("/email", "x-normalize"),))
    unsent = Outcome(Entry(1, 1, refusals=(Refusal("", "cells"),)), refusals=(Refusal("", "cells"),))
    with Twins(USERS_SCHEMA, None) as twins:
        assert twins.judged(refused) is refused
        assert twins.judged(unsent) is unsent
        assert judged(twins, outcome(login="ada"), outcome(login="Ada", email="a@example.com")) == [
            [],
            ["/login"],
        ]
        # The second was refused as a whole, so its address is free.
        assert judged(twins, outcome(email="a@example.com")) == [[]]


def test_what_cannot_be_normalised_here_is_the_server_s_to_judge() -> None:
    schema = {
        "properties": {
            "a": {"x-index": "unique", "x-normalize": "new"},
            "b": {"x-index": "lookup"},
            "c": True,
        }
    }
    with Twins(schema, None) as twins:
        assert judged(twins, outcome(a="x", b="x"), outcome(a="x", b="x")) == [[], []]
    with Twins(USERS_SCHEMA, None) as twins:
        assert judged(twins, outcome(phone="030 1234567"), outcome(phone="030 1234567")) == [[], []]
    with Twins({}, None) as twins:
        assert judged(twins, outcome(a="x"), outcome(a="x")) == [[], []]


def test_no_value_is_kept() -> None:
    with Twins(USERS_SCHEMA, None) as twins:
        judged(twins, outcome(email="canary@example.com", login="canary"))
        rows = twins._seen.execute("SELECT * FROM seen").fetchall()
        assert len(rows) == 2
        assert b"canary" not in repr(rows).encode()
        assert all(len(tag) == 16 for _, tag in rows)
