"""What a cell of a table becomes: the collection's schema decides, and a cell that is written comes back as it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, Literal, TypeAlias

from vault.core.documents import dump_json, parse_json
from vault.core.errors import VaultError

Kind: TypeAlias = Literal["string", "integer", "number", "boolean", "json"]
Schema: TypeAlias = Mapping[str, Any]

_INTEGER = re.compile(r"[+-]?[0-9]{1,1000}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,1000}(\.[0-9]{1,1000})?([eE][+-]?[0-9]{1,4})?", re.ASCII)
_BOOLEANS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_MAX_REFERENCES = 32


def subschema(schema: Schema, path: tuple[str, ...]) -> Schema | None:
    """Return what a schema says about the field at a path, or None if it does not declare it.

    Only ``properties`` and references inside the document are followed: what stands under ``anyOf`` or ``if`` is for
    the server to judge, and its cells stay text.
    """
    current: Any = schema
    for name in path:
        current = _referred(schema, current)
        properties = current.get("properties") if isinstance(current, Mapping) else None
        if not isinstance(properties, Mapping) or name not in properties:
            return None
        current = properties[name]
    current = _referred(schema, current)
    return current if isinstance(current, Mapping) else {}


def _referred(schema: Schema, current: Any) -> Any:
    for _ in range(_MAX_REFERENCES):
        reference = current.get("$ref") if isinstance(current, Mapping) else None
        if not isinstance(reference, str) or not (reference + "/").startswith("#/"):
            break
        found: Any = schema
        for segment in reference.split("/")[1:]:
            name = segment.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, Mapping) else None
        current = found
    return current


def kind_of(declared: Schema | None) -> Kind:
    """Return what the cells of a field become; text where the schema allows text or says nothing."""
    types = (declared or {}).get("type")
    names = [types] if isinstance(types, str) else types if isinstance(types, list) else []
    kinds: tuple[Kind, ...] = ("string", "number", "integer", "boolean")
    found = next((kind for kind in kinds if kind in names), None)
    if found is not None:
        return found
    return "json" if "array" in names or "object" in names else "string"


def value_of(cell: str, kind: Kind) -> Any:
    """Return the value that a cell stands for.

    Raises:
        ValueError: it stands for none of this kind; the message does not hold it.
    """
    if kind == "string":
        return cell
    text = cell.strip()
    if kind == "json":
        try:
            return parse_json(text.encode())
        except (VaultError, UnicodeEncodeError):
            raise ValueError("not JSON") from None
    if kind == "boolean":
        if text.lower() not in _BOOLEANS:
            raise ValueError("not a boolean")
        return _BOOLEANS[text.lower()]
    if _INTEGER.fullmatch(text):
        return int(text)
    if kind == "integer" or not _NUMBER.fullmatch(text):
        raise ValueError(f"not of the kind {kind}")
    return Decimal(text)


def cell_of(value: Any, kind: Kind) -> str | None:
    """Return the cell that is read as exactly this value again, or None if no cell of this kind is."""
    if isinstance(value, str):
        cell = value if kind == "string" else dump_json(value).decode()
    elif value is None or isinstance(value, bool | int | Decimal | dict | list):
        cell = dump_json(value).decode()
    else:
        return None
    if not cell:
        return None
    try:
        again = value_of(cell, kind)
    except ValueError:
        return None
    # 1, 1.0 and true are equal for Python, and three different things in a document.
    return cell if dump_json(again) == dump_json(value) else None
