"""Who calls: from the Authorization header to a caller, once per request."""

from __future__ import annotations

import uuid
from dataclasses import replace

from flask import g, request

from vault.api.services import Services
from vault.core.errors import NotAuthenticatedError
from vault.core.policy import Caller, check_purpose

REQUEST_ID = "strongroom.request_id"
"""Where the id stands in the WSGI environment; no header of a request can have this name."""
_BEARER = "bearer"


def request_id() -> str:
    """The id of this request, made on first use."""
    if "request_id" not in g:
        g.request_id = request.environ.get(REQUEST_ID) or uuid.uuid4().hex
    text: str = g.request_id
    return text


def peer_address() -> str:
    """The network address of the peer; forwarding headers are not believed."""
    return request.remote_addr or "unknown"


def authenticate(services: Services) -> None:
    """Find the caller and keep it for the request.

    Raises:
        NotAuthenticatedError: no credential, or none that counts.
        UnprocessableError: the purpose has not the documented form.
    """
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    if not scheme:
        raise NotAuthenticatedError("missing")
    if scheme.lower() != _BEARER:
        raise NotAuthenticatedError("malformed")
    credential, principal = services.authentication.authenticate(text.strip())
    g.caller = Caller(
        tenant=credential.tenant,
        principal=principal.name,
        credential=credential.credential_id.hex(),
        role=principal.role,
        purpose=None,
        request_id=request_id(),
        address=peer_address(),
    )
    purpose = request.headers.get("Strongroom-Purpose")
    if purpose is not None:
        g.caller = replace(g.caller, purpose=check_purpose(purpose))


def current_caller() -> Caller:
    """The caller of this request; every view behind the credential has one."""
    caller: Caller = g.caller
    return caller


def known_caller() -> Caller | None:
    """The caller if the request got that far."""
    caller: Caller | None = g.get("caller")
    return caller
