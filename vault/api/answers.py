"""Writing answers: core's values as JSON bytes."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flask import Response

from vault.api.bodies import JSON, etag_text
from vault.core.clock import to_text
from vault.core.documents import dump_json
from vault.core.releases import ShownRecord
from vault.core.rows import RecordRow


def answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Render a JSON answer."""
    return Response(dump_json(body), status=status, headers=headers, content_type=JSON)


def nothing() -> Response:
    """Render 204: done, and nothing to say."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


def metadata(row: RecordRow) -> dict[str, Any]:
    """What is known of a record without opening it."""
    return {
        "token": str(UUID(bytes=row.token)),
        "collection": row.collection,
        "generation": row.generation,
        "schema_version": row.schema_version,
        "created_at": to_text(row.created_at),
        "updated_at": to_text(row.updated_at),
        "expires_at": moment(row.expires_at),
    }


def record(shown: ShownRecord) -> dict[str, Any]:
    """A record with its document."""
    return metadata(shown.row) | {
        "data": shown.data,
        "reveal": "plain" if shown.view.plain else "masked",
        "masked": shown.masked,
    }


def etag(row: RecordRow) -> dict[str, str]:
    """The ETag header of a record."""
    return {"ETag": etag_text(row.write_id)}


def moment(value: int | None) -> str | None:
    """A time as RFC 3339, or null."""
    return None if value is None else to_text(value)
