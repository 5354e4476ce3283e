"""Lines of JSON to records: a line is the document, or the envelope that an export writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from vault.cli.moving.entries import Refusal, RefusedError, Shape, moment_of
from vault.cli.moving.envelope import DATA, KNOWN, MASKED, value_at
from vault.core.documents import parse_json
from vault.core.errors import MalformedBodyError


def json_shape(*, is_envelope: bool, region: str | None, key: str | None) -> Shape:
    """Return what makes a record of a line.

    Args:
        is_envelope: the document stands under ``data``.
        region: for lines that name none.
        key: the path, with dots, of the customer's own key in the line.
    """
    key_of = _key_reader(key)

    def shape(line: str) -> tuple[dict[str, Any], datetime | None, str | None, str]:
        whole = _object(line)
        if not is_envelope:
            return whole, None, region, key_of(whole)
        return *_opened(whole, region), key_of(whole)

    return shape


def _object(line: str) -> dict[str, Any]:
    try:
        document = parse_json(line.encode())
    except MalformedBodyError as error:
        raise RefusedError(Refusal("", error.violations[0].code)) from None
    except UnicodeEncodeError:
        raise RefusedError(Refusal("", "invalid-unicode")) from None
    if not isinstance(document, dict):
        raise RefusedError(Refusal("", "type"))
    return document


def _opened(
    envelope: dict[str, Any], region: str | None
) -> tuple[dict[str, Any], datetime | None, str | None]:
    if not envelope.keys() <= KNOWN:
        # The name is not told: whoever forgot that a line is no envelope has personal names there.
        raise RefusedError(Refusal("/*other", "unknown-member"))
    if envelope.get(MASKED):
        # To store masks in the place of what they hide would lose it.
        raise RefusedError(Refusal("", "masked-value"))
    data = envelope.get(DATA)
    if not isinstance(data, dict):
        raise RefusedError(Refusal("/data", "required" if data is None else "type"))
    own_region = envelope.get("region")
    if not isinstance(own_region, str | None):
        raise RefusedError(Refusal("/region", "type"))
    return data, _moment(envelope.get("expires_at")), own_region or region


def _moment(value: Any) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise RefusedError(Refusal("/expires_at", "type"))
    return moment_of(value)


def _key_reader(key: str | None) -> Callable[[dict[str, Any]], str]:
    path = tuple((key or "").split("."))

    def read(document: dict[str, Any]) -> str:
        if key is None:
            return ""
        value = value_at(document, path)
        return str(value) if isinstance(value, str | int | Decimal) else ""

    return read
