"""JSON documents in and out: what a caller sends is what a caller gets back, to the last digit.

Integers of any size stay Python integers, fractions become :class:`decimal.Decimal`; nothing ever passes through
a float. Call the parts in this order: :func:`parse_json` (reads at most 200 levels, in native code), then
:func:`check_limits` (does not recurse), then everything else, which may rely on the limits.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, TypeAlias

import jiter
import orjson

from vault.core.errors import MalformedBodyError, UnprocessableError, Violation

Document: TypeAlias = dict[str, Any]
"""One record's JSON object: str, int, Decimal, bool, None, lists and dicts of these."""

MAX_DOCUMENT_BYTES = 1_048_576
"""The longest document, in bytes of UTF-8 JSON (1 MiB). Checked by whoever holds the bytes."""

MAX_DEPTH = 32
"""How deep objects and arrays nest; the document itself is level 1. Keeps recursive code far from its end."""

MAX_MEMBERS = 10_000
"""Object members plus array elements, over all levels."""

MAX_NUMBER_DIGITS = 1_000
"""Significant digits of one number. Big-integer arithmetic in validators costs more than linear time."""

MAX_EXPONENT = 1_000
"""Magnitude of a number's decimal exponent in scientific notation.

``1e999999999`` is twelve bytes, and a gigabyte for whoever writes it out as an integer.
"""

MAX_NAME_CHARACTERS = 256
"""The longest member name, in characters."""

_BITS_OF_MOST_DIGITS = (10**MAX_NUMBER_DIGITS).bit_length()
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_POSITION = re.compile(r" at line (\d+) column (\d+)\Z")
_NOT_A_NUMBER = (b"NaN", b"Infinity", b"nan", b"inf")
# What jiter's message starts with -> our code and sentence. jiter's own text is never passed on: the one about a
# duplicate key quotes the key, and a key that somebody sent can be personal.
_REASONS: tuple[tuple[str, str, str], ...] = (
    ("Detected duplicate key", "duplicate-key", "An object has two members of the same name"),
    ("recursion limit exceeded", "nesting", "Objects and arrays nest too deeply"),
    ("invalid number", "invalid-number", "A number is not written as JSON writes numbers"),
    ("number out of range", "invalid-number", "A number has too many digits"),
    ("Internal error", "invalid-number", "A number is out of range"),
    ("invalid unicode", "invalid-unicode", "The text is not valid UTF-8"),
    ("lone leading surrogate", "invalid-unicode", "A \\u escape is half of a surrogate pair"),
    (
        "unexpected end of hex escape",
        "invalid-unicode",
        "A \\u escape is half of a surrogate pair, or cut short",
    ),
    ("trailing characters", "trailing-data", "There is more after the end of the JSON value"),
    ("EOF while parsing", "unexpected-end", "The text ends in the middle of a JSON value"),
)


def parse_json(body: bytes) -> Any:
    """Read JSON so that every value keeps its value, and refuse whatever could be read in two ways.

    Args:
        body: UTF-8 JSON (RFC 8259) without a byte order mark. Its length is the caller's to limit.

    Returns:
        dict, list, str, int, Decimal, bool or None. ``1.0`` and ``1e5`` are Decimals.

    Raises:
        MalformedBodyError: duplicate member names, NaN or Infinity, lone surrogates, invalid UTF-8, more than 200
            levels, numbers that no Decimal can hold, or no JSON at all. The sentence and its one violation say what
            and where (line and column, in bytes), and never quote the body.

    Source: RFC 8259; RFC 7493 (I-JSON) section 2.3 for duplicate names.
    """
    if body.startswith(_BYTE_ORDER_MARK):
        raise _malformed("byte-order-mark", "The body starts with a byte order mark; send plain UTF-8")
    try:
        return jiter.from_json(
            body,
            float_mode="decimal",
            catch_duplicate_keys=True,
            allow_inf_nan=False,
            cache_mode="keys",
        )
    except ValueError as error:
        code, sentence = _explain(body, str(error))
    # Outside the handler, so that the cause, which may quote a member name, is in no traceback.
    raise _malformed(code, sentence)


def _malformed(code: str, sentence: str) -> MalformedBodyError:
    return MalformedBodyError(f"{sentence}.", violations=[Violation("", code, f"{sentence}.")])


def _explain(body: bytes, message: str) -> tuple[str, str]:
    """Translate a message of jiter into a code and a sentence that hold nothing of the body."""
    position = _POSITION.search(message)
    where = f" (line {position[1]}, column {position[2]})" if position else ""
    for start, code, sentence in _REASONS:
        if message.startswith(start):
            return code, sentence + where
    if position and _stands_at(body, int(position[1]), int(position[2]), _NOT_A_NUMBER):
        return "invalid-number", "NaN and Infinity are not JSON" + where
    return "invalid-json", "The body is not valid JSON" + where


