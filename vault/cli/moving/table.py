"""Records as rows of a table, so that nothing is lost on the way: what no cell can hold stands as JSON in the last one."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vault.cli.moving.envelope import DATA, MASKED, METADATA, value_at
from vault.cli.moving.kinds import Kind, Schema, cell_of, kind_of, subschema
from vault.cli.moving.outputs import csv_line
from vault.core.documents import dump_json

# A schema may refer to itself, and then has no end.
_DEEPEST = 4
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class Table:
    """The columns of an export: metadata, the fields that the schema declares, and ``data`` for all the rest.

    Args:
        schema: the collection's.
        fields: only these; all if None.
        is_masked: values are masks, which no import takes back: so they need not be told apart from text.
        is_spreadsheet: put an apostrophe before what a spreadsheet would take for a formula.

    Attributes:
        formulas: how many cells begin like a formula, and stand as they are.
    """

    def __init__(
        self, schema: Schema, fields: Sequence[str] | None, *, is_masked: bool, is_spreadsheet: bool
    ) -> None:
        self._leaves: list[tuple[tuple[str, ...], Kind]] = [
            (path, kind_of(subschema(schema, path)))
            for path in _leaves(schema, ())
            if fields is None or path[0] in fields
        ]
        declared = {path[0] for path, _ in self._leaves}
        self._leaves += [
            ((name,), "string") for name in fields or () if name not in declared and "." not in name
        ]
        self._is_masked = is_masked
        self._is_spreadsheet = is_spreadsheet
        self.formulas = 0

    def heading(self) -> str:
        """Return the first line."""
        names = [f"{DATA}.{'.'.join(path)}" for path, _ in self._leaves]
        return csv_line([*METADATA, *([MASKED] if self._is_masked else []), *names, DATA])

    def row(self, document: Mapping[str, Any]) -> str:
        """Return the line of one record.

        Args:
            document: as ``envelope`` has it, times as text.
        """
        rest = copy.deepcopy(document[DATA])
        cells = [_text(document[name]) for name in METADATA]
        if self._is_masked:
            cells.append(" ".join(document.get(MASKED, ())))
        cells += [self._cell(rest, path, kind) for path, kind in self._leaves]
        cells.append(dump_json(rest).decode() if rest else "")
        return csv_line([self._guarded(cell) for cell in cells])

    def _cell(self, rest: dict[str, Any], path: tuple[str, ...], kind: Kind) -> str:
        """Return the cell of a field and take the field out of the rest, if a cell can hold it."""
        value = value_at(rest, path)
        if self._is_masked and isinstance(value, str):
            cell: str | None = value
        else:
            cell = cell_of(value, kind)
        if cell is None or value is None:
            return ""
        _take_out(rest, path)
        return cell

    def _guarded(self, cell: str) -> str:
        if not cell.startswith(_FORMULA_STARTS):
            return cell
        if self._is_spreadsheet:
            return f"'{cell}"
        # A telephone number or a negative amount begins so, too, and is harmless.
        if not cell[1:].replace(" ", "").replace(".", "").isdigit():
            self.formulas += 1
        return cell


def _leaves(schema: Schema, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    declared = subschema(schema, path) or {}
    properties = declared.get("properties")
    if not isinstance(properties, Mapping) or not properties:
        if path:
            yield path
        return
    for name in properties:
        # A name with a dot, or an empty one, would be read as another path: such fields stay with the rest.
        if name and "." not in name and len(path) < _DEEPEST:
            yield from _leaves(schema, (*path, name))


def _take_out(document: dict[str, Any], path: tuple[str, ...]) -> None:
    *outer, name = path
    holders = [document]
    for step in outer:
        holders.append(holders[-1][step])
    del holders[-1][name]
    # An object that was emptied this way comes back with its cells; one that was empty before is left alone.
    for step, holder in zip(reversed(outer), reversed(holders[:-1]), strict=True):
        if holder[step]:
            break
        del holder[step]


def _text(value: Any) -> str:
    return "" if value is None else str(value)
