"""Documents that cannot drift: links that lead somewhere, configuration keys, error statuses."""

from __future__ import annotations

import re
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from keyproviders import awskms_options, pkcs11_options, transit_options
from vault.api.problems import STATUS_OF, status_of
from vault.config import Settings
from vault.core import errors
from vault.core.errors import MisconfiguredError, VaultError
from vault.storage.engine import TransactionLostError
from vault.storage.failures import ServerAwayError

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
EXAMPLE = ROOT / "config.example.toml"


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_pages_to_look_at() -> None:
    assert len(PAGES) > 15


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors_of(target)):
            broken.append(link)
    assert not broken


def configurable(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key that can be set; the name in a table of tables is ``*``."""
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if typing.get_origin(annotation) in (typing.Union, types.UnionType):
            (annotation,) = [each for each in typing.get_args(annotation) if each is not type(None)]
        path = f"{prefix}{name}"
        if typing.get_origin(annotation) is dict:
            annotation, path = typing.get_args(annotation)[1], f"{path}.*"
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from configurable(annotation, f"{path}.")
        else:
            yield path


def written(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        place = "*" if prefix in {"providers.", "keyrings."} else name
        if isinstance(value, dict):
            yield from written(value, f"{prefix}{place}.")
        else:
            yield f"{prefix}{place}"


@pytest.fixture(scope="module")
def example() -> dict[str, Any]:
    # What is switched off stands as a comment without a space after the #.
    return tomllib.loads(re.sub(r"^#(?=[\[\w])", "", EXAMPLE.read_text(), flags=re.MULTILINE))


def test_the_example_shows_every_configuration_key_and_no_other(example: dict[str, Any]) -> None:
    # The other options of a provider are its own.
    providers = {name: {"type": table["type"]} for name, table in example["providers"].items()}
    assert set(written(example | {"providers": providers})) == set(configurable(Settings))


@pytest.mark.parametrize(
    ("kind", "known", "known_to_administration"),
    [
        ("file", {"path", "passphrase"}, set()),
        ("transit", transit_options._KNOWN, {"auth"}),
        ("pkcs11", pkcs11_options._KNOWN, pkcs11_options._ADMIN_KNOWN),
        (
            "awskms",
            {*awskms_options._PLACE, *awskms_options._CREDENTIALS},
            {"access_key_id", "secret_access_key", "deletion_days"},
        ),
    ],
)
def test_the_example_and_its_page_show_every_option_of_a_provider(
    example: dict[str, Any], kind: str, known: Iterable[str], known_to_administration: Iterable[str]
) -> None:
    (table,) = [dict(table) for table in example["providers"].values() if table["type"] == kind]
    assert table.pop("type") == kind
    assert set(table.pop("admin", {})) == set(known_to_administration)
    assert set(table) == set(known)
    page = (ROOT / f"docs/providers/{kind}.md").read_text()
    assert [name for name in known if not re.search(rf"\b{name}\b", page)] == []


def subclasses(kind: type[VaultError]) -> set[type[VaultError]]:
    return {kind}.union(*(subclasses(each) for each in kind.__subclasses__()))


# What style.md and docs say; MisconfiguredError stops the start and answers nobody.
STATUS = {
    "VaultError": 500,
    "InvalidRequestError": 400,
    "MalformedBodyError": 400,
    "TooLargeError": 413,
    "UnsupportedMediaTypeError": 415,
    "UnprocessableError": 422,
    "PreconditionRequiredError": 428,
    "NotAuthenticatedError": 401,
    "NotAuthorizedError": 403,
    "NotFoundError": 404,
    "CollectionNotFoundError": 404,
    "RecordNotFoundError": 404,
    "KeyringNotFoundError": 404,
    "JobNotFoundError": 404,
    "ConflictError": 409,
    "SchemaConflictError": 409,
    "DuplicateValueError": 409,
    "InFlightError": 409,
    "RecordErasedError": 410,
    "RecordExpiredError": 410,
    "PreconditionFailedError": 412,
    "UnavailableError": 503,
    "TransactionLostError": 503,
    "ServerAwayError": 503,
    "ServerRefusalError": 503,
    "IntegrityError": 500,
    "MisconfiguredError": 500,
}


def test_every_error_has_its_status() -> None:
    kinds = {kind for kind in subclasses(VaultError) if kind.__module__.startswith("vault.")}
    assert {ServerAwayError, TransactionLostError} <= kinds
    assert {kind.__name__: status_of(kind.__new__(kind)) for kind in kinds} == STATUS


def test_every_row_of_the_status_table_decides_something() -> None:
    for kind, status in STATUS_OF:
        assert status_of(kind.__new__(kind)) == status
    assert len({kind for kind, _ in STATUS_OF}) == len(STATUS_OF)


def test_every_error_is_drawn_in_the_tree() -> None:
    drawn = set(re.findall(r"\w+Error", errors.__doc__ or ""))
    direct = {kind.__name__ for kind in VaultError.__subclasses__() if kind.__module__.startswith("vault.")}
    assert direct <= drawn
    assert MisconfiguredError.__name__ in drawn


def test_every_decision_is_listed() -> None:
    listed = set(re.findall(r"\(adr/(\d{4}-[a-z0-9-]+\.md)\)", (ROOT / "docs/architecture.md").read_text()))
    assert listed == {page.name for page in (ROOT / "docs/adr").glob("*.md")}
