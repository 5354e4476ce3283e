"""What the commands that work on the host share: options, and errors as sentences."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click

from vault.cli.failure import Failure
from vault.core.credentials import NewCredential
from vault.core.errors import MisconfiguredError, VaultError

F = TypeVar("F", bound=Callable[..., Any])


def host_options(command: F) -> F:
    """Add ``--config FILE`` and ``--data DIR``."""
    path = click.Path(path_type=Path, dir_okay=False)
    folder = click.Path(path_type=Path, file_okay=False)
    command = click.option("--data", type=folder, help="Folder of the embedded default (./strongroom-data).")(
        command
    )
    return click.option("--config", type=path, help="Configuration file (TOML).")(command)


def reports_misconfiguration(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the vault's errors into a sentence on standard error and exit code 1."""

    @functools.wraps(command)
    def reporting(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except MisconfiguredError as error:
            raise Failure(error.detail) from error
        except VaultError as error:
            raise Failure(f"{error.title}: {error}") from error

    return reporting


def show_credential(credential: NewCredential) -> None:
    """Show a new credential the one time that it exists in the clear."""
    click.echo("Administrator credential, shown once; keep it in a file of mode 0600:")
    click.echo(f"\n  {credential.text}\n")


@contextlib.contextmanager
def reserved_file(path: Path) -> Iterator[Callable[[str], object]]:
    """Make a new file of mode 0600 before the work that fills it, and remove it if that work fails.

    Raises:
        MisconfiguredError: the file exists or cannot be made; nothing was done yet.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MisconfiguredError(f"{path} cannot be made ({error.strerror}); name a new file.") from error
    with os.fdopen(descriptor, "w") as file:
        try:
            yield file.write
            file.flush()
            os.fsync(descriptor)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
