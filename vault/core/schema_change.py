"""Whether a new version of a record type leaves everything that is stored as it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vault.core.errors import Violation
from vault.core.pointers import json_pointer
from vault.core.schema_rules import children

_ANNOTATIONS = frozenset(
    {
        "$comment",
        "$schema",  # one dialect only, so writing it or not makes no difference
        "default",
        "deprecated",
        "description",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
        "x-mask",
    },
)
_INDEX_KEYWORDS = ("x-index", "x-normalize", "x-index-leak")


def breaking_changes(old: dict[str, Any], new: dict[str, Any]) -> list[Violation]:
    """Return what stands in the way of replacing one schema by another; empty if the change is additive.

    Additive are: new top-level properties that are neither required nor indexed, fewer required fields, and any
    change of annotations and masks. Stored records are not validated again: a new property whose name some of them
    already use freely is checked at their next write.

    Args:
        old: a schema that ``RecordSchema.compile`` took.
        new: another one.

    Returns:
        Violations with pointers into the schemas: code ``index-change`` (also breaking; only reindexing can carry
        it) or ``breaking-change``.
    """
    violations = list(_index_changes(_fields(old), _fields(new)))
    bare_old, bare_new = _bare(old), _bare(new)
    old_properties, new_properties = bare_old.pop("properties", {}), bare_new.pop("properties", {})
    grown = {*bare_new.pop("required", [])} - {*bare_old.pop("required", [])}
    if grown:
        violations.append(Violation("/required", "breaking-change", "A field becomes required."))
    violations.extend(_rule_changes(bare_old, bare_new))
    violations.extend(_property_changes(old_properties, new_properties))
    return violations


def _rule_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Violation]:
    for keyword in dict.fromkeys([*old, *new]):
        if keyword not in old or keyword not in new or not _same(old[keyword], new[keyword]):
            yield Violation(json_pointer((keyword,)), "breaking-change", "The rule changes.")


def _property_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Violation]:
    for name, subschema in old.items():
        pointer = json_pointer(("properties", name))
        if name not in new:
            yield Violation(pointer, "breaking-change", "The property is no longer declared.")
        elif not _same(subschema, new[name]):
            yield Violation(pointer, "breaking-change", "The property's rules change.")


def _fields(schema: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    properties = schema.get("properties", {})
    return {name: subschema if isinstance(subschema, dict) else {} for name, subschema in properties.items()}


def _index_changes(
    old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]
) -> Iterator[Violation]:
    for name in dict.fromkeys([*old, *new]):
        for keyword in _INDEX_KEYWORDS:
            if old.get(name, {}).get(keyword) != new.get(name, {}).get(keyword):
                detail = "The index of a field changes."
                yield Violation(json_pointer(("properties", name, keyword)), "index-change", detail)


def _bare(subschema: Any) -> Any:
    """Return a copy without annotations, masks and index keywords; names and data are left as they are."""
    if not isinstance(subschema, dict):
        return subschema
    bare = {
        keyword: dict(value) if isinstance(value, dict) else list(value) if isinstance(value, list) else value
        for keyword, value in subschema.items()
        if keyword not in _ANNOTATIONS and keyword not in _INDEX_KEYWORDS
    }
    for step, child in children(bare):
        if len(step) == 1:
            bare[step[0]] = _bare(child)
        elif isinstance(held := bare[step[0]], list):
            held[int(step[1])] = _bare(child)
        else:
            held[step[1]] = _bare(child)
    return bare


def _same(old: Any, new: Any) -> bool:
    """Compare JSON values. Python alone would take ``true`` for ``1``, and a rule with it."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old.keys() == new.keys() and all(_same(value, new[name]) for name, value in old.items())
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)
