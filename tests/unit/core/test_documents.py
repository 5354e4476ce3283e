import copy
import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.core import documents
from vault.core.documents import check_limits, dump_json, merge_patch, parse_json
from vault.core.errors import MalformedBodyError, UnprocessableError

EXACT_NUMBERS = [
    0,
    2**63,
    2**64 - 1,
    2**64,
    2**64 + 1,
    -(2**63) - 1,
    10**400,
    -(10**999),
    Decimal("0.1000"),
    Decimal("1E-400"),
    Decimal("1E+5"),
    Decimal("0E-7"),
    Decimal("-0.0"),
    Decimal("123456789012345678901234567890.123456789"),
]

decimals = st.decimals(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | decimals | st.text() | st.sampled_from(EXACT_NUMBERS)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(values)
def test_every_value_comes_back_equal(value: Any) -> None:
    assert parse_json(dump_json(value)) == value


@given(values)
def test_the_standard_library_reads_the_same_value(value: Any) -> None:
    assert json.loads(dump_json(value), parse_float=Decimal) == value


@pytest.mark.parametrize("number", EXACT_NUMBERS, ids=lambda number: str(number)[:12])
def test_numbers_keep_their_value_sign_and_digits(number: Any) -> None:
    read = parse_json(dump_json({"n": [number]}))["n"][0]
    assert read == number
    assert str(read) == str(number)


def test_long_integers_and_decimals_are_written_in_one_document() -> None:
    assert dump_json({"a": [2**64 + 1, Decimal("0.10"), None], "b": 2**70}) == (
        b'{"a":[18446744073709551617,0.10,null],"b":1180591620717411303424}'
    )


NO_JSON = [Decimal("NaN"), Decimal("Infinity"), object(), {1: 2}, "\ud800"]


@pytest.mark.parametrize("value", NO_JSON, ids=lambda value: type(value).__name__)
def test_what_json_cannot_say_is_not_written(value: Any) -> None:
    with pytest.raises(TypeError):
        dump_json([value])


@pytest.mark.parametrize(
    ("body", "code", "where"),
    [
        (b'{"geheim":1,"geheim":2}', "duplicate-key", "(line 1, column"),
        (b'{"a":{"geheim":1,\n"geheim":2}}', "duplicate-key", "(line 2, column"),
        (
            b'{"geheim at line 9 column 9":1,"geheim at line 9 column 9":2}',
            "duplicate-key",
            "(line 1, column",
        ),
        (b'{"geheim":NaN}', "invalid-number", "(line 1, column"),
        (b'{"geheim":nan}', "invalid-number", "(line 1, column"),
        (b'{"geheim":\n Infinity}', "invalid-number", "(line 2, column 2)"),
        (b'{"geheim":-Infinity}', "invalid-number", "(line 1, column"),
        (b'{"geheim":01}', "invalid-number", "(line 1, column"),
        (b'{"geheim":1e99999999999999999999}', "invalid-number", "(line 1, column"),
        (b"9" * 5000, "invalid-number", "(line 1, column"),
        (b'\xef\xbb\xbf{"geheim":1}', "byte-order-mark", ""),
        (b'"geheim\\ud800"', "invalid-unicode", "(line 1, column"),
        (b'"geheim\\udc00"', "invalid-unicode", "(line 1, column"),
        (b'"geheim\xff"', "invalid-unicode", "(line 1, column"),
        (b'{"geheim":1} x', "trailing-data", "(line 1, column"),
        (b"[" * 10_000, "nesting", "(line 1, column"),
        (b'{"a":' * 10_000, "nesting", "(line 1, column"),
        (b'{"geheim":', "unexpected-end", "(line 1, column"),
        (b"", "unexpected-end", "(line 1, column"),
        (b'{"geheim":tru}', "invalid-json", "(line 1, column"),
        (b'{"geheim":1,}', "invalid-json", "(line 1, column"),
        (b"{'geheim':1}", "invalid-json", "(line 1, column"),
        (b'"geheim\n"', "invalid-json", "(line 2, column"),
        (b"geheim", "invalid-json", "(line 1, column"),
    ],
)
def test_a_malformed_body_is_refused_with_place_and_without_content(body: Any, code: Any, where: Any) -> None:
    with pytest.raises(MalformedBodyError) as caught:
        parse_json(body)
    (violation,) = caught.value.violations
    assert violation.code == code
    assert where in caught.value.detail
    assert "geheim" not in caught.value.detail + violation.detail
    # A logged traceback would show the cause's message, which quotes the key.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def nested(levels: Any, wrap: Any) -> Any:
    value = "x"
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}])
def test_depth_limit(wrap: Any) -> None:
    check_limits(nested(documents.MAX_DEPTH, wrap))
    for levels in (documents.MAX_DEPTH + 1, 150, 100_000):
        deep = nested(levels, wrap)
        assert refused(deep) == "depth"
        while isinstance(deep, (list, dict)):  # unnest by hand: freeing 100,000 levels is not this test
            deep = deep[0] if isinstance(deep, list) else deep["a"]


def refused(value: Any) -> Any:
    with pytest.raises(UnprocessableError) as caught:
        check_limits(value)
    assert caught.value.code == "document-limit"
    (violation,) = caught.value.violations
    assert violation.pointer == ""
    return violation.code


def test_member_limit_counts_all_levels() -> None:
    half = documents.MAX_MEMBERS // 2
    check_limits({"a": [1] * (half - 2), "b": dict.fromkeys(map(str, range(half)))})
    assert refused({"a": [1] * (half - 1), "b": dict.fromkeys(map(str, range(half)))}) == "members"
    assert refused([[]] * (documents.MAX_MEMBERS + 1)) == "members"


@pytest.mark.parametrize(
    "number",
    [10**999, -(10**1000) + 1, Decimal("1E+1000"), Decimal("1E-1000"), Decimal("9" * 1000), Decimal(0), True],
    ids=lambda number: str(number)[:12],
)
def test_numbers_at_the_limit_pass(number: Any) -> None:
    check_limits([number])


@pytest.mark.parametrize(
    "number",
    [
        10**1000,
        -(10**1000),
        1 << 10_000_000,
        Decimal("1E+1001"),
        Decimal("1E-1001"),
        Decimal("1E+999999999"),
        Decimal("0E+999999"),
        Decimal("0." + "1" * 1001),
    ],
    ids=["int", "negative", "huge", "exponent", "small", "bomb", "zero", "digits"],
)
def test_numbers_over_the_limit_are_refused(number: Any) -> None:
    assert refused({"a": number}) == "number"


def test_name_limit_and_nul() -> None:
    check_limits({"a" * documents.MAX_NAME_CHARACTERS: "nul \x00 is a character"})
    assert refused({"a": [{"b" * (documents.MAX_NAME_CHARACTERS + 1): 1}]}) == "name-length"


# RFC 7396 appendix A: original, patch, result.
@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_as_the_rfc_has_it(original: Any, patch: Any, result: Any) -> None:
    before = copy.deepcopy((original, patch))
    assert merge_patch(original, patch) == result
    assert (original, patch) == before


@given(values, values)
def test_merge_patch_changes_neither_argument_and_repeats(target: Any, patch: Any) -> None:
    before = copy.deepcopy((target, patch))
    once = merge_patch(target, patch)
    assert (target, patch) == before
    assert merge_patch(once, patch) == once
