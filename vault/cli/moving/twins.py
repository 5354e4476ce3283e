"""Values that stand twice in one file: what a dry run cannot hear from a server that stores nothing."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from vault.cli.moving.entries import NewRecord, Refusal
from vault.cli.moving.sending import Outcome
from vault.core.normalise import NormaliseError, normaliser
from vault.core.pointers import json_pointer

_TABLE = "CREATE TABLE seen (field INTEGER, tag BLOB, PRIMARY KEY (field, tag)) WITHOUT ROWID"


class Twins:
    """Remembers the unique values of the records that would be stored; use it as a context manager.

    Args:
        schema: the collection's.
        default_region: of telephone numbers in the collection.

    Security: kept are keyed hashes, under a random key that is nowhere but in memory, in a database without a name
        that goes with the process. Values are compared in their normal form, as the vault compares them.
    """

    def __init__(self, schema: Mapping[str, Any], default_region: str | None) -> None:
        properties = schema.get("properties") or {}
        self._fields = [
            (name, rules.get("x-normalize", "text"))
            for name, rules in properties.items()
            if isinstance(rules, Mapping) and rules.get("x-index") == "unique"
        ]
        self._default_region = default_region
        self._key = secrets.token_bytes(32)
        # An empty name: a file of its own only when there is much, and never with a name.
        self._seen = sqlite3.connect("", isolation_level=None)
        self._seen.execute("PRAGMA journal_mode = off")
        self._seen.execute(_TABLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seen.close()

    def judged(self, outcome: Outcome) -> Outcome:
        """Return the outcome as the import itself would have it: refused if an earlier record has a value."""
        record = outcome.entry.record
        if record is None or outcome.refusals:
            return outcome
        refusals = self._refusals(record)
        return Outcome(outcome.entry, refusals=refusals) if refusals else outcome

    def _refusals(self, record: NewRecord) -> tuple[Refusal, ...]:
        tags = list(self._tags(record))
        taken = tuple(
            Refusal(json_pointer([self._fields[field][0]]), "duplicate")
            for field, tag in tags
            if self._seen.execute("SELECT 1 FROM seen WHERE field = ? AND tag = ?", (field, tag)).fetchone()
        )
        if not taken:
            self._seen.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", tags)
        return taken

    def _tags(self, record: NewRecord) -> list[tuple[int, bytes]]:
        region = record.region or self._default_region
        tags = []
        for number, (name, normal_form) in enumerate(self._fields):
            value = record.data.get(name)
            if not isinstance(value, str):
                continue
            try:
                normal = normaliser(normal_form).normalise(value, region=region)
            except (NormaliseError, KeyError):
                continue  # the server has let it through, so this is another release's rule
            tags.append((number, hmac.digest(self._key, normal.encode(), hashlib.sha256)[:16]))
        return tags
