from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.core.clock import from_text, system_clock, to_text

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST = (datetime.min.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)


@given(st.integers(FIRST, LAST))
def test_a_moment_survives_its_text(moment: int) -> None:
    text = to_text(moment)
    assert len(text) == len("2027-01-31T12:00:00.000000Z")
    assert from_text(text) == moment


@given(
    st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29)),  # noqa: DTZ001  # made aware below
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_an_offset_is_converted(naive: datetime, minutes: int) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    expected = (moment - EPOCH) // timedelta(microseconds=1)
    assert from_text(moment.isoformat()) == expected


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.1Z", 100_000),
        ("1970-01-01T00:00:00.1234567Z", 123_456),
        ("0001-01-01T00:00:00Z", FIRST),
        ("9999-12-31T23:59:59.999999Z", LAST),
    ],
)
def test_rfc_3339(text: str, moment: int) -> None:
    assert from_text(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2027",
        "2027-01-31",
        "2027-01-31T12:00:00",
        "2027-01-31 12:00:00Z",
        "2027-01-31T12:00Z",
        "20270131T120000Z",
        "2027-W01-1T12:00:00Z",
        "2027-01-31T12:00:00,5Z",
        "2027-01-31T12:00:00+0100",
        "2027-01-31T12:00:00 Z",
        "2027-01-31T12:00:00Z ",
        "2027-01-31T12:00:00Z\n",
        "2027-02-30T12:00:00Z",
        "2027-01-31T25:00:00Z",
        "2027-01-31T12:00:60Z",
        "0000-01-01T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "٢٠٢٧-01-31T12:00:00Z",
        "2027-01-31T12:00:00+24:00",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        from_text(text)
    assert type(refused.value) is ValueError


@given(st.text(max_size=40))
def test_arbitrary_text_is_read_or_refused(text: str) -> None:
    try:
        moment = from_text(text)
    except ValueError:
        return
    assert from_text(to_text(moment)) == moment


def test_the_clock_tells_this_century() -> None:
    assert to_text(system_clock())[:2] == "20"
