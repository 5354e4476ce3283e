"""The check that nothing secret shows: not in a repr, an error or a log line of any level."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace

from keyproviders.conformance.bench import CONTEXT, Bench, at, expect, good
from keyproviders.errors import KeyProviderError
from keyproviders.interface import KeyProvider, SecretBytes, WrapItem

__all__ = ["forms_of", "nothing_secret_shows"]


def nothing_secret_shows(bench: Bench) -> None:
    """Every call, good and bad, with all logging on: no data key and no credential in what is shown."""
    with _captured() as lines:
        provider = bench.provider()
        shown, secrets = _everything(bench, provider)
        if bench.subject.open_administration is not None:
            administration = bench.administration()
            shown += [administration, *_tried(lambda: administration.create(bench.key))]
    texts = [text for each in shown for text in _texts(each)]
    for what, haystack in (("a repr or an error", "\n".join(texts)), ("the log", "\n".join(lines))):
        for secret in secrets:
            expect(not _is_in(haystack, secret), f"{what} shows a data key")
        for secret in bench.subject.secrets:
            expect(not _is_in(haystack, secret), f"{what} shows the credential of the provider")


def forms_of(secret: bytes) -> list[str]:
    """Return the ways in which bytes usually end up in a text."""
    encoded = [base64.b64encode(secret), base64.urlsafe_b64encode(secret)]
    return [
        secret.hex(),
        secret.hex().upper(),
        secret.decode("latin-1"),
        repr(secret)[2:-1],
        repr(bytearray(secret))[12:-2],
        str(list(secret))[1:-1],
        *(each.decode().rstrip("=") for each in encoded),
    ]


def _everything(bench: Bench, provider: KeyProvider) -> tuple[list[object], list[bytes]]:
    version = bench.newest(provider)
    made = bench.data_key(provider, version)
    own = SecretBytes(os.urandom(32))
    (wrapped,) = provider.wrap(bench.key, version, [WrapItem(own, CONTEXT)])
    damaged = replace(made.wrapped, blob=made.wrapped.blob[:-1] + bytes([made.wrapped.blob[-1] ^ 1]))
    items = [at(made.wrapped), at(good(wrapped)), at(damaged), at(replace(damaged, algorithm="x"))]
    too_long = SecretBytes(made.plaintext.reveal() * 3)
    shown: list[object] = [provider, made, wrapped, provider.capabilities(), provider.key_info(bench.key)]
    shown += [*provider.unwrap(items), *provider.rewrap(items, version), *map(provider.health, items)]
    for call in (
        lambda: provider.unwrap([at(replace(made.wrapped, key=bench.unknown_key))]),
        lambda: provider.rewrap(items, version + 1000),
        lambda: provider.generate(bench.unknown_key, 1, [CONTEXT]),
        lambda: provider.wrap(bench.key, version + 1000, [WrapItem(own, CONTEXT)]),
        lambda: provider.wrap(bench.key, version, [WrapItem(too_long, CONTEXT)]),
    ):
        shown += _tried(call)
    return shown, [made.plaintext.reveal(), own.reveal()]


def _tried(call: Callable[[], object]) -> list[object]:
    try:
        result = call()
    except (KeyProviderError, ValueError) as error:
        return [error]
    return list(result) if isinstance(result, list) else [result]


def _texts(shown: object) -> list[str]:
    # An error is shown with its chain, as a log would show it.
    chain = traceback.format_exception(shown) if isinstance(shown, BaseException) else []
    return [repr(shown), str(shown), *chain]


def _is_in(haystack: str, secret: bytes) -> bool:
    return any(form in haystack for form in forms_of(secret))


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextlib.contextmanager
def _captured() -> Iterator[list[str]]:
    # Every level of every logger that does not say otherwise itself: what an operator gets who turns debugging on.
    root, handler = logging.getLogger(), _Lines()
    level, handlers = root.level, root.handlers[:]
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG)
    try:
        yield handler.lines
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
