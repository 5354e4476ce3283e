"""The page about moving in says what there is, and all of it."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from vault.cli import main

PAGE = Path(__file__).parents[4] / "docs" / "operations" / "moving-in.md"
# Of other commands on the page.
FOREIGN = {"--limit", "--json"}


def options(*names: str) -> set[str]:
    group: click.Command | None = main
    for name in names:
        assert isinstance(group, click.Group)
        group = group.get_command(click.Context(group), name)
    assert group is not None
    return {option for parameter in group.params for option in parameter.opts if option.startswith("--")}


def test_every_option_on_the_page_exists() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE.read_text()))
    assert named - FOREIGN <= options("records", "import") | options("records", "export")


@pytest.mark.parametrize("command", ["import", "export"])
def test_every_option_that_is_its_own_is_on_the_page(command: str) -> None:
    shared = options("records", "list")
    text = PAGE.read_text()
    assert [
        option for option in options("records", command) - shared - {"--collection"} if option not in text
    ] == []
