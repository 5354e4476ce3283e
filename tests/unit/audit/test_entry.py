from __future__ import annotations

import dataclasses
import json
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from vault.audit.entry import EntryOrigin, canonical_entry, read_entry
from vault.audit.events import Action, AuditEvent, Result

SAFE = 2**53 - 1  # beyond this RFC 8785 has no exact integers
TEXT = st.text(max_size=30)
MAYBE_TEXT = st.none() | TEXT
COUNT = st.integers(0, SAFE)
MAYBE_COUNT = st.none() | COUNT
EVENTS = st.builds(
    AuditEvent,
    action=st.sampled_from(Action),
    result=st.sampled_from(Result),
    tenant=TEXT,
    principal=MAYBE_TEXT,
    credential=MAYBE_TEXT,
    reason=MAYBE_TEXT,
    collection=MAYBE_TEXT,
    token=st.none() | st.binary(min_size=16, max_size=16),
    generation=MAYBE_COUNT,
    seal_epoch=MAYBE_COUNT,
    document_sha256=st.none() | st.binary(min_size=32, max_size=32),
    fields=st.lists(TEXT, max_size=4).map(tuple),
    lookup_field=MAYBE_TEXT,
    reveal=MAYBE_TEXT,
    purpose=MAYBE_TEXT,
    request_id=MAYBE_TEXT,
    address=MAYBE_TEXT,
    count=MAYBE_COUNT,
)
ORIGINS = st.builds(
    EntryOrigin,
    entry_id=st.binary(min_size=16, max_size=16),
    boot_id=st.binary(min_size=16, max_size=16),
    sequence=COUNT,
    mac_key_id=COUNT,
    time=st.integers(-SAFE, SAFE),
)


@given(EVENTS, ORIGINS)
def test_an_entry_is_canonical_json(event: AuditEvent, origin: EntryOrigin) -> None:
    canonical = canonical_entry(event, origin)
    assert rfc8785.dumps(json.loads(canonical)) == canonical


@given(EVENTS, ORIGINS)
def test_an_entry_reads_back(event: AuditEvent, origin: EntryOrigin) -> None:
    read, read_origin = read_entry(canonical_entry(event, origin))
    assert read_origin == origin
    assert read == dataclasses.replace(event, time=origin.time)
    assert canonical_entry(read, read_origin) == canonical_entry(event, origin)


@given(EVENTS, EVENTS, ORIGINS)
def test_two_events_never_leave_the_same_bytes(
    first: AuditEvent, second: AuditEvent, origin: EntryOrigin
) -> None:
    assert (canonical_entry(first, origin) == canonical_entry(second, origin)) == (first == second)


EVENT = AuditEvent(action=Action.RECORD_READ, result=Result.RELEASED, tenant="default", token=bytes(16))
ORIGIN = EntryOrigin(bytes(16), bytes(16), 1, 1, 0)
MEMBERS: dict[str, Any] = json.loads(canonical_entry(EVENT, ORIGIN))


@pytest.mark.parametrize(
    "changed",
    [
        {"v": 2},
        {"v": None},
        {"id": None},
        {"id": "xx"},
        {"id": 5},
        {"token": "0"},
        {"token": 5},
        {"action": "record.copy"},
        {"result": "maybe"},
        {"action": None},
        {"fields": 5},
    ],
)
def test_other_members_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_entry(orjson.dumps(MEMBERS | changed))


@pytest.mark.parametrize("name", ["v", "id", "boot", "seq", "mac_key", "time", "tenant", "action", "result"])
def test_a_missing_member_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"^not an audit entry$"):
        read_entry(orjson.dumps({key: value for key, value in MEMBERS.items() if key != name}))


@pytest.mark.parametrize("canonical", [b"", b"{", b"[]", b"5", b"null", b'"v"', b"{}", b"\xff", b'[{"v":1}]'])
def test_other_bytes_are_refused(canonical: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_entry(canonical)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_refused_by_name(canonical: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_entry(canonical)


def test_a_half_surrogate_never_becomes_an_entry() -> None:
    with pytest.raises(orjson.JSONEncodeError):
        canonical_entry(dataclasses.replace(EVENT, purpose="\udced"), ORIGIN)
