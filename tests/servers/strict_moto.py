"""moto's KMS behind the rules that it leaves out: run as ``python strict_moto.py PORT``.

moto lets disabled keys and keys that wait for deletion work, and does not compare the key that a caller names with the
one that wrapped. AWS documents that it refuses all three, so this stand-in does. It also makes bad weather: PUT
``/weather`` with ``fair``, ``away`` (HTTP 503), ``slow``, ``throttled``, ``denied`` or one of the ``LIES``.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

from moto.backends import get_backend
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

ACCOUNT, REGION = "123456789012", "eu-central-1"
LIES = {
    "empty": b"",
    "html": b"<html>It works!</html>",
    "list": b"[1, 2]",
    "object": b"{}",
    "short": b'{"Plaintext": "AAAA", "CiphertextBlob": ""}',
    "not-base64": b'{"Plaintext": "*", "CiphertextBlob": "*"}',
    "null": b'{"Plaintext": null, "CiphertextBlob": null}',
}
_ERRORS = {
    "away": ("503 Service Unavailable", "ServiceUnavailable"),
    "throttled": ("400 Bad Request", "ThrottlingException"),
    "denied": ("400 Bad Request", "AccessDeniedException"),
}
_STATES = {
    "Disabled": "DisabledException",
    "PendingDeletion": "KMSInvalidStateException",
    "Unavailable": "KMSInvalidStateException",
}
_SLOW_SECONDS = 4.0
_KEY_ID_CHARACTERS = 36  # moto puts the id of the key before each ciphertext
Start = Callable[..., Any]


class StrictMoto:
    """A WSGI application around moto's."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._weather = "fair"

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if environ["PATH_INFO"] == "/weather":
            self._weather = body.decode() or self._weather
            return _answer(start_response, "200 OK", self._weather.encode())
        if self._weather in LIES:
            return _answer(start_response, "200 OK", LIES[self._weather])
        if self._weather in _ERRORS:
            return _error(start_response, *_ERRORS[self._weather])
        if self._weather == "slow":
            time.sleep(_SLOW_SECONDS)
        refusal = _refusal(environ.get("HTTP_X_AMZ_TARGET", "").partition(".")[2], body)
        if refusal is not None:
            return _error(start_response, "400 Bad Request", refusal)
        environ["wsgi.input"] = io.BytesIO(body)
        answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer


def _refusal(operation: str, body: bytes) -> str | None:
    """The error that AWS documents and moto leaves out."""
    if operation not in {"Encrypt", "Decrypt", "ReEncrypt", "GenerateDataKey"}:
        return None
    asked = json.loads(body)
    named = [asked[name] for name in ("KeyId", "SourceKeyId", "DestinationKeyId") if name in asked]
    keys = [_key(name) for name in named]
    for key in keys:
        refused = "NotFoundException" if key is None else _STATES.get(key.key_state)
        if refused is not None:
            return refused
    if "CiphertextBlob" not in asked:
        return None
    wrapped_by = _wrapped_by(asked["CiphertextBlob"])
    if _key(wrapped_by) is None:
        return "InvalidCiphertextException"
    return None if keys[0].id == wrapped_by else "IncorrectKeyException"


def _wrapped_by(blob: str) -> str:
    try:
        return base64.b64decode(blob)[:_KEY_ID_CHARACTERS].decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _key(name: str) -> Any:
    backend = get_backend("kms")[ACCOUNT][REGION]
    key_id = backend.get_key_id_from_alias(name) if name.startswith("alias/") else backend.get_key_id(name)
    return backend.keys.get(key_id, None)


def _error(start_response: Start, status: str, code: str) -> Iterable[bytes]:
    return _answer(start_response, status, json.dumps({"__type": code, "message": ""}).encode())


def _answer(start_response: Start, status: str, body: bytes) -> Iterable[bytes]:
    start_response(
        status, [("Content-Type", "application/x-amz-json-1.1"), ("Content-Length", str(len(body)))]
    )
    return [body]


if __name__ == "__main__":
    make_server("127.0.0.1", int(sys.argv[1]), StrictMoto(), threaded=True).serve_forever()  # type: ignore[arg-type]
