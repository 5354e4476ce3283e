"""The command ``strongroom``: a table of names, each loaded when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

import vault

# Name, module (its attribute `command`), and the line that --help shows: loading every module to ask it would make
# --help take as long as the slowest of them. A test compares the lines with the commands' own.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("vault.cli.demo", "Walk through a real vault, step by step."),
    "serve": ("vault.cli.serve", "Run the vault server."),
    "worker": ("vault.cli.worker", "Do background work, such as erasing expired records."),
    "init": ("vault.cli.init", "Make a new vault and its first administrator credential."),
    "collections": ("vault.cli.collections", "Show and define record types."),
    "records": ("vault.cli.records", "Store, read, find, change and erase records."),
    "audit": ("vault.cli.audit", "Show who did what, when and why."),
    "keys": ("vault.cli.keys", "Show, make, rotate and check keys."),
    "verify": ("vault.cli.verify", "Check every stored byte; exit 3 if something is wrong."),
    "doctor": ("vault.cli.doctor", "Look at everything around the vault; exit 3 if something needs mending."),
    "transfer": (
        "vault.cli.transfer",
        "Copy a whole vault into another database; exit 3 if the copies differ.",
    ),
    "database": ("vault.cli.database", "Look after the database."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, not when they are listed.

    Args:
        table: names, modules and lines, as :data:`COMMANDS`; commands that were added are listed before them.
    """

    def __init__(
        self, *args: Any, table: Mapping[str, tuple[str, str]] | None = None, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.table = COMMANDS if table is None else table

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands in the order in which people meet them."""
        return [*self.commands, *self.table]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of one command."""
        if cmd_name not in self.table:
            return super().get_command(ctx, cmd_name)
        command: click.Command = importlib.import_module(self.table[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List the commands from the table alone."""
        lines = [(name, command.get_short_help_str(limit=100)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(lines + [(name, line) for name, (_, line) in self.table.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(vault.__version__, prog_name="strongroom")
def main() -> None:
    """A self-hosted vault for personal records.

    Exit codes: 0 done, 1 failed, 2 wrong usage, 3 a check found a problem.
    """
