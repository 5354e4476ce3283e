from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from vault.cli.failure import Failure
from vault.cli.moving.columns import Wishes, table_shape
from vault.cli.moving.entries import Refusal, RefusedError

SCHEMA: dict[str, Any] = {
    "required": ["email"],
    "properties": {
        "email": {"type": "string"},
        "phone": {"type": ["string", "null"]},
        "age": {"type": "integer"},
        "first.name": {"type": "string"},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "no": {"type": "integer"}},
        },
    },
}


def wishes(**given: Any) -> Wishes:
    blank: dict[str, Any] = {
        "mapping": {},
        "dropped": frozenset(),
        "key": None,
        "region": None,
        "is_envelope": False,
    }
    return Wishes(**blank | given)


def shape(header: list[str], *, is_strict: bool = False, **given: Any) -> Any:
    return table_shape(header, SCHEMA, is_strict=is_strict, wishes=wishes(**given))


def refused(header: list[str], **given: Any) -> Failure:
    with pytest.raises(Failure) as caught:
        shape(header, **given)
    return caught.value


def test_columns_become_fields() -> None:
    make = shape(
        ["E-Mail", "age", "address.street", "address.no", "first.name", "Note", "ends", "land", "id", "etc"],
        mapping={"E-Mail": "email", "ends": "@expires_at", "land": "@region"},
        dropped=frozenset({"etc"}),
        key="id",
        region="FR",
    )
    cells = ["a@b.example", "42", "Main", "", "Ada", "x", "2030-01-02", "DE", "K7", "gone"]
    assert make(cells) == (
        {
            "email": "a@b.example",
            "age": 42,
            "address": {"street": "Main"},
            "first.name": "Ada",
            "Note": "x",
            "id": "K7",
        },
        datetime(2030, 1, 2, tzinfo=UTC),
        "DE",
        "K7",
    )
    assert make(["a@b.example", *[""] * 9]) == ({"email": "a@b.example"}, None, "FR", "")


def test_the_key_may_be_a_column_that_is_dropped() -> None:
    make = shape(["email", "id"], dropped=frozenset({"id"}), key="id")
    assert make(["a", "K7"]) == ({"email": "a"}, None, None, "K7")


@pytest.mark.parametrize(
    ("cells", "refusals"),
    [
        (["a"], [("", "cells")]),
        (["a", "b", "c", "d", "e", "f"], [("", "cells")]),
        (["", "", "", "", ""], [("", "empty")]),
        (
            ["a", "secret", "x", "y", "z"],
            [("/age", "type"), ("/address/no", "type"), ("/expires_at", "date-time")],
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused_with_every_reason(
    cells: list[str], refusals: list[tuple[str, str]]
) -> None:
    make = shape(["email", "age", "address.no", "ends", "Note"], mapping={"ends": "@expires_at"})
    with pytest.raises(RefusedError) as caught:
        make(cells)
    assert caught.value.refusals == tuple(Refusal(*each) for each in refusals)


@pytest.mark.parametrize("name", ["E-Mail", "EMAIL", "e_mail", "Phone", " age"])
def test_a_name_that_is_nearly_a_field_is_not_guessed(name: str) -> None:
    said = refused([name, "x"])
    assert "not named like a field" in said.message
    assert "--map " in said.next_step
    assert said.next_step.split("=")[1].split(";")[0].strip("' ") in {"email", "phone", "age"}
    assert said.details == (f"Columns: '{name}', 'x'",)


def test_names_that_are_no_fields_come_with_a_hint() -> None:
    said = refused(["email", "Date of birth", "", "9 lives", "a..b"])
    assert "'Date of birth', '', '9 lives', 'a..b'" in said.message
    assert (
        "--map 'Date of birth=date_of_birth' --map =FIELD --map '9 lives=lives' --map a..b=a_b"
        in said.next_step
    )
    assert "--delimiter" in refused(["email;phone"]).next_step


def test_a_missing_column_is_named_with_those_that_are_there() -> None:
    for given in ({"mapping": {"Mail": "email"}}, {"dropped": frozenset({"Mail"})}, {"key": "Mail"}):
        said = refused(["mail", "name"], **given)
        assert said.message == "The file has no column 'Mail'."
        assert said.details == ("Columns: 'mail', 'name'",)


def test_what_the_collection_demands_has_to_come_from_somewhere() -> None:
    said = refused(["name", "phone"])
    assert "demands 'email'" in said.message
    assert "--map COLUMN=email" in said.next_step


@pytest.mark.parametrize(
    ("header", "mapping"),
    [
        (["email", "mail"], {"mail": "email"}),
        (["email", "address", "address.street"], {}),
        (["email", "a.b", "a.b.c"], {}),
        (["email", "x", "y"], {"x": "@region", "y": "@region"}),
    ],
)
def test_two_columns_cannot_go_to_one_place(header: list[str], mapping: dict[str, str]) -> None:
    said = refused(header, mapping=mapping)
    assert "Two columns go to the same place" in said.message
    assert "--drop" in said.next_step


def test_a_column_that_stands_twice() -> None:
    assert "a column twice: 'email'" in refused(["email", "email"]).message
    assert shape(["email", "x", "x"], dropped=frozenset({"x"}))(["a", "b", "c"])[0] == {"email": "a"}


def test_a_strict_collection_takes_no_other_fields() -> None:
    said = refused(["email", "nick", "address.floor"], is_strict=True)
    assert "'nick'" in said.message
    assert "address" not in said.message
    assert "--drop nick" in said.next_step


@pytest.mark.parametrize(
    "first", [["Ada", "ada@example.com"], ["+44 20 7946 0123", "E-Mail"], ["ada@example.com"] * 2]
)
def test_a_first_line_of_values_is_not_shown(first: list[str]) -> None:
    said = refused(first)
    everything = " ".join([said.message, *said.details, said.next_step])
    assert "does not look like a header" in said.message
    assert "ada" not in everything.lower()
    assert "7946" not in everything


def test_an_export_s_columns_mean_what_the_export_meant() -> None:
    header = [
        "token",
        "generation",
        "created_at",
        "updated_at",
        "expires_at",
        "data.email",
        "data.age",
        "data.address.no",
        "data",
    ]
    make = shape(header, is_envelope=True, key="token")
    rest = '{"address":{"street":"Main"},"nick":null}'
    cells = ["t1", "3", "x", "x", "2030-01-01T00:00:00Z", "a", "7", "5", rest]
    assert make(cells) == (
        {"email": "a", "age": 7, "address": {"no": 5, "street": "Main"}, "nick": None},
        datetime(2030, 1, 1, tzinfo=UTC),
        None,
        "t1",
    )
    for wrong in ("[1]", "{", '{"email":"b"}'):
        with pytest.raises(RefusedError) as caught:
            make([*cells[:-1], wrong])
        assert caught.value.refusals == (Refusal("", "type"),)
    assert "not named like" in refused(["data.email", "other"], is_envelope=True).message
    assert "demands" not in str(shape(["data"], is_envelope=True))


def test_a_masked_export_is_not_taken_back() -> None:
    assert "masked" in refused(["token", "masked", "data.email"], is_envelope=True).message
