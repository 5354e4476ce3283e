"""The header of a table: which column becomes which field, and every mistake in it before anything is sent."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from vault.cli.failure import Failure
from vault.cli.moving.entries import Refusal, RefusedError, Shape, moment_of
from vault.cli.moving.envelope import DATA, MASKED, METADATA, merge, put_at
from vault.cli.moving.kinds import Kind, Schema, kind_of, subschema, value_of
from vault.core.pointers import OTHER_NAME, json_pointer

EXPIRES_AT: Final = "@expires_at"
REGION: Final = "@region"
SPECIAL: Final = frozenset({EXPIRES_AT, REGION})
_REMAINDER: Final = "@data"
_TARGETS_OF_METADATA = {"expires_at": EXPIRES_AT, "region": REGION, DATA: _REMAINDER}
_FIELD = re.compile(r"[^\W\d]\w*")
_DATA_LIKE = re.compile(r".@.|[0-9]{4}")
_MOST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Column:
    """One column that is imported.

    Attributes:
        place: which cell of a row, from 0.
        target: ``@expires_at``, ``@region`` or a name without meaning here.
        path: the field, outermost name first.
        pointer: how refusals name it.
    """

    place: int
    target: str
    path: tuple[str, ...]
    kind: Kind
    pointer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the options say about columns.

    Attributes:
        mapping: column -> target.
        dropped: columns to leave out.
        key: the column that goes into the file of tokens.
        region: of rows that name none.
        is_envelope: the columns are named as an export names them.
    """

    mapping: Mapping[str, str]
    dropped: frozenset[str]
    key: str | None
    region: str | None
    is_envelope: bool


def table_shape(header: Sequence[str], schema: Schema, *, is_strict: bool, wishes: Wishes) -> Shape:
    """Return what makes a record of a row's cells.

    Raises:
        Failure: a column that is named is missing, twice, or has no place; the collection demands a field that no
            column fills, or allows no other.
    """
    columns = _columns(header, schema, wishes)
    _check_fields(header, columns, schema, is_strict=is_strict)
    key_place = None if wishes.key is None else header.index(wishes.key)

    def shape(cells: list[str]) -> tuple[dict[str, Any], datetime | None, str | None, str]:
        if len(cells) != len(header):
            raise RefusedError(Refusal("", "cells"))
        data, expires_at, region = _filled(cells, columns)
        return data, expires_at, region or wishes.region, "" if key_place is None else cells[key_place]

    return shape


def _filled(
    cells: list[str], columns: Sequence[Column]
) -> tuple[dict[str, Any], datetime | None, str | None]:
    data: dict[str, Any] = {}
    expires_at, region = None, None
    refusals: list[Refusal] = []
    for column in columns:
        cell = cells[column.place]
        if not cell:
            continue
        try:
            match column.target:
                case "@expires_at":
                    expires_at = moment_of(cell)
                case "@region":
                    region = cell.strip()
                case "@data":
                    merge(data, _object(cell))
                case _:
                    put_at(data, column.path, value_of(cell, column.kind))
        except ValueError:
            refusals.append(Refusal(column.pointer, "type"))
        except RefusedError as refused:
            refusals.extend(refused.refusals)
    if refusals:
        raise RefusedError(*refusals)
    if not data:
        raise RefusedError(Refusal("", "empty"))
    return data, expires_at, region


def _object(cell: str) -> dict[str, Any]:
    value = value_of(cell, "json")
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004 - the caller knows one error
    return value


def _columns(header: Sequence[str], schema: Schema, wishes: Wishes) -> list[Column]:
    named = {*wishes.mapping, *wishes.dropped, *([] if wishes.key is None else [wishes.key])}
    missing = sorted(named - set(header))
    if missing:
        raise Failure(
            f"The file has no column {_listed(missing)}.",
            details=_shown(header),
            next_step="Names are compared letter by letter. Is the first line the header, and --delimiter right?",
        )
    twice = sorted({name for name in header if header.count(name) > 1 and name not in wishes.dropped})
    if twice:
        raise Failure(
            f"The header has a column twice: {_listed(twice)}." if _is_header(header) else _NO_HEADER,
            next_step="Rename one of them in the file.",
        )
    if wishes.is_envelope and MASKED in header:
        raise Failure(
            "This is a masked export: to store masks in the place of what they hide would lose it.",
            next_step="Export with --reveal plain.",
        )
    columns = []
    unusable = []
    for place, name in enumerate(header):
        target = None if name in wishes.dropped else _target(name, schema, wishes)
        if target is None:
            continue
        if not target:
            unusable.append(name)
            continue
        columns.append(_column(place, target, schema))
    if unusable:
        raise _unusable(header, unusable, schema)
    return columns


