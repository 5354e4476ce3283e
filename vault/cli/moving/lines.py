"""Bytes to numbered lines: decoded strictly, as long as a line may be, and never more than one of them in memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from vault.cli.failure import Failure

MAX_LINE_CHARACTERS = 4 * 1024 * 1024
"""The longest line. A document of 1 MiB fits, even if every character of it is written as an escape."""

_MARK = "\ufeff"
# Longest first: the mark of UTF-32 begins as that of UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file.

    Attributes:
        number: from 1, as an editor counts.
        text: with its line feed, if it has one; empty if the line is too long.
        is_too_long: it has more than ``MAX_LINE_CHARACTERS``.
    """

    number: int
    text: str = field(repr=False)
    is_too_long: bool = False


class _UndecodableError(Exception):
    """A byte that the encoding does not know. Carries nothing of the file."""


def check_encoding(name: str) -> str:
    """Return the name of a text encoding.

    Raises:
        Failure: Python knows no such encoding.
    """
    try:
        codecs.getincrementaldecoder(name)
        # Other codecs than those of text are refused here; not for no bytes at all, though.
        with suppress(UnicodeError):
            b"a".decode(name)
    except LookupError:
        raise Failure(
            "There is no text encoding of the name that --encoding gives.",
            next_step="Common ones: utf-8, utf-16, cp1252 (Windows, western Europe), iso-8859-1, cp1251, shift_jis.",
        ) from None
    return codecs.lookup(name).name


def physical_lines(chunks: Iterable[bytes], *, encoding: str) -> Iterator[Line]:
    """Yield the lines of a text, each without the byte-order mark that may stand before the first.

    Args:
        chunks: the bytes, cut anywhere.
        encoding: a name that ``check_encoding`` has let through.

    Raises:
        Failure: a byte that the encoding does not know; names the line.
    """
    number = 1
    beginning = ""
    is_too_long = False
    try:
        for text in _decoded(chunks, encoding):
            *whole, rest = (beginning + text).split("\n")
            for part in whole:
                is_too_long = is_too_long or len(part) > MAX_LINE_CHARACTERS
                yield Line(number, "" if is_too_long else part + "\n", is_too_long)
                number += 1
                is_too_long = False
            if len(rest) > MAX_LINE_CHARACTERS:
                rest, is_too_long = "", True
            beginning = rest
    except _UndecodableError:
        raise Failure(
            f"Line {number} holds a byte that is not {encoding}.",
            next_step="Name the encoding that the file was written in, for example --encoding cp1252, or convert it "
            "(iconv -f cp1252 -t utf-8).",
        ) from None
    if beginning or is_too_long:
        yield Line(number, beginning, is_too_long)


def _decoded(chunks: Iterable[bytes], encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    is_first = True
    for chunk in _and_end(chunks):
        if is_first:
            _refuse_foreign_mark(chunk, encoding)
        before = decoder.getstate()
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            # What stands before the bad byte goes on, so that the lines are counted up to it.
            decoder.setstate(before)
            good = decoder.decode(chunk[: max(0, error.start - len(before[0]))])
            yield good.removeprefix(_MARK) if is_first else good
            raise _UndecodableError from None
        if text:
            yield text.removeprefix(_MARK) if is_first else text
            is_first = False


def _and_end(chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield from (chunk for chunk in chunks if chunk)
    yield b""


def _refuse_foreign_mark(start: bytes, encoding: str) -> None:
    found = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    if found is not None and encoding == "utf-8":
        raise Failure(
            f"The file begins with the byte-order mark of {found}, and is read as {encoding}.",
            next_step=f"Pass --encoding {found}.",
        )
