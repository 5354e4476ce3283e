"""docs/operations/monitoring.md and the code: the same metrics, fields and events."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from keyproviders.interface import HealthStatus
from vault.api.metrics import FORWARDING_HEADERS
from vault.storage import failures
from vault.storage.sqlite import _REASONS
from vault.telemetry.fields import FIELDS
from vault.telemetry.foreign import _SERVER_SAYS
from vault.telemetry.metrics import METRICS
from vault.telemetry.providers import OUTCOME_OF

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/operations/monitoring.md").read_text()
LEVELS = {"debug", "info", "warning", "error", "critical"}


def table(heading: str) -> list[list[str]]:
    """The cells of the table whose first column has this heading."""
    (found,) = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in found.splitlines()]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_metric_is_listed_with_its_kind_and_labels() -> None:
    listed = {names(row[0])[0]: (row[1], tuple(names(row[2]))) for row in table("metric")}
    assert listed == {name: (each.kind, each.labels) for name, each in METRICS.items()}


def test_every_field_of_the_log_is_listed() -> None:
    listed = [name for row in table("field") for name in names(row[0])]
    assert sorted(listed) == sorted(FIELDS)


def events() -> Iterator[tuple[str, str]]:
    """Every event that our code logs, and at which level; a level that is chosen at run time counts as both."""
    for path in sorted((ROOT / "vault").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in {"log", "_log"} and node.func.attr in LEVELS:
                (event,) = node.args
                assert isinstance(event, ast.Constant), (path, node.lineno)
                yield str(event.value), node.func.attr


def test_every_event_is_listed_and_none_that_is_gone() -> None:
    listed = {name: row[1] for row in table("event") for name in names(row[0])}
    logged = dict(events())
    assert len(logged) > 15
    of_others = {*_SERVER_SAYS, "python-warning", "withheld", "unnamed", "job-batch"}
    of_providers = {name for name in listed if name.startswith("the key file")}
    assert listed.keys() == logged.keys() | of_others | of_providers
    for event, level in logged.items():
        assert level in listed[event], event


def test_the_key_file_s_words_are_those_that_are_logged() -> None:
    (words,) = [name for row in table("event") for name in names(row[0]) if name.startswith("the key file")]
    assert words in (ROOT / "keyproviders/local_file.py").read_text()


_OF_SERVERS = {each.reason for each in vars(failures).values() if isinstance(each, failures.Failure)} | {
    "pool",
    "connect",
}


def test_words_of_labels_are_listed() -> None:
    text = " ".join(PAGE.split())
    for word in (*(word for _, word in OUTCOME_OF), *_REASONS.values(), "no-turn", "other", *_OF_SERVERS):
        assert f"`{word}`" in text, word
    for header in FORWARDING_HEADERS:
        assert f"`{header}`" in text, header
    assert HealthStatus.OK == "ok"


def test_alerts_and_examples_name_metrics_that_there_are() -> None:
    named = set(re.findall(r"strongroom_[a-z_]+", PAGE))
    plain = {name if name in METRICS else re.sub(r"_(bucket|sum|count)$", "", name) for name in named}
    assert plain == METRICS.keys()
