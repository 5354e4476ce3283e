"""The header Idempotency-Key: read where it has an effect, refused where it would have none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flask import request

from vault.api.services import Services
from vault.core.idempotency import Claim, RequestName, check_key, refused_key
from vault.core.policy import Caller

HEADER = "Idempotency-Key"
REPLAYED_HEADER = "Idempotency-Replayed"


def key_header() -> str | None:
    """The request's key, or None."""
    return request.headers.get(HEADER)


def check_key_has_effect(*, takes_key: bool) -> None:
    """Refuse a key where nothing would be protected by it.

    Raises:
        UnprocessableError: ``idempotency-key``; the route takes none, or the key is malformed.
    """
    key = key_header()
    if key is None:
        return
    if not takes_key:
        raise refused_key(
            "Idempotency-Key is for POST .../records and .../records/bulk. PUT and DELETE may be sent again as they "
            "are, PATCH with If-Match, and everything that reads at any time."
        )
    check_key(key)


@contextmanager
def claimed(
    services: Services, caller: Caller, bodies: Sequence[Any], *, mark: int = 0
) -> Iterator[Claim | None]:
    """Hold the request's key while it is carried out; None if it has none.

    Raises:
        InFlightError: a twin of the request is being carried out.
    """
    key = key_header()
    if key is None:
        yield None
        return
    name = RequestName(request.method, request.path, key)
    with services.idempotency.claim(caller, name, bodies, mark=mark) as claim:
        yield claim
