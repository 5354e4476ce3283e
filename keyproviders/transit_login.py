"""Getting and keeping a token of the transit server."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from keyproviders.errors import ProviderCredentialError, ProviderUnavailableError
from keyproviders.interface import SecretBytes
from keyproviders.transit_options import AppRole, StaticToken, TransitOptions
from keyproviders.transit_wire import Answer, TransitWire

__all__ = ["Token", "credential", "is_accepted", "log_in", "renew", "revoke"]

# A token is renewed when this much of its time is over, so that a server that is away for a while does no harm.
_DUE_PART = 2 / 3


@dataclass(frozen=True, slots=True, eq=False)
class Token:
    """A token and how long it lasts, by the monotonic clock.

    Attributes:
        text: what is shown to the server.
        is_ours: we logged in for it, so it ends with us.
        is_renewable: the server said so.
        made_at: when we got it, renewals included.
        lasts_seconds: how long a fresh one lasts; None for ever.
        due_at: when to renew it.
        over_at: when the server forgets it.
    """

    text: SecretBytes = field(repr=False)
    is_ours: bool
    is_renewable: bool
    made_at: float
    lasts_seconds: float | None
    due_at: float
    over_at: float


def credential(options: TransitOptions) -> SecretBytes:
    """Read what we log in with: the secret id or the token.

    Raises:
        ProviderMisconfiguredError: its reference points at nothing.
    """
    return options.auth.secret_id() if isinstance(options.auth, AppRole) else options.auth.token()


def log_in(wire: TransitWire, options: TransitOptions, secret: SecretBytes) -> Token:
    """Get a token: by AppRole, or by proving that a static one is accepted.

    Raises:
        ProviderCredentialError: the server does not accept the credential.
        ProviderUnavailableError: the server cannot say.
    """
    started = time.monotonic()
    match options.auth:
        case AppRole(mount=mount, role_id=role_id):
            body = {"role_id": role_id, "secret_id": secret.reveal().decode()}
            auth = wire.send("POST", f"auth/{mount}/login", body).document.get("auth")
            if not isinstance(auth, Mapping) or not isinstance(auth.get("client_token"), str):
                raise ProviderCredentialError(
                    f"provider {options.provider!r} cannot log in: the server refuses the AppRole at auth/{mount}; "
                    "check role_id, make a new secret id (this one is wrong, expired or used up) and see that its "
                    "networks allow this machine",
                    provider=options.provider,
                )
            return _token(options, SecretBytes(auth["client_token"].encode()), auth, started)
        case StaticToken():
            answer = wire.send("GET", "auth/token/lookup-self", token=secret)
            if answer.status != HTTPStatus.OK:
                raise ProviderCredentialError(
                    f"provider {options.provider!r} has a token that the server does not accept: it is wrong, expired "
                    "or revoked; put a new one in its place",
                    provider=options.provider,
                )
            return _token(options, secret, {**answer.data, "lease_duration": answer.data.get("ttl")}, started)


def renew(wire: TransitWire, options: TransitOptions, token: Token) -> Token | None:
    """Make a token last longer; None if it is better to log in again.

    Raises:
        ProviderUnavailableError: the server cannot say. The token lasts as long as before.
    """
    if not token.is_renewable or token.lasts_seconds is None:
        return None
    started = time.monotonic()
    answer = wire.send("POST", "auth/token/renew-self", {}, token=token.text)
    auth = answer.document.get("auth")
    if answer.status != HTTPStatus.OK or not isinstance(auth, Mapping):
        return None
    renewed = _token(options, token.text, auth, started)
    # Near the end of its longest life each renewal is shorter than the last: better a new one in time.
    if renewed.lasts_seconds is not None and renewed.lasts_seconds < token.lasts_seconds * _DUE_PART:
        return None
    return renewed


def is_accepted(wire: TransitWire, token: Token) -> bool:
    """Ask the server whether it still knows the token: a refusal alone does not say which of both it was."""
    return wire.send("GET", "auth/token/lookup-self", token=token.text).status == HTTPStatus.OK


def revoke(wire: TransitWire, token: Token) -> Answer:
    """End the token at the server."""
    return wire.send("POST", "auth/token/revoke-self", {}, token=token.text)


def _token(options: TransitOptions, text: SecretBytes, auth: Mapping[str, Any], started: float) -> Token:
    seconds = auth.get("lease_duration")
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 0:
        raise ProviderUnavailableError(
            f"the transit server of provider {options.provider!r} answered a login without the time it lasts",
            provider=options.provider,
        )
    lasts = float(seconds) or None
    return Token(
        text=text,
        is_ours=isinstance(options.auth, AppRole),
        is_renewable=auth.get("renewable") is True,
        made_at=started,
        lasts_seconds=lasts,
        due_at=float("inf") if lasts is None else started + lasts * _DUE_PART,
        over_at=float("inf") if lasts is None else started + lasts,
    )
