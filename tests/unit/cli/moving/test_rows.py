from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

import pytest

from vault.cli.failure import Failure
from vault.cli.moving import rows
from vault.cli.moving.lines import MAX_LINE_CHARACTERS, Line, physical_lines
from vault.cli.moving.rows import Broken, csv_rows, json_rows


def table(text: str, delimiter: str = ",") -> list[tuple[int, int, Any]]:
    found = csv_rows(physical_lines([text.encode()], encoding="utf-8"), delimiter=delimiter)
    return [(row.line, row.last_line, row.content) for row in found]


def test_rows_know_their_lines() -> None:
    text = 'a,b\r\n1,"two\nlines, and ""quotes"""\n\n3,\n"4",5'
    assert table(text) == [
        (1, 1, ["a", "b"]), (2, 3, ["1", 'two\nlines, and "quotes"']), (5, 5, ["3", ""]), (6, 6, ["4", "5"]),
    ]  # fmt: skip


def test_a_broken_row_takes_its_lines_with_it_and_no_other() -> None:
    text = '1,ok\n2,"Anna, x\n3,"Bob",y\n4,ok\n5,"a"b\n6,ok\n'
    assert table(text) == [
        (1, 1, ["1", "ok"]), (2, 3, Broken("quotes")), (4, 4, ["4", "ok"]), (5, 5, Broken("quotes")),
        (6, 6, ["6", "ok"]),
    ]  # fmt: skip


@pytest.fixture(autouse=True)
def limit_of_the_process() -> Iterator[None]:
    """Leave the process's own limit of a cell as it was."""
    limit = csv.field_size_limit()
    yield
    csv.field_size_limit(limit)


def test_a_quote_that_does_not_end_is_refused_where_it_began() -> None:
    with pytest.raises(Failure, match="Line 3: the quoted cell that begins here") as caught:
        table('a,b\n1,2\n3,"secret\n4,5\n6,7\n')
    assert "secret" not in caught.value.message + caught.value.next_step


def test_a_quote_that_does_not_end_is_not_followed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_CELL_CHARACTERS", 1000)
    seen = []

    def lines() -> Any:
        yield Line(1, 'a,"\n')
        for number in range(2, 10**6):
            seen.append(number)
            yield Line(number, "b" * 99 + "\n")

    with pytest.raises(Failure, match="Line 1"):
        list(csv_rows(lines(), delimiter=","))
    assert len(seen) < 20


def test_a_cell_or_line_that_is_too_long_is_refused_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "MAX_CELL_CHARACTERS", 10)
    assert table(f"1,ok\n2,{'x' * 11}\n3,ok\n") == [
        (1, 1, ["1", "ok"]),
        (2, 2, Broken("too-large")),
        (3, 3, ["3", "ok"]),
    ]
    found = csv_rows([Line(1, "a\n"), Line(2, "", is_too_long=True), Line(3, "b\n")], delimiter=",")
    assert [row.content for row in found] == [["a"], Broken("too-large"), ["b"]]


def test_old_line_ends_are_named() -> None:
    with pytest.raises(Failure, match="Line 1 holds a carriage return") as caught:
        table("a,b\r1,2\r")
    assert "tr '\\r' '\\n'" in caught.value.next_step


def test_other_delimiters() -> None:
    assert table("a;b\n1,5;2\n", ";") == [(1, 1, ["a", "b"]), (2, 2, ["1,5", "2"])]
    assert table("a\tb\n", "\t") == [(1, 1, ["a", "b"])]


def test_lines_of_json() -> None:
    lines = [Line(1, '{"a":1}\n'), Line(2, " \r\n"), Line(3, "x\r\n"), Line(4, "", is_too_long=True)]
    assert [(row.line, row.content) for row in json_rows(lines)] == [
        (1, '{"a":1}'), (3, "x"), (4, Broken("too-large")),
    ]  # fmt: skip
    assert MAX_LINE_CHARACTERS >= 4 * 1024 * 1024


def test_a_row_shows_no_cells() -> None:
    (row,) = csv_rows([Line(1, "secret,row\n")], delimiter=",")
    assert "secret" not in repr(row)
