"""The administrator's record of a key: a stored format, of which several copies may stand side by side."""

from __future__ import annotations

import pytest

from keyproviders.pkcs11_record import KeyRecord, record_label


def test_the_form_is_frozen() -> None:
    assert KeyRecord(2, 13).encode() == b"strongroom key record 1: retired 2, highest 13"
    assert record_label("records") == "records/retired"


def test_no_object_is_an_empty_record() -> None:
    assert KeyRecord.of([]) == KeyRecord(0, 0)


def test_of_two_records_the_higher_numbers_count() -> None:
    values = [KeyRecord(2, 9).encode(), KeyRecord(1, 10).encode()]
    assert KeyRecord.of(values) == KeyRecord.of(values[::-1]) == KeyRecord(2, 10)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"strongroom key record 2: retired 1, highest 2",
        b"strongroom key record 1: retired -1, highest 2",
        b"strongroom key record 1: retired 1, highest 2\n",
        b"strongroom key record 1: retired 1, highest 9999999999",
        "strongroom key record 1: retired \u0661, highest 2".encode(),
    ],
)
def test_anything_else_is_no_record(value: bytes) -> None:
    assert KeyRecord.of([KeyRecord(1, 2).encode(), value]) is None
