"""From options to a client, and from a client's errors to a sentence and an exit code. The one home of both."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from vault.cli.failure import FAILED, USAGE, Failure
from vault.client import (
    Client,
    Duplicate,
    Misconfigured,
    NotAuthenticated,
    PreconditionFailed,
    StrongroomError,
    Unavailable,
    UnexpectedAnswer,
)
from vault.client.client import DEFAULT_SERVER

_SERVER_ERROR = 500
_PATIENCE_SECONDS = 2.0
"""How long a command tries again: somebody sits before it, and wants to hear what is wrong."""
_NEXT_STEPS: dict[type[StrongroomError], str] = {
    NotAuthenticated: (
        "The credential may be of another vault, or revoked. Name the right file with --credential-file; "
        "on the vault's host, `strongroom init --new-credential` makes a new one."
    ),
    Duplicate: "`strongroom records lookup COLLECTION FIELD` finds the record that has it.",
    PreconditionFailed: "Somebody has changed the record: read it again, then decide.",
    UnexpectedAnswer: "Does --server name a Strongroom, of a release like this one?",
}
_NEXT_STEP_BY_CODE = {
    "collection-not-found": "`strongroom collections list` shows them.",
    "purpose-required": "Pass --purpose PURPOSE, or set STRONGROOM_PURPOSE.",
    "precondition-required": "Pass --if-match ETAG; `strongroom records get` shows it.",
    "insecure-http": "The option is --insecure-http.",
    "connection-refused": "Is the vault running? `strongroom serve` starts it here; --server names one elsewhere.",
    "tls": (
        "If an authority of your own signed its certificate, name it with --ca FILE. A server without TLS is named "
        "with http://."
    ),
}


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach a vault, as the options say.

    Attributes:
        as_json: print JSON instead of tables.
    """

    server: str
    credential_file: Path | None
    ca: Path | None
    insecure_http: bool
    as_json: bool
    purpose: str | None = None

    @contextmanager
    def open(self, **settings: Any) -> Iterator[Client]:
        """Open a client; its errors leave as ``Failure``.

        Args:
            settings: of the client, beyond those that the options say.

        Raises:
            Failure: the vault cannot be reached, or says no.
        """
        if self.credential_file is None:
            raise click.UsageError(
                "No credential. Pass --credential-file FILE, or set STRONGROOM_CREDENTIAL_FILE.\n"
                "`strongroom init --credential-file FILE` writes one when it makes a vault."
            )
        try:
            with Client(
                self.server,
                credential_file=self.credential_file,
                purpose=self.purpose,
                ca=self.ca,
                insecure_http=self.insecure_http,
                exact_numbers=True,
                **{"retry_seconds": _PATIENCE_SECONDS} | settings,
            ) as client:
                yield client
        except StrongroomError as error:
            raise explained(error) from error


def connected(function: Callable[..., None], *, says_purpose: bool = True) -> Callable[..., None]:
    """Give a command the options that reach a server; its function gets a ``Connection`` first.

    Args:
        function: the command's.
        says_purpose: False where ``--purpose`` means something else.
    """
    ours = [name for name in Connection.__slots__ if says_purpose or name != "purpose"]

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        options = {name: kwargs.pop(name) for name in ours}
        function(Connection(**options), *args, **kwargs)

    for option in reversed(_options(says_purpose=says_purpose)):
        option(command)
    return command


def _options(*, says_purpose: bool) -> list[Callable[[Callable[..., object]], object]]:
    file = click.Path(path_type=Path)
    options = [
        click.option("--server", envvar="STRONGROOM_SERVER", default=DEFAULT_SERVER, show_default=True,
                     metavar="URL", help="The vault server; or STRONGROOM_SERVER."),
        click.option("--credential-file", envvar="STRONGROOM_CREDENTIAL_FILE", type=file, metavar="FILE",
                     help="File (mode 0600) with the credential; or STRONGROOM_CREDENTIAL_FILE."),
        click.option(
            "--purpose",
            metavar="PURPOSE",
            envvar="STRONGROOM_PURPOSE",
            help="What this is for; the vault records it. Or STRONGROOM_PURPOSE.",
        ),
        click.option("--ca", type=file, metavar="FILE",
                     help="PEM file of the authorities to trust instead of the system's."),
        click.option("--insecure-http", is_flag=True,
                     help="Allow http:// to another machine: nothing is encrypted."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, one line each."),
    ]  # fmt: skip
    if not says_purpose:
        del options[2]
    return list(options)


def explained(error: StrongroomError) -> Failure:
    """Say what a client's error means for somebody at a terminal, and what to do next."""
    details = [str(found) for found in error.errors]
    if error.request_id and (error.status or 0) >= _SERVER_ERROR:
        details.append(f"request {error.request_id}")
    return Failure(
        error.detail,
        next_step=_next_step(error),
        details=tuple(details),
        exit_code=USAGE if isinstance(error, Misconfigured) else FAILED,
    )


def _next_step(error: StrongroomError) -> str:
    if error.outcome_unknown:
        return "Whether it was carried out is not known: look before you repeat it."
    if isinstance(error, Unavailable):
        return f"Nothing was changed. Try again in {error.retry_after_seconds} s."
    by_kind = next((step for kind, step in _NEXT_STEPS.items() if isinstance(error, kind)), "")
    return _NEXT_STEP_BY_CODE.get(error.code, by_kind)