def _target(name: str, schema: Schema, wishes: Wishes) -> str | None:
    """Return where a column goes, None for nowhere, and an empty text if that cannot be known."""
    if name in wishes.mapping:
        return wishes.mapping[name]
    if wishes.is_envelope:
        if name in _TARGETS_OF_METADATA:
            return _TARGETS_OF_METADATA[name]
        if name in METADATA:
            return None
        return name.removeprefix(f"{DATA}.") if name.startswith(f"{DATA}.") else ""
    if subschema(schema, (name,)) is not None or subschema(schema, tuple(name.split("."))) is not None:
        return name
    is_plausible = all(_FIELD.fullmatch(part) for part in name.split("."))
    return name if is_plausible and not _likeness(name, schema) else ""


def _column(place: int, target: str, schema: Schema) -> Column:
    if target in SPECIAL or target == _REMAINDER:
        return Column(place, target, (), "string", f"/{target[1:]}" if target in SPECIAL else "")
    # A declared name may hold a dot itself; else a dot leads into an object.
    path = (target,) if subschema(schema, (target,)) is not None else tuple(target.split("."))
    declared = subschema(schema, path)
    shown = [
        name if subschema(schema, path[: depth + 1]) is not None else OTHER_NAME
        for depth, name in enumerate(path)
    ]
    return Column(place, target, path, kind_of(declared), json_pointer(shown))


def _check_fields(
    header: Sequence[str], columns: Sequence[Column], schema: Schema, *, is_strict: bool
) -> None:
    targets = [column.target if column.target in SPECIAL else column.path for column in columns]
    names = {target: header[column.place] for target, column in zip(targets, columns, strict=True)}
    for column, target in zip(columns, targets, strict=True):
        lengths = range(1, len(column.path))
        inside = next((column.path[:n] for n in lengths if column.path[:n] in names), target)
        if names[inside] != header[column.place]:
            both = _listed([names[inside], header[column.place]])
            raise Failure(
                f"Two columns go to the same place: {both}.",
                next_step="Map one of them to another field with --map, or leave it out with --drop.",
            )
    properties = schema.get("properties")
    declared = properties if isinstance(properties, Mapping) else {}
    fields = {column.path[0] for column in columns if column.path}
    if any(column.target == _REMAINDER for column in columns):
        fields |= {*declared}
    missing = [name for name in schema.get("required", ()) if name not in fields]
    if missing:
        raise Failure(
            f"The collection demands {_listed(missing)}, and no column becomes that.",
            details=_shown(header),
            next_step=f"Say which one it is: {_map_hint('COLUMN', missing[0])}",
        )
    foreign = [header[column.place] for column in columns if column.path and column.path[0] not in declared]
    if is_strict and foreign:
        raise Failure(
            f"The collection allows no other fields than those it declares, and these columns are none: {_listed(foreign)}.",
            next_step=_drop_or_map(foreign[0], sorted(declared)),
        )


def _unusable(header: Sequence[str], unusable: Sequence[str], schema: Schema) -> Failure:
    if not _is_header(header):
        return Failure(
            _NO_HEADER, next_step="Write the names of the columns into the first line of the file."
        )
    hints = " ".join(_map_hint(name, _likeness(name, schema) or _suggested(name)) for name in unusable)
    return Failure(
        f"These columns are not named like a field of the collection: {_listed(unusable)}.",
        details=_shown(header),
        next_step=f"Say what they become, for example {hints}; or leave a column out with --drop COLUMN."
        + (" Is --delimiter right?" if len(header) == 1 else ""),
    )


_NO_HEADER = "The first line does not look like a header: it has names of columns, and no values."


def _is_header(header: Sequence[str]) -> bool:
    # If it is a person's row instead, no error message may show it.
    return not any(_DATA_LIKE.search(name) for name in header)


def _likeness(name: str, schema: Schema) -> str:
    """Return the declared field that a column is probably meant to be: ``E-Mail`` is ``email``."""
    properties = schema.get("properties")
    folded = _folded(name)
    return next((str(field) for field in properties or () if _folded(str(field)) == folded), "")


def _folded(name: str) -> str:
    return re.sub(r"[\W_]", "", name).casefold()


def _suggested(name: str) -> str:
    return re.sub(r"\W+", "_", name.strip()).strip("_").lower().lstrip("0123456789_") or "FIELD"


def _map_hint(name: str, target: str) -> str:
    return f"--map {shlex.quote(f'{name}={target}')}"


def _drop_or_map(name: str, declared: Sequence[str]) -> str:
    return f"Leave one out with --drop {shlex.quote(name)}, or map it to one of: {_listed(declared)}."


def _shown(header: Sequence[str]) -> tuple[str, ...]:
    return (f"Columns: {_listed(header)}",) if _is_header(header) else ()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name[:_MOST_SHOWN]}'" for name in names)
