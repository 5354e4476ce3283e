"""The form in which ``export`` writes a record and ``import --envelope`` reads it: the document with what stands around it."""

from __future__ import annotations

from typing import Any, Final

METADATA: Final = ("token", "generation", "created_at", "updated_at", "expires_at")
"""What an exported record says of itself, in this order; of these an import takes over ``expires_at`` alone."""

DATA: Final = "data"
MASKED: Final = "masked"
KNOWN: Final = frozenset({*METADATA, DATA, MASKED, "region"})
"""Every name that may stand beside ``data``."""


def value_at(document: Any, path: tuple[str, ...]) -> Any:
    """Return what stands at a path in nested objects, or None."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def put_at(document: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Put a value at a path, making the objects on the way.

    Raises:
        ValueError: something that is no object stands on the way.
    """
    *outer, name = path
    for step in outer:
        document = document.setdefault(step, {})
        if not isinstance(document, dict):
            raise ValueError("no object on the way")  # noqa: TRY004 - the callers know one error
    document[name] = value


def merge(target: dict[str, Any], more: dict[str, Any]) -> None:
    """Add the members of another object, object by object; members that both have must be objects in both.

    Raises:
        ValueError: they are not.
    """
    for name, value in more.items():
        present = target.get(name)
        if name not in target:
            target[name] = value
        elif isinstance(present, dict) and isinstance(value, dict):
            merge(present, value)
        else:
            raise ValueError("a member stands in both")
