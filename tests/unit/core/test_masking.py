from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.core.masking import mask_document, mask_value, restores_mask
from vault.core.schema import MaskKind

MASKS = {"email": MaskKind.EMAIL, "phone": MaskKind.PHONE, "card": MaskKind.LAST4, "city": MaskKind.NONE}


@pytest.mark.parametrize(
    ("value", "kind", "shown"),
    [
        ("anna@example.com", MaskKind.EMAIL, "a***@e***.com"),
        ("anna.b@mail.example.co.uk", MaskKind.EMAIL, "a***@m***.uk"),
        ("a@b.de", MaskKind.EMAIL, "a***@b***.de"),
        (" jürgen@bücher.рф ", MaskKind.EMAIL, "j***@b***.рф"),
        ("x@b.xn--p1ai", MaskKind.EMAIL, "x***@b***.xn--p1ai"),
        ("anna", MaskKind.EMAIL, "***"),
        ("anna@localhost", MaskKind.EMAIL, "***"),
        ("@b.de", MaskKind.EMAIL, "***"),
        ("a@b.my secret is 42", MaskKind.EMAIL, "***"),
        ("", MaskKind.EMAIL, "***"),
        ("+49 30 123467", MaskKind.PHONE, "***67"),
        ("+49 30 12346 7 ", MaskKind.PHONE, "***67"),
        ("12345", MaskKind.PHONE, "***"),
        ("none", MaskKind.PHONE, "***"),
        ("4242424242424242", MaskKind.LAST4, "***4242"),
        ("12345678", MaskKind.LAST4, "***5678"),
        ("1234567", MaskKind.LAST4, "***"),
        ("Berlin", MaskKind.ALL, "***"),
        ("Berlin", None, "***"),
        ("Berlin", MaskKind.NONE, "Berlin"),
        ({"a": 1}, MaskKind.NONE, {"a": 1}),
        (12345678, MaskKind.LAST4, "***"),
        ([1], MaskKind.EMAIL, "***"),
        ({"a": 1}, MaskKind.PHONE, "***"),
        (False, MaskKind.ALL, "***"),
        (0, None, "***"),
        (None, MaskKind.EMAIL, None),
        (None, MaskKind.ALL, None),
        (None, None, None),
    ],
)
def test_masks(value: Any, kind: Any, shown: Any) -> None:
    assert mask_value(value, kind) == shown


@given(st.text(), st.sampled_from([None, *MaskKind]))
def test_masks_are_short_whatever_the_value(value: Any, kind: Any) -> None:
    shown = mask_value(value, kind)
    if kind is not MaskKind.NONE:
        assert "***" in shown
        assert len(shown) <= 9 + 63


def test_a_document_is_masked_as_a_copy() -> None:
    document = {"phone": "+4930123467", "email": "a@b.de", "city": "Berlin", "a/b~": {"x": 1}, "gone": None}
    shown, masked = mask_document(document, MASKS)
    assert shown == {"phone": "***67", "email": "a***@b***.de", "city": "Berlin", "a/b~": "***", "gone": None}
    assert list(shown) == list(document)
    assert masked == ["/phone", "/email", "/a~1b~0"]
    assert document["email"] == "a@b.de"


def test_only_the_fields_asked_for_are_shown() -> None:
    document = {"phone": "+4930123467", "email": "a@b.de", "city": "Berlin"}
    assert mask_document(document, MASKS, fields=["city", "email", "other"]) == (
        {"email": "a***@b***.de", "city": "Berlin"},
        ["/email"],
    )
    assert mask_document(document, MASKS, fields=[]) == ({}, [])


def test_writing_a_masked_answer_back_is_noticed() -> None:
    current = {
        "email": "a@b.de",
        "phone": "+4930123467",
        "city": "Berlin",
        "free": [1],
        "stars": "***",
        "no": None,
    }
    masked, _ = mask_document(current, MASKS)
    assert restores_mask(current, masked, MASKS) == ["email", "phone", "free"]


def test_honest_writes_are_not_taken_for_masks() -> None:
    current = {"email": "a@b.de", "city": "***", "free": "x"}
    assert restores_mask(current, current, MASKS) == []
    assert restores_mask(current, {"email": "c@d.de", "free": None, "new": "****"}, MASKS) == []


@pytest.mark.parametrize(
    ("kind", "mask"),
    [
        (MaskKind.EMAIL, "a***@e***.com"),
        (MaskKind.EMAIL, "***"),
        (MaskKind.PHONE, "***67"),
        (MaskKind.LAST4, "***4242"),
        (MaskKind.ALL, "***"),
        (None, "***"),
    ],
)
def test_a_stale_mask_is_one_too(kind: MaskKind | None, mask: str) -> None:
    masks = {} if kind is None else {"a": kind}
    assert restores_mask({"a": "meanwhile another value"}, {"a": mask}, masks) == ["a"]
    assert restores_mask({}, {"a": mask}, masks) == ["a"], "the field was removed meanwhile"
    assert restores_mask({"a": mask}, {"a": mask}, masks) == [], "it is the value itself"


def test_a_shown_field_may_hold_stars() -> None:
    assert restores_mask({"a": "x"}, {"a": "***"}, {"a": MaskKind.NONE}) == []
