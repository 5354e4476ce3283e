"""How a command says no: a sentence about what is wrong, one about what to do next, and an exit code."""

from __future__ import annotations

from typing import IO, Any

import click

from vault.cli.output import printable

FAILED = 1
USAGE = 2
PROBLEM_FOUND = 3


class Failure(click.ClickException):
    """Ends the command with a message on standard error.

    Args:
        message: what is wrong.
        next_step: what to do about it; may be empty.
        details: single findings, a line each.
        exit_code: ``FAILED``, ``USAGE`` or ``PROBLEM_FOUND``.
    """

    def __init__(
        self, message: str, *, next_step: str = "", details: tuple[str, ...] = (), exit_code: int = FAILED
    ) -> None:
        super().__init__(message)
        self.next_step = next_step
        self.details = details
        self.exit_code = exit_code  # type: ignore[misc]  # click declares a class variable, and reads the instance

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message, its details and the next step."""
        lines = [f"Error: {self.message}", *(f"  {detail}" for detail in self.details)]
        if self.next_step:
            lines.append(self.next_step)
        for line in lines:
            click.echo(printable(line), file=file, err=file is None)
