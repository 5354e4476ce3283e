"""What the end-to-end tests share: new collections and people, and the proof that a refusal changed nothing."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api, Server

# Every table whose rows carry a MAC over all their columns: same ids and MACs, same content.
_TABLES = (
    "record",
    "record_history",
    "index_entry",
    "collection",
    "collection_schema",
    "keyring",
    "key_version",
    "stored_key",
    "principal",
    "credential",
)


def _content(server: Server) -> dict[str, Any]:
    return {table: server.rows(f"SELECT id, mac FROM {table} ORDER BY id") for table in _TABLES}  # noqa: S608


@pytest.fixture
def unchanged(server: Server) -> Callable[..., AbstractContextManager[None]]:
    """Asserts that the shared server's stored rows stay as they are, and that one entry says who was refused what.

    ``with unchanged("record.create", "malformed-body"): api.post(...)``; with no action, no entry is written.
    """

    @contextlib.contextmanager
    def check(
        action: str | None = None, reason: str | None = None, result: str = "refused"
    ) -> Iterator[None]:
        before = _content(server)
        ((last,),) = server.rows("SELECT max(id) FROM audit_entry")
        yield
        assert _content(server) == before
        # Without those that nobody was authenticated for: they come when their minute is over.
        entries = server.rows(
            "SELECT action, result, reason, principal FROM audit_entry "
            "WHERE id > ? AND principal IS NOT NULL ORDER BY id",
            (last,),
        )
        assert entries == ([] if action is None else [(action, result, reason, "admin")])

    return check


@pytest.fixture
def define(api: Api) -> Callable[..., str]:
    """Makes a collection of its own for a test: ``define({"email": {...}}, required=[...], history=2)``; its name."""

    def make(
        properties: dict[str, Any] | None = None, required: tuple[str, ...] = (), **settings: Any
    ) -> str:
        name = f"c{uuid.uuid4().hex[:12]}"
        schema = {"type": "object", "properties": properties or {}, "required": list(required)}
        api.put(f"/v1/collections/{name}", {"schema": schema, "settings": settings}).gives(201)
        return name

    return make


@pytest.fixture
def email() -> str:
    """An e-mail address that no other test uses."""
    return f"anna.{uuid.uuid4().hex[:12]}@example.com"
