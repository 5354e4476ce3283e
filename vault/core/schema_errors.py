"""The validator's errors as violations: pointer and keyword, never the value nor a name that nobody declared."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import jsonschema_rs

from vault.core.errors import Violation
from vault.core.pointers import OTHER_NAME, json_pointer

# Keywords whose error stands at an object but is about a member that somebody sent and the schema did not name.
_ABOUT_SENT_NAMES = frozenset({"additionalProperties", "propertyNames", "unevaluatedProperties"})
# Keywords whose number in the schema is worth telling. The number is the schema's, not the document's.
_LIMITS = {
    "exclusiveMaximum": "Must be less than",
    "exclusiveMinimum": "Must be greater than",
    "maxItems": "The most elements:",
    "maxLength": "The most characters:",
    "maxProperties": "The most members:",
    "maximum": "Must be at most",
    "minItems": "The fewest elements:",
    "minLength": "The fewest characters:",
    "minProperties": "The fewest members:",
    "minimum": "Must be at least",
}


def violation_of(error: jsonschema_rs.ValidationError, declared: AbstractSet[str]) -> Violation:
    """Translate one validation error.

    Args:
        error: its messages hold values and names, and are not used.
        declared: names that the schema declares somewhere; others become ``*other``.

    Returns:
        A pointer into the document, the broken keyword (``not-allowed`` for a schema that is ``false``), and a
        sentence from the schema's side where there is one.
    """
    segments = [_shown(segment, declared) for segment in error.instance_path]
    keyword = error.kind.name
    detail = ""
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.Required(property=missing):
            segments.append(_shown(missing, declared))
            detail = "This field is required."
        case jsonschema_rs.ValidationErrorKind.Type(types=types):
            detail = "Must be of type: " + ", ".join(types) + "."
        case jsonschema_rs.ValidationErrorKind.Format(format=name):
            detail = f"Must have the format: {name}."
        case jsonschema_rs.ValidationErrorKind.FalseSchema():
            keyword, detail = "not-allowed", "The schema allows nothing here."
        case kind if keyword in _LIMITS:
            detail = f"{_LIMITS[keyword]} {kind.value}."
        case _ if keyword in _ABOUT_SENT_NAMES:
            segments.append(OTHER_NAME)
        case _:
            pass
    return Violation(json_pointer(segments), keyword, detail)


def _shown(segment: str | int, declared: AbstractSet[str]) -> str | int:
    return segment if isinstance(segment, int) or segment in declared else OTHER_NAME
