from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from vault.cli.failure import Failure
from vault.cli.moving import lines
from vault.cli.moving.lines import Line, check_encoding, physical_lines

TEXT = "eins\nzwei ü\r\n\n😀rei\nlast"


def cut(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def read(data: bytes, encoding: str = "utf-8", size: int = 3) -> list[tuple[int, str]]:
    return [(line.number, line.text) for line in physical_lines(cut(data, size), encoding=encoding)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32", "gb18030", "utf-8-sig"])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_are_the_same_however_the_bytes_are_cut(encoding: str, size: int) -> None:
    assert read(TEXT.encode(encoding), encoding, size) == [
        (1, "eins\n"), (2, "zwei ü\r\n"), (3, "\n"), (4, "😀rei\n"), (5, "last"),
    ]  # fmt: skip


def test_a_mark_at_the_beginning_is_no_text() -> None:
    assert read(b"\xef\xbb\xbfa\nb") == [(1, "a\n"), (2, "b")]
    assert read("\ufeffa".encode("utf-16-be"), "utf-16-be") == [(1, "a")]
    assert read(b"a\n\xef\xbb\xbfb") == [(1, "a\n"), (2, "\ufeffb")]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_a_foreign_mark_is_named(encoding: str) -> None:
    with pytest.raises(Failure, match=f"byte-order mark of {encoding}") as caught:
        read(TEXT.encode(encoding), size=1000)
    assert f"--encoding {encoding}" in caught.value.next_step


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("data", "encoding", "line"),
    [
        (b"a\nb\nM\xfcller\nx\n", "utf-8", 3),
        (b"\xfc", "utf-8", 1),
        (b"ok\n\xe2\x82", "utf-8", 2),
        ("ok\nalso\n".encode("utf-16-le") + b"x", "utf-16-le", 3),
        (b"\n\n\x81", "cp1252", 3),
        (b"\n\x82", "shift_jis", 2),
    ],
)
def test_a_byte_of_another_encoding_is_told_with_its_line(
    data: bytes, encoding: str, line: int, size: int
) -> None:
    with pytest.raises(Failure, match=f"Line {line} holds a byte that is not {encoding}") as caught:
        read(data, encoding, size)
    assert "iconv" in caught.value.next_step
    assert "ller" not in caught.value.message


def test_what_stands_before_the_bad_byte_is_given() -> None:
    good = []
    with pytest.raises(Failure):
        good.extend(physical_lines([b"a\nb\n\xff"], encoding="utf-8"))
    found = physical_lines([b"a\nb\nc\xff"], encoding="utf-8")
    assert [next(found).text, next(found).text] == ["a\n", "b\n"]


def test_a_line_that_is_too_long_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_CHARACTERS", 10)
    data = b"short\n" + b"x" * 1000 + b"\nten.chars.\n" + b"y" * 11
    assert list(physical_lines(cut(data, 4), encoding="utf-8")) == [
        Line(1, "short\n"), Line(2, "", is_too_long=True), Line(3, "ten.chars.\n"), Line(4, "", is_too_long=True),
    ]  # fmt: skip


def test_nothing_has_no_lines() -> None:
    assert read(b"") == []
    assert read(b"\n") == [(1, "\n")]


@pytest.mark.parametrize("name", ["klingon", "rot13", "hex", ""])
def test_an_unknown_encoding_is_refused(name: str) -> None:
    with pytest.raises(Failure, match="no text encoding") as caught:
        check_encoding(name)
    assert "cp1252" in caught.value.next_step


def test_encodings_have_one_name() -> None:
    assert check_encoding("UTF8") == "utf-8"
    assert check_encoding("latin-1") == "iso8859-1"


def test_random_texts_split_as_python_splits_them() -> None:
    rng = random.Random(3)
    for _ in range(200):
        text = "".join(rng.choice("a\nü😀\r,") for _ in range(rng.randrange(40)))
        wanted = text.split("\n")
        whole = [part + "\n" for part in wanted[:-1]] + ([wanted[-1]] if wanted[-1] else [])
        assert [each for _, each in read(text.encode(), size=rng.randrange(1, 9))] == whole
