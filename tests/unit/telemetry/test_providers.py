"""A provider behind a meter: the same answers, and each call counted by how it ended."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderDeniedError,
    ProviderMisconfiguredError,
    ProviderThrottledError,
    ProviderUnavailableError,
    WrappedKeyRejectedError,
)
from keyproviders.interface import (
    DataKey,
    HealthStatus,
    KeyProvider,
    ProviderSettings,
    SecretBytes,
    UnwrapItem,
    WrapItem,
    WrappedKey,
)
from keyproviders.memory import InsecureProviderWarning, MemoryProviderType
from vault.telemetry.metrics import Metrics
from vault.telemetry.providers import OUTCOME_OF, MeteredProvider, metered, outcome_of

OUTCOMES = {
    ProviderThrottledError: "throttled",
    ProviderUnavailableError: "unavailable",
    ProviderDeniedError: "denied",
    KeyNotFoundError: "key-not-found",
    KeyVersionRetiredError: "version-retired",
    WrappedKeyRejectedError: "rejected",
    ProviderMisconfiguredError: "misconfigured",
    KeyProviderError: "failed",
}


class Door:
    """Raises, or returns what it was given."""

    name = "disk"

    def __init__(self, result: Any) -> None:
        self._result = result

    def __getattr__(self, _: str) -> Any:
        def call(*_: object) -> Any:
            if isinstance(self._result, Exception):
                raise self._result
            return self._result

        return call


def calls(metrics: Metrics) -> dict[tuple[str, str, str], float]:
    """(provider, operation, outcome) -> count; every call has been timed, too."""
    counted: dict[tuple[str, str, str], float] = {}
    timed: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for each in family.samples:
            labels = each.labels
            if each.name == "strongroom_provider_calls_total":
                counted[labels["provider"], labels["operation"], labels["outcome"]] = each.value
            if each.name == "strongroom_provider_call_seconds_count":
                timed[labels["provider"], labels["operation"]] = each.value
    assert sum(counted.values()) == sum(timed.values())
    return counted


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


@pytest.fixture
def real() -> Iterator[KeyProvider]:
    settings = ProviderSettings(name="metered", options={}, folder=Path())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InsecureProviderWarning)
        administration = MemoryProviderType().open_administration(settings)
        provider = MemoryProviderType().open(settings)
    administration.create("records")
    administration.rotate("records")
    yield provider
    administration.close()


def test_every_call_of_the_door_is_there() -> None:
    offered = {name for name in vars(KeyProvider) if not name.startswith("_")}
    assert offered <= set(dir(MeteredProvider))
    for name in offered - {"name"}:
        wanted = inspect.signature(getattr(KeyProvider, name))
        assert inspect.signature(getattr(MeteredProvider, name)) == wanted, name


def test_it_answers_as_the_provider_does(real: KeyProvider, metrics: Metrics) -> None:
    door: KeyProvider = metered({"metered": real}, metrics)["metered"]
    assert (door.name, door.capabilities()) == (real.name, real.capabilities())
    assert door.key_info("records") == real.key_info("records")
    (made,) = door.generate("records", 1, [b"context"])
    assert isinstance(made, DataKey)
    (wrapped,) = door.wrap("records", 1, [WrapItem(made.plaintext, b"context")])
    assert isinstance(wrapped, WrappedKey)
    (again,) = door.rewrap([UnwrapItem(wrapped, b"context")], 2)
    assert isinstance(again, WrappedKey)
    (opened,) = door.unwrap([UnwrapItem(again, b"context")])
    assert isinstance(opened, SecretBytes)
    assert opened.reveal() == made.plaintext.reveal()
    assert door.health(UnwrapItem(wrapped, b"context")).status is HealthStatus.OK
    door.close()
    assert door.health(UnwrapItem(wrapped, b"context")).status is HealthStatus.DOWN
    assert calls(metrics) == {
        ("metered", operation, "ok"): 1
        for operation in ("key_info", "generate", "wrap", "rewrap", "unwrap", "health")
    } | {("metered", "health", "down"): 1}


@pytest.mark.parametrize("kind", OUTCOMES, ids=lambda kind: kind.__name__)
def test_a_call_that_fails_is_counted_by_the_kind_of_its_error(
    metrics: Metrics, kind: type[KeyProviderError]
) -> None:
    error = kind("ada@example.org", provider="disk")
    with pytest.raises(kind) as caught:
        MeteredProvider(Door(error), metrics).generate("records", 1, [b""])
    assert caught.value is error
    assert calls(metrics) == {("disk", "generate", OUTCOMES[kind]): 1}


def test_an_error_that_no_provider_may_raise_is_counted_too(metrics: Metrics) -> None:
    with pytest.raises(ZeroDivisionError):
        MeteredProvider(Door(ZeroDivisionError()), metrics).key_info("records")
    assert calls(metrics) == {("disk", "key_info", "crashed"): 1}


def test_a_list_with_a_failure_counts_once_as_the_first_of_them(metrics: Metrics) -> None:
    good = SecretBytes(b"k" * 32)
    mixed = [
        good,
        WrappedKeyRejectedError("x", provider="disk"),
        ProviderUnavailableError("x", provider="disk"),
    ]
    assert MeteredProvider(Door(mixed), metrics).unwrap([]) is mixed
    assert MeteredProvider(Door([good]), metrics).unwrap([]) == [good]
    assert MeteredProvider(Door([]), metrics).unwrap([]) == []
    assert calls(metrics) == {("disk", "unwrap", "rejected"): 1, ("disk", "unwrap", "ok"): 2}


def test_every_kind_of_error_has_a_word_of_its_own() -> None:
    assert {kind: outcome_of(kind("x", provider="disk")) for kind in OUTCOMES} == OUTCOMES
    words = [word for _, word in OUTCOME_OF]
    assert len(set(words)) == len(words) == len(OUTCOMES) + 1
