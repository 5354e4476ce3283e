# ruff: noqa: RUF001  (characters that look alike are the point of these tests)

import unicodedata
from typing import Any

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from vault.core.normalise import (
    MAX_INDEXED_CHARACTERS,
    NormaliseError,
    is_region,
    normaliser,
)

NAMES = ["email", "phone", "login", "text"]


def norm(name: Any, value: Any, region: Any = None) -> Any:
    return normaliser(name).normalise(value, region=region)


def code(name: Any, value: Any, region: Any = None) -> Any:
    with pytest.raises(NormaliseError) as caught:
        norm(name, value, region)
    # Neither the sentence nor a chained cause may quote what was sent.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return caught.value.code


@pytest.mark.parametrize("name", NAMES)
def test_normalisers_are_found_by_name_and_say_their_version(name: Any) -> None:
    assert normaliser(name).id == f"{name}/1"


def test_an_unknown_normaliser_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        normaliser("e-mail")


@pytest.mark.parametrize("name", NAMES)
def test_length_is_checked_first(name: Any) -> None:
    assert code(name, "a" * (MAX_INDEXED_CHARACTERS + 1)) == "too-long"


def test_text_of_the_longest_length_passes() -> None:
    assert norm("text", "a" * MAX_INDEXED_CHARACTERS) == "a" * MAX_INDEXED_CHARACTERS


@pytest.mark.parametrize("name", NAMES)
@given(value=st.text(max_size=40))
def test_normalising_twice_is_normalising_once(name: Any, value: Any) -> None:
    try:
        once = norm(name, value, "DE")
    except NormaliseError:
        return
    assert norm(name, once, "DE") == once


local_parts = st.text(
    st.characters(exclude_categories=["Cs", "Cn", "Cc", "Z"], exclude_characters='"(),:;<>@[\\]'),
    min_size=1,
    max_size=20,
)
domains = st.sampled_from(
    ["Example.com", "bücher.example", "FAẞ.de", "faß.de", "xn--bcher-kva.DE", "ｂ.de", "a。de", "пример.рф"]
)


@given(local_parts, domains)
def test_emails_of_every_script_settle(local_part: Any, domain: Any) -> None:
    try:
        once = norm("email", f"{local_part}@{domain}")
    except NormaliseError:
        return
    assert norm("email", once) == once
    assert once.rpartition("@")[2].isascii()
    assert once == unicodedata.normalize("NFC", once)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("anna@example.com", "anna@example.com"),
        (" Anna.B+News@EXAMPLE.com\n", "anna.b+news@example.com"),
        ("jürgen@Bücher.example", "jürgen@xn--bcher-kva.example"),
        ("ju\u0308rgen@bu\u0308cher.example", "jürgen@xn--bcher-kva.example"),
        ("x@XN--BCHER-KVA.example", "x@xn--bcher-kva.example"),
        ("x@faß.de", "x@xn--fa-hia.de"),
        ("straße@b.de", "straße@b.de"),
        ("ÀÉ@b.de", "àé@b.de"),
        ("\u0130@b.de", "i\u0307@b.de"),
        ("I@b.de", "i@b.de"),
        ("ı@b.de", "ı@b.de"),
        ("a@b\u3002de", "a@b.de"),
        ("a@пример.рф", "a@xn--e1afmkfd.xn--p1ai"),
    ],
)
def test_emails(value: Any, expected: Any) -> None:
    assert norm("email", value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "anna",
        "@b.de",
        "a@",
        "a@@b.de",
        "a@localhost",
        "a@corp.local",
        "a@b.test",
        "a@b.invalid",
        '"a b"@example.com',
        "Anna <a@example.com>",
        "a@[127.0.0.1]",
        "a@b.de.",
        "a b@b.de",
        "a\u200b@b.de",
        "a@" + "b" * 64 + ".de",
        "a" * 250 + "@b.de",
        "a\x00@b.de",
    ],
)
def test_no_emails(value: Any) -> None:
    assert code("email", value) == "invalid"


def test_sharp_s_and_double_s_stay_two_mailboxes() -> None:
    assert norm("email", "straße@b.de") != norm("email", "strasse@b.de")


def examples() -> Any:
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in PhoneNumberType.values():
            number = phonenumbers.example_number_for_type(region, kind)
            if number is not None:
                yield region, number


