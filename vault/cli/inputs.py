"""What people type and pipe in: tokens, times, documents, and values that must not stand on a command line."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from typing import IO, Any
from uuid import UUID

import click

from vault.cli.failure import Failure
from vault.client.documents import decode

_MAX_VALUE_BYTES = 4096
_COLLECTION = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)


class TokenType(click.ParamType[UUID]):
    """A record's token. Its error does not repeat what was typed: it may have been a person's e-mail."""

    name = "TOKEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> UUID:
        """Return the UUID."""
        try:
            return value if isinstance(value, UUID) else UUID(value)
        except ValueError:
            self.fail(
                "a token looks like 6f1c0a52-...; to find a record by a value: strongroom records lookup",
                param,
                ctx,
            )


class CollectionType(click.ParamType[str]):
    """A collection's name."""

    name = "COLLECTION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name if it has the right form."""
        if not _COLLECTION.fullmatch(value):
            self.fail("a collection's name is made of a-z, 0-9 and _, and starts with a letter", param, ctx)
        return str(value)


class TimeType(click.ParamType[datetime]):
    """A time: ``2026-11-23T14:00:00Z``, or ``2026-11-23``; UTC if it names no offset."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return an aware time."""
        try:
            moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        except ValueError:
            self.fail("a time looks like 2026-11-23T14:00:00Z or 2026-11-23", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


TOKEN = TokenType()
COLLECTION = CollectionType()
TIME = TimeType()


def read_document(file: IO[bytes], *, what: str) -> dict[str, Any]:
    """Read a JSON object from a file or standard input, numbers exact.

    Raises:
        Failure: it is not one, or nothing came; what was read is not repeated.
    """
    if file.isatty():
        click.echo(f"Type {what} as a JSON object, then Ctrl-D.", err=True)
    text = file.read()
    if not text.strip():
        raise Failure(f"Nothing came in: {what} is a JSON object, on standard input or in a file.")
    try:
        document = decode(text, exact_numbers=True)
    except ValueError as error:
        raise Failure(f"{what.capitalize()} cannot be read: {error}.") from None
    if not isinstance(document, dict):
        raise Failure(f"{what.capitalize()} must be a JSON object: {{...}}.")
    return document


def read_value(label: str) -> str:
    """Read a personal value from a prompt or, piped in, from standard input: one line.

    Raises:
        Failure: nothing, or more than one line, came in.

    Security: never an argument, because every user of the machine can read those in the process list.
    """
    if sys.stdin.isatty():
        return str(click.prompt(label, err=True))
    piped = sys.stdin.buffer.read(_MAX_VALUE_BYTES + 1)
    try:
        text = piped.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise Failure(f"The {label} on standard input is not UTF-8.") from None
    if not text or "\n" in text or len(piped) > _MAX_VALUE_BYTES:
        raise Failure(f"Standard input must hold the {label} alone, on one line.")
    return text


def refuse_values() -> None:
    """Refuse surplus arguments without repeating them.

    Raises:
        UsageError: there are some.
    """
    ctx = click.get_current_context()
    if ctx.args:
        raise click.UsageError(
            "The value does not belong on a command line, where every user of this machine can read it. "
            "Type it at the prompt, or send it to standard input.",
            ctx,
        )
