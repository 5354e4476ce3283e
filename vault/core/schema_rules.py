"""What a record type's JSON Schema may say, checked when it is defined.

The walk here knows which keywords hold schemas, which hold names and which hold data, so that a property may be
called ``$ref`` and a ``default`` may hold ``x-mask``. What it does not reach is no schema: a reference into it is
refused, and so nothing is ever evaluated that these rules have not seen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeAlias
from urllib.parse import unquote

from vault.core.documents import MAX_DEPTH
from vault.core.errors import Violation
from vault.core.pointers import json_pointer

DRAFT = "https://json-schema.org/draft/2020-12/schema"
"""The one dialect."""

MAX_PATTERNS = 64
"""``pattern`` keywords and ``patternProperties`` members; each may take memory when it is compiled."""

MAX_EXPANDED_SUBSCHEMAS = 10_000
"""Subschemas that a validation can visit when every reference is followed.

Ten definitions that each refer twice to the next are a thousand visits, forty are a trillion.
"""

MAX_EXPANDED_DEPTH = 4 * MAX_DEPTH
"""How deep subschemas nest when every reference is followed."""

Location: TypeAlias = tuple[str, ...]
"""Where a subschema stands: the unescaped segments of its pointer."""

OUR_KEYWORDS: Mapping[str, frozenset[str]] = {
    "x-index": frozenset({"unique", "lookup"}),
    "x-normalize": frozenset({"email", "phone", "login", "text"}),
    "x-mask": frozenset({"email", "phone", "last4", "all", "none"}),
    "x-index-leak": frozenset({"accepted"}),
}
"""The keywords of ours and the values they take."""

DATA_KEYWORDS = frozenset({"enum", "const", "default", "examples"})
"""Keywords that hold data, in which nothing is a keyword."""

_HOLDS_SCHEMA = frozenset(
    {
        "additionalProperties",
        "contains",
        "contentSchema",
        "else",
        "if",
        "items",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
    },
)
_HOLDS_LIST = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_DEFINITIONS = frozenset({"$defs", "definitions"})
_HOLDS_NAMED = (
    frozenset({"dependencies", "dependentSchemas", "patternProperties", "properties"}) | _DEFINITIONS
)
# A second base address would make "#" mean something else than this document; $vocabulary could switch rules off.
_REFUSED = frozenset({"$id", "$vocabulary", "$recursiveRef", "$recursiveAnchor"})
_REFERENCES = ("$ref", "$dynamicRef")
_ANCHORS = ("$anchor", "$dynamicAnchor")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_GUESSABLE_FORMATS = frozenset({"date", "date-time", "time"})


def subschemas(schema: Any, *, at: Location = ()) -> Iterator[tuple[Location, Any]]:
    """Yield the schema and every subschema in it with its location, outermost first; no recursion."""
    waiting: list[tuple[Location, Any]] = [(at, schema)]
    while waiting:
        location, subschema = waiting.pop()
        yield location, subschema
        if isinstance(subschema, dict):
            waiting.extend((location + step, child) for step, child in children(subschema))


def children(subschema: Mapping[str, Any]) -> Iterator[tuple[Location, Any]]:
    """Yield the schemas directly inside a schema with the one or two segments that lead to each."""
    for keyword, value in subschema.items():
        if keyword in _HOLDS_SCHEMA:
            yield (keyword,), value
        elif keyword in _HOLDS_LIST and isinstance(value, list):
            yield from (((keyword, str(index)), child) for index, child in enumerate(value))
        elif keyword in _HOLDS_NAMED and isinstance(value, dict):
            # The old "dependencies" mixes schemas with lists of names.
            yield from (
                ((keyword, name), child) for name, child in value.items() if not isinstance(child, list)
            )


def declared_names(schema: Any) -> frozenset[str]:
    """Return every name that stands under a ``properties`` keyword, on any level."""
    return frozenset(
        name
        for _, subschema in subschemas(schema)
        if isinstance(subschema, dict)
        for name in subschema.get("properties", ())
    )


def broken_rules(schema: dict[str, Any]) -> list[Violation]:
    """Return what is wrong with a schema, beyond the rules of JSON Schema itself.

    Args:
        schema: valid by the meta-schema of draft 2020-12, at most ``MAX_DEPTH`` levels deep.

    Returns:
        Violations with pointers into the schema; empty if it may be compiled.
    """
    violations = list(_top_level(schema))
    nodes = dict(subschemas(schema))
    for location, subschema in nodes.items():
        if isinstance(subschema, dict):
            violations.extend(_keywords(location, subschema))
    violations.extend(_pattern_count(nodes))
    graph = _ReferenceGraph.build(nodes)
    violations.extend(graph.violations)
    if not graph.violations:
        violations.extend(_expansion(graph.edges))
    if violations:
        # What follows walks what each field refers to, which for a schema that is refused already can take long.
        return violations
    properties = schema.get("properties", {})
    for name, subschema in properties.items():
        if isinstance(subschema, dict):
            reached = [nodes[each] for each in graph.reachable(("properties", name))]
            violations.extend(_index(name, subschema, reached))
    return violations


def _top_level(schema: Mapping[str, Any]) -> Iterator[Violation]:
    if schema.get("$schema", DRAFT) != DRAFT:
        yield Violation("/$schema", "dialect", f"Leave $schema out, or write {DRAFT}.")
    if schema.get("type") != "object":
        yield Violation("/type", "object", 'A record is an object: write "type": "object" at the top.')


def _keywords(location: Location, subschema: Mapping[str, Any]) -> Iterator[Violation]:
    is_field = len(location) == 2 and location[0] == "properties"  # noqa: PLR2004  ("properties", name)
    for keyword, value in subschema.items():
        pointer = json_pointer((*location, keyword))
        if keyword in _REFUSED or (keyword == "$schema" and location):
            yield Violation(pointer, "keyword", "This keyword is not supported here.")
        elif keyword.startswith("x-") and keyword not in OUR_KEYWORDS:
            yield Violation(
                pointer, "keyword", "Known x- keywords are: " + ", ".join(sorted(OUR_KEYWORDS)) + "."
            )
        elif keyword in OUR_KEYWORDS and not is_field:
            # Somewhere else it would silently do nothing, and a mask that does nothing is a leak.
            yield Violation(pointer, "keyword", "This keyword works on top-level properties only.")
        elif keyword in OUR_KEYWORDS and not (isinstance(value, str) and value in OUR_KEYWORDS[keyword]):
            yield Violation(
                pointer, keyword, "Write one of: " + ", ".join(sorted(OUR_KEYWORDS[keyword])) + "."
            )
        elif keyword == "properties":
            yield from _names(location, value)


def _names(location: Location, properties: Mapping[str, Any]) -> Iterator[Violation]:
    for name in properties:
        if not _NAME.fullmatch(name):
            # Declared names go to logs and metrics as they are.
            detail = "Property names have 1 to 64 characters out of A-Z a-z 0-9 _ . and -."
            yield Violation(json_pointer((*location, "properties", name)), "name", detail)


def _pattern_count(nodes: Mapping[Location, Any]) -> Iterator[Violation]:
    count = sum(
        ("pattern" in subschema) + len(subschema.get("patternProperties", ()))
        for subschema in nodes.values()
        if isinstance(subschema, dict)
    )
    if count > MAX_PATTERNS:
        yield Violation("", "patterns", f"A schema has at most {MAX_PATTERNS} patterns.")


@dataclass(frozen=True, slots=True)
class _ReferenceGraph:
    """Which subschema evaluates which others: those inside it (definitions left out) and those it refers to."""

    edges: Mapping[Location, Sequence[Location]]
    violations: Sequence[Violation]

    @classmethod
    def build(cls, nodes: Mapping[Location, Any]) -> _ReferenceGraph:
        anchors, violations = _anchors(nodes)
        edges: dict[Location, list[Location]] = {}
        for location, subschema in nodes.items():
            edges[location] = []
            if not isinstance(subschema, dict):
                continue
            edges[location] += [
                location + step for step, _ in children(subschema) if step[0] not in _DEFINITIONS
            ]
            for keyword in _REFERENCES:
                if keyword in subschema:
                    target = _target(subschema[keyword], anchors)
                    if target is not None and _may_be_target(target, nodes):
                        edges[location].append(target)
                    else:
                        detail = 'Refer to a schema inside this document, best "#/$defs/NAME", that has no x- keywords.'
                        violations.append(Violation(json_pointer((*location, keyword)), "reference", detail))
        return cls(edges, violations)

    def reachable(self, start: Location) -> set[Location]:
        seen = {start}
        waiting = [start]
        while waiting:
            fresh = [each for each in self.edges[waiting.pop()] if each not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
        return seen


def _anchors(nodes: Mapping[Location, Any]) -> tuple[dict[str, Location], list[Violation]]:
    anchors: dict[str, Location] = {}
    violations = []
    for location, subschema in nodes.items():
        for keyword in _ANCHORS:
            if not isinstance(subschema, dict) or keyword not in subschema:
                continue
            if anchors.setdefault(subschema[keyword], location) != location:
                # Which of two a reference means could differ between this walk and the validator.
                pointer = json_pointer((*location, keyword))
                violations.append(Violation(pointer, "reference", "An anchor stands once in a schema."))
    return anchors, violations


def _target(reference: str, anchors: Mapping[str, Location]) -> Location | None:
    if not reference.startswith("#"):
        return None
    fragment = unquote(reference[1:])
    if not fragment:
        return ()
    if fragment.startswith("/"):
        return tuple(part.replace("~1", "/").replace("~0", "~") for part in fragment[1:].split("/"))
    return anchors.get(fragment)


def _may_be_target(target: Location, nodes: Mapping[Location, Any]) -> bool:
    if target not in nodes:
        return False
    subschema = nodes[target]
    # The mask or index would not come along to the place that refers.
    return not isinstance(subschema, dict) or not OUR_KEYWORDS.keys() & subschema.keys()


def _expansion(edges: Mapping[Location, Sequence[Location]]) -> Iterator[Violation]:
    try:
        order = list(TopologicalSorter(edges).static_order())
    except CycleError as error:
        # jsonschema-rs lists the errors of a recursive schema in time exponential in the document's depth.
        pointer = json_pointer(error.args[1][0])
        yield Violation(
            pointer, "recursive", "A schema may not refer to itself, not by way of others either."
        )
        return
    visits: dict[Location, int] = {}
    depth: dict[Location, int] = {}
    for location in order:  # what a subschema evaluates comes before it
        visits[location] = 1 + sum(visits[each] for each in edges[location])
        depth[location] = 1 + max((depth[each] for each in edges[location]), default=0)
    if max(visits.values()) > MAX_EXPANDED_SUBSCHEMAS:
        yield Violation(
            "", "expansion", f"With references followed, at most {MAX_EXPANDED_SUBSCHEMAS} subschemas."
        )
    if max(depth.values()) > MAX_EXPANDED_DEPTH:
        yield Violation("", "expansion", f"With references followed, at most {MAX_EXPANDED_DEPTH} levels.")


def _index(name: str, subschema: Mapping[str, Any], reached: Sequence[Any]) -> Iterator[Violation]:
    """Yield what is wrong with a top-level property's index.

    Args:
        name: the property.
        subschema: what the property's schema says itself.
        reached: every subschema that is evaluated on the property's value or inside it.
    """
    if "x-index" not in subschema:
        for keyword in ("x-normalize", "x-index-leak"):
            if keyword in subschema:
                yield Violation(
                    json_pointer(("properties", name, keyword)), keyword, "This needs x-index beside it."
                )
        return
    pointer = json_pointer(("properties", name, "x-index"))
    types = subschema.get("type")
    if not (
        types == "string"
        or (isinstance(types, list) and "string" in types and {*types} <= {"string", "null"})
    ):
        detail = 'Only strings are indexed: write "type": "string" or ["string", "null"] beside x-index.'
        yield Violation(pointer, "index-type", detail)
    if subschema.get("x-index-leak") != "accepted" and any(map(_is_guessable, reached)):
        detail = "Few values are possible here, so an index shows who shares one; write x-index-leak: accepted to have it."
        yield Violation(pointer, "index-leak", detail)


def _is_guessable(subschema: Any) -> bool:
    if not isinstance(subschema, dict):
        return False
    return "enum" in subschema or "const" in subschema or subschema.get("format") in _GUESSABLE_FORMATS