def test_every_example_number_of_every_region() -> None:
    regions = set()
    for region, number in examples():
        e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
        national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
        regions.add(region)
        assert norm("phone", national, region) == e164
        for form in (PhoneNumberFormat.INTERNATIONAL, PhoneNumberFormat.RFC3966, PhoneNumberFormat.E164):
            written = phonenumbers.format_number(number, form)
            assert norm("phone", written) == e164
            assert norm("phone", written, "DE") == e164
    assert len(regions) > 200
    assert regions == set(phonenumbers.SUPPORTED_REGIONS)


def test_every_example_number_of_no_region() -> None:
    codes = sorted(phonenumbers.COUNTRY_CODES_FOR_NON_GEO_REGIONS)
    assert len(codes) > 5
    for country_code in codes:
        number = phonenumbers.example_number_for_non_geo_entity(country_code)
        e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
        assert norm("phone", phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)) == e164
        assert norm("phone", e164) == e164


@pytest.mark.parametrize(
    ("value", "region", "expected"),
    [
        ("030 123456", "DE", "+4930123456"),
        ("0049 30 123456", "DE", "+4930123456"),
        ("+49 (30) 123-456", None, "+4930123456"),
        ("+49 30 123456 ext. 007", None, "+4930123456;ext=007"),
        ("+49 30 123456 ext. ０12", None, "+4930123456;ext=012"),
        ("tel:+49-30-123456;ext=12", None, "+4930123456;ext=12"),
        ("\uff0b49 30 123456", None, "+4930123456"),
        ("０３０ １２３４５６", "DE", "+4930123456"),
        ("02 1234 5678", "IT", "+390212345678"),
    ],
)
def test_phones(value: Any, region: Any, expected: Any) -> None:
    assert norm("phone", value, region) == expected
    assert norm("phone", expected) == expected


@pytest.mark.parametrize(
    ("value", "region", "expected"),
    [
        ("030 123456", None, "region-required"),
        ("030 123456", "XX", "region"),
        ("030 123456", "de", "region"),
        ("+4930123456", "", "region"),
        ("", "DE", "invalid"),
        ("call me", None, "invalid"),
        ("+49", None, "invalid"),
        ("+999 123456", None, "invalid"),
        ("+49 30 1", None, "invalid"),
        ("+1 555 555 5555", None, "invalid"),
        ("1" * 300, "DE", "invalid"),
    ],
)
def test_no_phones(value: Any, region: Any, expected: Any) -> None:
    assert code("phone", value, region) == expected


def test_two_people_behind_one_number_stay_two() -> None:
    assert norm("phone", "+4930123456;ext=1") != norm("phone", "+4930123456;ext=2")


@pytest.mark.parametrize(
    ("region", "known"), [("DE", True), ("US", True), ("de", False), ("001", False), ("", False)]
)
def test_regions(region: Any, known: Any) -> None:
    assert is_region(region) is known


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("  Anna ", "anna"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("ＡＮＮＡ１", "anna1"),
        ("ﬁn", "fin"),
        ("\u0130x", "i\u0307x"),
        ("ı", "ı"),
        ("ΑΣ", "ας".casefold()),
        ("a\u200bn\u00adna\ufeff", "anna"),
        ("e\u0301", "é"),
        ("\u2126", "ω"),
        ("\u3000anna\u2003", "anna"),
        ("anna smith", "anna smith"),
    ],
)
def test_logins(value: Any, expected: Any) -> None:
    assert norm("login", value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("  Anna ", "Anna"),
        ("e\u0301", "é"),
        ("Straße", "Straße"),
        ("ﬁn", "ﬁn"),
        ("a\u200bb", "a\u200bb"),
        ("nul\x00", "nul\x00"),
    ],
)
def test_texts(value: Any, expected: Any) -> None:
    assert norm("text", value) == expected


@pytest.mark.parametrize("name", ["login", "text"])
@pytest.mark.parametrize("value", ["", " ", "\n\u3000"])
def test_empty_is_refused(name: Any, value: Any) -> None:
    assert code(name, value) == "empty"


def test_invisible_login_is_empty() -> None:
    assert code("login", "\u200b\u2060") == "empty"


@pytest.mark.parametrize("name", ["login", "text"])
@pytest.mark.parametrize("value", ["a\u0378", "a\uffff", "a\ud800"])
def test_what_unicode_has_not_assigned_is_refused(name: Any, value: Any) -> None:
    assert code(name, value) == "unassigned-character"
