"""The allow-list: what may stand in the log, and that nothing else can."""

from __future__ import annotations

import pytest

from vault.telemetry.fields import FIELDS, MAX_TEXT, allowed, is_event

GOOD = {
    "request_id": "0123456789abcdef" * 2,
    "route": "/v1/collections/{collection}/records/{token}",
    "method": "PATCH",
    "status": 200,
    "milliseconds": 1.25,
    "code": "store-unavailable",
    "collection": "users",
    "error": "sqlite3.OperationalError",
    "finding": "row-mac",
    "where": "record 6f1c1e3a-0000-0000-0000-000000000000 generation 3",
    "places": "KeyError at app.py:1 > records.py:20; from OSError(ENOSPC) at a.py:3",
    "provider": "disk",
    "operation": "key_info",
    "outcome": "key-not-found",
    "reason": "no-turn",
    "keyring": "default",
    "version": 2,
    "count": 1,
    "job": "expire-records",
    "rows": 500,
    "failed": 0,
    "seconds": 0.5,
    "pid": 4711,
    "role": "server",
    "worker": 1,
    "workers": 2,
    "release": "0.1.0",
    "address": "[::1]:8420",
}
# What must not get in, wherever somebody puts it: values, paths, sentences, other types.
NEVER = [
    "ada@example.org",
    "+49 30 1234567",
    "Ada Lovelace",
    "/v1/collections/users/records/lookup?email=ada@example.org",
    "No turn on the database within 5 seconds; nothing was written.",
    "Zoë",
    "a\nb",
    "",
    b"bytes",
    ["list"],
    {"a": 1},
    object(),
]
PUT_TOGETHER_BY_US = {"where", "places"}


def test_there_is_an_example_of_every_field() -> None:
    assert GOOD.keys() == FIELDS.keys()


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_field_on_the_list_stays(name: str) -> None:
    assert allowed({name: GOOD[name]}) == ({name: GOOD[name]}, [])


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - PUT_TOGETHER_BY_US))
@pytest.mark.parametrize("value", NEVER, ids=lambda value: type(value).__name__)
def test_a_value_of_another_form_is_dropped_and_named(name: str, value: object) -> None:
    assert allowed({name: value}) == ({}, [name])


def test_a_field_off_the_list_is_dropped_and_named() -> None:
    assert allowed({"email": "ada@example.org", "status": 200}) == ({"status": 200}, ["email"])


@pytest.mark.parametrize("name", ["Ada Lovelace", "ada@example.org", "x" * 60, "", "Email", "e-mail"])
def test_a_name_that_is_none_of_ours_is_not_written_either(name: str) -> None:
    assert allowed({name: 1}) == ({}, ["*other"])


def test_nothing_to_say_is_no_field() -> None:
    assert allowed({"status": None, "unknown": None}) == ({}, [])


@pytest.mark.parametrize("name", sorted(PUT_TOGETHER_BY_US))
def test_text_of_ours_is_visible_ascii_and_short(name: str) -> None:
    kept, dropped = allowed({name: "a\nb\x1b[31m\u2028ü" + "x" * 10_000})
    text = kept[name]
    assert dropped == []
    assert isinstance(text, str)
    assert text.startswith("a?b?[31m??x")
    assert len(text) == MAX_TEXT
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(
    "value", [b"bytes", ["list"], 7, None, object()], ids=lambda value: type(value).__name__
)
def test_text_of_ours_is_text(value: object) -> None:
    assert allowed({"where": value})[0] == {}


@pytest.mark.parametrize(
    ("event", "is_one"),
    [
        ("request", True),
        ("metrics-folder-not-remembered", True),
        ("request for ada@example.org failed", False),
        ("Request", False),
        ("", False),
        ("x" * 65, False),
        (None, False),
        (7, False),
    ],
)
def test_an_event_is_a_name_and_no_sentence(event: object, is_one: bool) -> None:  # noqa: FBT001
    assert is_event(event) is is_one
