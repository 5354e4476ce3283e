from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from keyproviders import registry
from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import ProviderSettings
from keyproviders.local_file import LocalFileAdministration, LocalFileProviderType
from keyproviders.memory import MemoryProviderType
from keyproviders.registry import (
    BUILT_IN,
    ENTRY_POINT_GROUP,
    open_administration,
    open_provider,
    provider_type,
)
from keyproviders.software import SoftwareKeyProvider

ROOT = Path(registry.__file__).parents[1]

PLUGIN = """
loaded = True
class Type:
    def open(self, settings): return ("run-time", settings.name)
    def open_administration(self, settings): return ("administration", settings.name)
instance = Type()
class NeedsMore(Type):
    def __init__(self, needed): pass
not_a_type = object()
"""


class FakeEntryPoint(importlib.metadata.EntryPoint):
    """An entry point of a distribution that is not installed."""

    dist = None  # a plain attribute in place of the one that EntryPoint sets from its distribution


def entry_point(name: str, value: str, distribution: str | None) -> importlib.metadata.EntryPoint:
    made = FakeEntryPoint(name, value, ENTRY_POINT_GROUP)
    if distribution is not None:
        vars(made)["dist"] = SimpleNamespace(name=distribution)
    return made


Offer = Callable[..., None]


@pytest.fixture
def offer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Offer:
    (tmp_path / "acme_plugin.py").write_text(PLUGIN)
    (tmp_path / "acme_broken.py").write_text("raise RuntimeError('no such device')\n")
    (tmp_path / "acme_other.py").write_text("raise AssertionError('loaded without being named')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("acme_plugin", "acme_broken", "acme_other"):
        monkeypatch.delitem(sys.modules, module, raising=False)

    def offered(*found: importlib.metadata.EntryPoint) -> None:
        def entry_points(*, group: str) -> importlib.metadata.EntryPoints:
            assert group == "strongroom.key_providers"
            return importlib.metadata.EntryPoints(found)

        monkeypatch.setattr(registry.importlib.metadata, "entry_points", entry_points)

    return offered


def test_built_in_types_need_no_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    def entry_points(**_: str) -> None:
        raise AssertionError("entry points were consulted for a built-in type")

    monkeypatch.setattr(registry.importlib.metadata, "entry_points", entry_points)
    assert isinstance(provider_type("file"), LocalFileProviderType)
    assert isinstance(provider_type("memory"), MemoryProviderType)


def test_the_declared_entry_points_say_what_the_table_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][ENTRY_POINT_GROUP] == BUILT_IN


@pytest.mark.parametrize(("named", "other"), [("file", "memory"), ("memory", "local_file")])
def test_only_the_named_type_is_imported(named: str, other: str) -> None:
    code = (
        "import sys; import keyproviders.registry as r; before = set(sys.modules); "
        "assert not {'keyproviders.local_file', 'keyproviders.memory'} & before; "
        f"r.provider_type({named!r}); assert 'keyproviders.{other}' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_plain_checkout_works_uninstalled() -> None:
    # -S leaves out site-packages and with it our own installation; only the tree and its libraries are added back.
    site = Path(importlib.import_module("cryptography").__file__ or "").parents[1]
    code = (
        f"import sys; sys.path.append({str(site)!r}); import importlib.metadata as m; m.entry_points = None; "
        "import keyproviders.registry as r; print(type(r.provider_type('file')).__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout == "LocalFileProviderType\n"


def test_conveniences_open_both_doors(tmp_path: Path) -> None:
    settings = ProviderSettings("disk", {"path": "keys.json"}, tmp_path)
    administration = open_administration("file", settings)
    assert isinstance(administration, LocalFileAdministration)
    administration.create("records")
    provider = open_provider("file", settings)
    assert isinstance(provider, SoftwareKeyProvider)
    provider.close()


@pytest.mark.parametrize("attribute", ["Type", "instance"])
def test_an_entry_point_may_be_a_class_or_an_instance(offer: Offer, tmp_path: Path, attribute: str) -> None:
    offer(
        entry_point("acme", f"acme_plugin:{attribute}", "acme-keys"),
        entry_point("other", "acme_other:x", "o"),
    )
    settings = ProviderSettings("cloud", {}, tmp_path)
    assert open_provider("acme", settings) == ("run-time", "cloud")
    assert open_administration("acme", settings) == ("administration", "cloud")
    assert "acme_other" not in sys.modules


def test_an_entry_point_never_replaces_a_built_in_type(offer: Offer) -> None:
    offer(entry_point("file", "acme_plugin:Type", "acme-keys"))
    assert isinstance(provider_type("file"), LocalFileProviderType)
    assert "acme_plugin" not in sys.modules


def test_an_unknown_type_lists_the_known_ones(offer: Offer) -> None:
    offer(entry_point("acme", "acme_plugin:Type", "acme-keys"))
    with pytest.raises(ProviderMisconfiguredError) as caught:
        provider_type("fiel", provider="disk")
    known = ", ".join(sorted({"acme", *BUILT_IN}))
    assert str(caught.value) == f"unknown provider type 'fiel'; known types: {known}"
    assert caught.value.provider == "disk"
    assert "acme_plugin" not in sys.modules


def test_two_distributions_with_one_name_are_both_named(offer: Offer) -> None:
    offer(
        entry_point("acme", "acme_plugin:Type", "acme-keys"), entry_point("acme", "acme_other:x", "evil-keys")
    )
    with pytest.raises(ProviderMisconfiguredError, match="more than one distribution: acme-keys, evil-keys;"):
        provider_type("acme")
    assert not {"acme_plugin", "acme_other"} & set(sys.modules)


@pytest.mark.parametrize(
    ("value", "cause"),
    [
        ("acme_missing:Type", ModuleNotFoundError),
        ("acme_plugin:Missing", AttributeError),
        ("acme_broken:Type", RuntimeError),
        ("acme_plugin:NeedsMore", TypeError),
    ],
)
def test_a_plugin_that_fails_to_load_names_its_distribution(
    offer: Offer, value: str, cause: type[Exception]
) -> None:
    offer(entry_point("acme", value, "acme-keys"))
    with pytest.raises(
        ProviderMisconfiguredError, match=r"'acme' of distribution acme-keys .* does not load"
    ) as caught:
        provider_type("acme", provider="cloud")
    assert type(caught.value.__cause__) is cause
    assert caught.value.provider == "cloud"


def test_a_plugin_without_the_two_doors_is_refused(offer: Offer) -> None:
    offer(entry_point("acme", "acme_plugin:not_a_type", None))
    with pytest.raises(ProviderMisconfiguredError, match=r"distribution \(unknown\) .* lacks open"):
        provider_type("acme")
