"""Calls to a transit server by one who is logged in: lazily, once per process, from any thread."""

from __future__ import annotations

import contextlib
import hmac
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from keyproviders.errors import (
    KeyProviderError,
    ProviderCredentialError,
    ProviderDeniedError,
    ProviderUnavailableError,
)
from keyproviders.interface import SecretBytes
from keyproviders.transit_login import Token, credential, is_accepted, log_in, renew, revoke
from keyproviders.transit_options import TransitOptions
from keyproviders.transit_wire import Answer, TransitWire

__all__ = ["TransitSession"]

_log = logging.getLogger(__name__)

# A login that failed for good is not repeated with the same secret for this long: the server counts failures and
# locks the role out, also against the right secret.
_REFUSED_SECONDS = 300.0
# A refused call with a token younger than this is not worth another login: the policies cannot be much newer.
_YOUNG_SECONDS = 30.0
_RENEW_AGAIN_SECONDS = 5.0


class TransitSession:
    """Sends requests with a valid token.

    Args:
        options: where the server is and how to log in.

    Security: each process logs in for itself and has connections of its own. A connection that a fork shares would
        give one process the answer of another, which over plain http nothing notices.
    """

    def __init__(self, options: TransitOptions) -> None:
        self._options = options
        self._by_process: dict[int, _ProcessSession] = {}
        self._is_closed = False

    @property
    def options(self) -> TransitOptions:
        """What it was opened with."""
        return self._options

    def call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, is_repeatable: bool = True
    ) -> Answer:
        """Send a request; after a refusal, once more with a new token.

        Returns:
            An answer of status 200, 204, 400, 404, 405 or 413.

        Raises:
            ProviderUnavailableError: the server cannot answer, or this session was closed.
            ProviderCredentialError: we cannot log in.
            ProviderDeniedError: we are logged in, and our policies do not allow this.
            ProviderMisconfiguredError: TLS trust is wrong, or the credential is no longer where it was.
        """
        self.refuse_if_closed()
        process = self._process()
        token = process.token()
        answer = process.wire.send(method, path, body, token=token.text, is_repeatable=is_repeatable)
        if answer.status == HTTPStatus.FORBIDDEN:
            token = process.token_after_refusal(token, path)
            answer = process.wire.send(method, path, body, token=token.text, is_repeatable=is_repeatable)
            if answer.status == HTTPStatus.FORBIDDEN:
                raise process.denied(path)
        return answer

    def refuse_if_closed(self) -> None:
        """Raise ProviderUnavailableError once the session was closed."""
        if self._is_closed:
            raise ProviderUnavailableError("the provider was closed", provider=self._options.provider)

    def close(self) -> None:
        """End the token that this process logged in for, if the server listens, and the connections."""
        self._is_closed = True
        process = self._by_process.pop(os.getpid(), None)
        if process is not None:
            process.close()

    def _process(self) -> _ProcessSession:
        pid = os.getpid()
        found = self._by_process.get(pid)
        if found is None:
            # No lock that a fork could leave locked: of two threads that come first, one makes it for nothing.
            found = self._by_process.setdefault(pid, _ProcessSession(self._options))
        return found


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A credential that the server does not accept, and until when we believe that."""

    secret: SecretBytes
    error: ProviderCredentialError
    until: float


class _ProcessSession:
    def __init__(self, options: TransitOptions) -> None:
        self.wire = TransitWire(options)
        self._options = options
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._logins = 0
        self._failure: KeyProviderError | None = None
        self._refusal: _Refusal | None = None

    def token(self) -> Token:
        """Return a token that should still be valid."""
        token, now = self._token, time.monotonic()
        if token is None or now >= token.over_at:
            return self._login_in_place_of(token)
        # One thread renews; the others go on with what still works.
        if now >= token.due_at and self._lock.acquire(blocking=False):
            try:
                if self._token is token:
                    self._token = self._renewed(token)
            finally:
                self._lock.release()
        return self._token or token

    def token_after_refusal(self, token: Token, path: str) -> Token:
        """Return a newer token than the one that was refused; raise if that cannot help."""
        newest = self._token
        if newest is not None and newest is not token:
            return newest
        is_young = time.monotonic() - token.made_at < _YOUNG_SECONDS
        if (is_young or not token.is_ours) and is_accepted(self.wire, token):
            raise self.denied(path)
        return self._login_in_place_of(token)

    def denied(self, path: str) -> ProviderDeniedError:
        return ProviderDeniedError(
            f"provider {self._options.provider!r} is logged in, and its policies do not allow {path}; "
            "compare them with: strongroom keys policy",
            provider=self._options.provider,
        )

    def close(self) -> None:
        token, self._token = self._token, None
        if token is not None and token.is_ours:
            with contextlib.suppress(KeyProviderError):  # it ends by itself in any case
                revoke(self.wire, token)
        self.wire.close()

    def _login_in_place_of(self, old: Token | None) -> Token:
        seen = self._logins
        with self._lock:
            if self._token is not None and self._token is not old:
                return self._token
            if self._failure is not None and self._logins != seen:
                # Whoever waited for this login shares its end, or each in turn would wait for a silent server.
                raise _again(self._failure)
            self._logins += 1
            try:
                self._token = self._log_in()
            except KeyProviderError as error:
                self._failure = error
                raise
            self._failure = None
            return self._token

    def _log_in(self) -> Token:
        secret = credential(self._options)
        refusal = self._refusal
        if (
            refusal is not None
            and time.monotonic() < refusal.until
            and hmac.compare_digest(secret.reveal(), refusal.secret.reveal())
        ):
            raise _again(refusal.error)
        try:
            token = log_in(self.wire, self._options, secret)
        except ProviderCredentialError as error:
            self._refusal = _Refusal(secret, error, time.monotonic() + _REFUSED_SECONDS)
            raise
        self._refusal = None
        return token

    def _renewed(self, token: Token) -> Token:
        try:
            renewed = renew(self.wire, self._options, token)
            if renewed is None:
                renewed = self._log_in()
        except KeyProviderError as error:
            _log.warning("the token is not renewed yet, and goes on until its end: %s", error)
            renewed = token
        # Never more often than this, also where the server gives out seconds only.
        return replace(renewed, due_at=max(renewed.due_at, time.monotonic() + _RENEW_AGAIN_SECONDS))


def _again(error: KeyProviderError) -> KeyProviderError:
    """Make the same error for another thread, without the frames of the first."""
    return type(error)(str(error), provider=error.provider)
