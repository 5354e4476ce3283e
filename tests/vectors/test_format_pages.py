"""The pages under docs/formats say what the code does: examples are vectors, tables are the row types."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from vault.audit.entry import EntryOrigin, canonical_entry
from vault.audit.events import Action, AuditEvent, Result
from vault.core.normalise import _ALL
from vault.storage.tables import TABLE_OF

HERE = Path(__file__).parent
PAGES = HERE.parents[1] / "docs" / "formats"
PAGE_NAMES = (
    "encoding",
    "sealed-record",
    "stored-key",
    "row-mac",
    "blind-index",
    "audit-entry",
    "credential",
)


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_every_worked_example_is_a_vector(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text()
    vectors = (HERE / f"{name}.json").read_text("ascii") + (HERE / "wrapped-dek.json").read_text("ascii")
    examples = re.findall(r"```hex\n(.*?)```", page, re.DOTALL)
    assert examples
    for example in examples:
        digits = re.sub(r"\s", "", example)
        assert bytes.fromhex(digits)
        assert f'"{digits}"' in vectors, digits


@pytest.mark.parametrize("name", PAGE_NAMES)
def test_every_page_says_what_is_frozen_its_source_and_what_an_attacker_sees(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text()
    for part in ("## What may never change", "Instead", "\nSource: ", "**An attacker with the database**"):
        assert part in page, part


def test_the_entry_on_its_page_is_a_vector() -> None:
    page = (PAGES / "audit-entry.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    escaped = example.replace("\n", "").replace('"', '\\"')
    assert f'"{escaped}"' in (HERE / "audit-entry.json").read_text("ascii")


def test_the_page_of_row_macs_lists_every_column() -> None:
    page = (PAGES / "row-mac.md").read_text()
    listed: dict[str, list[str]] = {}
    for line in page.partition("## Columns")[2].partition("##")[0].splitlines():
        cells = [re.findall(r"`(\w+)`", cell) for cell in line.split("|")]
        if len(cells) == 4 and "besides" not in line:
            listed |= dict.fromkeys(cells[1], cells[2])
    implied = {"id", "mac", "mac_key_id", "tenant"}
    assert listed == {
        row_type.TABLE: sorted({field.name for field in dataclasses.fields(row_type)} - implied)
        for row_type in TABLE_OF
    }


def test_the_page_of_audit_entries_lists_every_word_and_member() -> None:
    page = (PAGES / "audit-entry.md").read_text()
    members = dict(re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|.*\|.*\| (.*) \|$", page, re.MULTILINE))
    words = {name: set(re.findall(r"`([a-z.-]+)`", text)) for name, text in members.items()}
    assert words["`action`"] == set(Action)
    assert words["`result`"] == set(Result)
    event = AuditEvent(
        action=Action.REQUEST,
        result=Result.DONE,
        fields=("a",),
        token=b"t",
        document_sha256=b"d",
        **{
            name: 1
            for name in AuditEvent.__slots__
            if name not in {"action", "result", "fields", "token", "document_sha256"}
        },
    )
    written = canonical_entry(event, EntryOrigin(b"e", b"b", 1, 1, 1))
    assert {name.strip("`") for names in members for name in names.split(", ")} == set(
        re.findall(r'"(\w+)":', written.decode())
    )


def test_the_page_of_indexes_lists_every_normaliser() -> None:
    page = (PAGES / "blind-index.md").read_text()
    assert set(re.findall(r"^\| `(\w+/\d+)` \|", page, re.MULTILINE)) == {each.id for each in _ALL}
