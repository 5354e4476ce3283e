"""The collection that a new vault starts with."""

from __future__ import annotations

from typing import Any, Final

USERS_SCHEMA: Final[dict[str, Any]] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "users",
    "type": "object",
    "properties": {
        "email": {
            "type": ["string", "null"],
            "x-index": "unique",
            "x-normalize": "email",
            "x-mask": "email",
        },
        "phone": {
            "type": ["string", "null"],
            "x-index": "unique",
            "x-normalize": "phone",
            "x-mask": "phone",
        },
        "login": {
            "type": ["string", "null"],
            "x-index": "unique",
            "x-normalize": "login",
            "x-mask": "all",
        },
    },
}
"""``users``: e-mail, phone and login looked up and unique, as Databunker has it; every other field is free."""
