"""Types and places of errors, and nothing of what they say."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from vault.telemetry.traces import places_of

CANARY = "ada@example.org"


def fails(raising: BaseException, cause: BaseException | None = None) -> None:
    raise raising from cause


def test_an_error_and_its_causes_by_type_and_place() -> None:
    with pytest.raises(ValueError, match=CANARY) as cause:
        int(CANARY)
    with pytest.raises(KeyError) as caught:
        fails(KeyError(CANARY), cause.value)
    first, second = places_of(caught.value).split("; from ")
    assert first.startswith("KeyError at test_traces.py:")
    assert second.startswith("ValueError at test_traces.py:")
    assert CANARY not in first + second


def test_what_was_handled_when_it_happened_is_told_too() -> None:
    def handles() -> None:
        try:
            int(CANARY)
        except ValueError:
            fails(KeyError(CANARY))

    with pytest.raises(KeyError) as caught:
        handles()
    text = places_of(caught.value)
    assert "KeyError at " in text
    assert "; from ValueError at " in text


def test_codes_of_the_system_and_of_sqlite_are_words() -> None:
    assert places_of(OSError(28, CANARY)).startswith("OSError(ENOSPC) at")
    assert places_of(OSError(CANARY)).startswith("OSError at")
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(sqlite3.OperationalError) as caught,
    ):
        connection.execute("SELECT 'ada@example.org' FROM nothing")
    assert places_of(caught.value).startswith("OperationalError(SQLITE_ERROR) at test_traces.py:")
    assert CANARY not in places_of(caught.value)


def test_causes_that_go_round_and_deep_recursion_end() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert places_of(first).count("Error at") == 8

    def deeper(depth: int) -> None:
        if depth == 0:
            fails(ValueError(CANARY))
        deeper(depth - 1)

    with pytest.raises(ValueError, match=CANARY) as caught:
        deeper(500)
    assert places_of(caught.value).count(" > ") < 50