def _stands_at(body: bytes, line: int, column: int, words: tuple[bytes, ...]) -> bool:
    lines = body.split(b"\n", line)
    # jiter points at the first byte of the word, or at its second when the first could begin another literal.
    return any(lines[line - 1][max(0, column - back) :].startswith(words) for back in (1, 2))


def check_limits(document: Any) -> None:
    """Refuse a value that is too deep, too wide, or holds a number or a name that is too long.

    Args:
        document: what :func:`parse_json` returned. Walked without recursion.

    Raises:
        UnprocessableError: code ``document-limit``; the violation's code is ``depth``, ``members``, ``number`` or
            ``name-length``, its detail names the limit, its pointer is empty (a path would quote names).
    """
    members = 0
    level: list[Any] = [document]
    depth = 0
    while level:
        containers = []
        for value in level:
            if isinstance(value, (dict, list)):
                members += len(value)
                containers.append(value)
            else:
                _check_scalar(value)
        if members > MAX_MEMBERS:
            raise _over_limit("members", f"at most {MAX_MEMBERS} object members and array elements in all")
        if containers:
            depth += 1
        if depth > MAX_DEPTH:
            raise _over_limit("depth", f"objects and arrays nested at most {MAX_DEPTH} levels deep")
        level = []
        for container in containers:
            if isinstance(container, dict):
                _check_names(container)
                level.extend(container.values())
            else:
                level.extend(container)


def _check_names(container: dict[str, Any]) -> None:
    if any(len(name) > MAX_NAME_CHARACTERS for name in container):
        raise _over_limit("name-length", f"member names of at most {MAX_NAME_CHARACTERS} characters")


def _check_scalar(value: Any) -> None:
    if isinstance(value, int):
        # Never str() first: Python refuses, and needs quadratic time for, very long integers.
        fits = value.bit_length() <= _BITS_OF_MOST_DIGITS and abs(value) < 10**MAX_NUMBER_DIGITS
    elif isinstance(value, Decimal):
        fits = len(value.as_tuple().digits) <= MAX_NUMBER_DIGITS and abs(value.adjusted()) <= MAX_EXPONENT
    else:
        return
    if not fits:
        raise _over_limit(
            "number",
            f"numbers of at most {MAX_NUMBER_DIGITS} digits and a decimal exponent between -{MAX_EXPONENT} and {MAX_EXPONENT}",
        )


def _over_limit(code: str, limit: str) -> UnprocessableError:
    detail = f"The limit is {limit}."
    return UnprocessableError(
        f"The document is over a limit. {detail}",
        code="document-limit",
        violations=[Violation("", code, detail)],
    )


def dump_json(value: Any) -> bytes:
    """Write JSON that :func:`parse_json` reads back to an equal value: every integer and Decimal exactly.

    Args:
        value: str, int, Decimal, bool, None, lists and dicts with str keys; also what orjson writes by itself (UUID,
            datetime, dataclasses), for our own answers. Documents never hold floats.

    Returns:
        Compact UTF-8, members in the order of the dict.

    Raises:
        TypeError: a value or key JSON has no word for, a Decimal that is not finite, or a lone surrogate.
    """
    try:
        return orjson.dumps(value, default=_write_exactly)
    except orjson.JSONEncodeError:
        # orjson stops at 64 bits. Rare, so only then is the value walked.
        return orjson.dumps(_with_long_integers_written(value), default=_write_exactly)


def _write_exactly(value: Any) -> orjson.Fragment:
    # str() of a finite Decimal is a JSON number in every form it takes: "1E+5", "0E-7", "-0.0", "1.23E-400".
    if isinstance(value, Decimal) and value.is_finite():
        return orjson.Fragment(str(value))
    raise TypeError(f"{type(value).__name__} has no JSON form here")


def _with_long_integers_written(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_long_integers_written(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_long_integers_written(element) for element in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return orjson.Fragment(str(value))
    return value


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply an RFC 7396 merge patch and leave both arguments as they are.

    The result can be larger than either: check its limits again. Parts that the patch does not touch are shared with
    the target, not copied.

    Args:
        target: the present value; anything but an object counts as an empty object under an object patch.
        patch: null removes a member, an object merges, anything else replaces. Within :data:`MAX_DEPTH`.

    Returns:
        The patched value.

    Source: RFC 7396 section 2.
    """
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), change)
    return merged
