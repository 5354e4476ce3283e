"""The kit itself: it passes what is good, catches each planted fault with the check that is about it, and says why."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from keyproviders import conformance
from keyproviders.conformance import CHECKS, CheckResult, Hooks, Outcome, Report, Subject, processes
from keyproviders.conformance.report import Latency
from keyproviders.conformance.secrecy import forms_of
from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import KeyAdministration, KeyProvider, ProviderSettings
from keyproviders.memory import MemoryProviderType
from tests.conformance.broken_doors import FAULTS, Administration, Door, Fault
from tests.conformance.weather import BAD_IN_WEATHER, Umbrella, Weather

pytestmark = pytest.mark.filterwarnings("ignore::keyproviders.memory.InsecureProviderWarning")

PIN = b"tr0ub4dor"
NAMES = [check.name for check in CHECKS]


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> ProviderSettings:
    """A memory provider of this test's own: its keys live by the name of the provider."""
    return ProviderSettings(f"kit_{abs(hash(request.node.name))}", {}, tmp_path)


Plant = Callable[[KeyProvider, KeyAdministration], KeyProvider]


def subject_of(
    settings: ProviderSettings,
    plant: Plant = Door,
    administration: Callable[[KeyAdministration], KeyAdministration] = Administration,
) -> Subject:
    kind = MemoryProviderType()
    return Subject(
        settings.name,
        lambda: plant(kind.open(settings), kind.open_administration(settings)),
        lambda: administration(kind.open_administration(settings)),
        secrets=(PIN,),
    )


def failures(report: Report) -> dict[str, str]:
    return {each.name: each.reason for each in report.failed}


def test_a_good_provider_passes_every_check_in_any_weather(settings: ProviderSettings) -> None:
    weather = Weather()
    subject = subject_of(settings, lambda inner, administration: Umbrella(inner, administration, weather))
    seen: list[CheckResult] = []
    report = conformance.run(subject, hooks=weather.hooks(), progress=seen.append)
    assert failures(report) == {}
    assert {each.outcome for each in report.results} == {Outcome.OK}
    assert [each.name for each in report.results] == [
        "administration makes a key",
        *NAMES,
        "latency is measured",
    ]
    assert list(report.results) == seen
    assert report.is_conformant
    assert report.left_behind == ()
    assert set(report.latency) == {"generate", "wrap", "unwrap", "rewrap"}


def test_a_second_run_with_the_same_key_name_passes_too(settings: ProviderSettings) -> None:
    first, second = (conformance.run(subject_of(settings), samples=0, large_batch=20) for _ in range(2))
    assert failures(first) == failures(second) == {}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_planted_fault_is_caught_by_the_check_that_is_about_it(
    settings: ProviderSettings, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_CHILD_SECONDS", 2.0)
    is_door = issubclass(fault.plant, Door)  # type: ignore[arg-type]
    subject = subject_of(settings, fault.plant) if is_door else subject_of(settings, Door, fault.plant)
    report = conformance.run(subject, only={fault.caught_by}, samples=0)
    assert fault.caught_by in failures(report), report.as_json()
    assert failures(report)[fault.caught_by]
    assert not report.is_conformant


@pytest.mark.parametrize("plant", BAD_IN_WEATHER, ids=lambda plant: plant.__name__)
def test_each_fault_that_shows_in_bad_weather_only_is_caught(
    settings: ProviderSettings, plant: type[Umbrella]
) -> None:
    weather = Weather()
    subject = subject_of(settings, lambda inner, administration: plant(inner, administration, weather))
    report = conformance.run(
        subject, hooks=weather.hooks(patience_seconds=0.5), only={BAD_IN_WEATHER[plant]}, samples=0
    )
    assert set(failures(report)) == {BAD_IN_WEATHER[plant]}


def test_a_fault_is_no_reason_to_stop(settings: ProviderSettings) -> None:
    class Broken(Door):
        def generate(self, *_: object) -> object:  # type: ignore[override]
            raise RuntimeError(PIN.decode())

    report = conformance.run(subject_of(settings, Broken), samples=3)
    assert len(report.results) == len(CHECKS) + 2
    assert "generated keys are fresh" in failures(report)
    assert report.latency == {}
    assert PIN.decode() not in report.as_json()
    assert "RuntimeError crossed the door" in failures(report)["generated keys are fresh"]


def test_a_provider_that_does_not_open_is_a_report(settings: ProviderSettings) -> None:
    def refuse() -> KeyProvider:
        raise OSError("no such device")

    report = conformance.run(Subject(settings.name, refuse), samples=1)
    assert report.capabilities is None
    assert not report.is_conformant
    assert Outcome.OK not in {each.outcome for each in report.results}


def test_without_administration_an_existing_key_is_used_and_not_changed(settings: ProviderSettings) -> None:
    administration = MemoryProviderType().open_administration(settings)
    administration.create("records")
    administration.rotate("records")
    provider = MemoryProviderType().open(settings)
    before = provider.key_info("records")
    report = conformance.run(
        Subject(settings.name, lambda: MemoryProviderType().open(settings), key="records"), large_batch=20
    )
    assert failures(report) == {}
    assert provider.key_info("records") == before
    left_out = {each.name: each.reason for each in report.results if each.outcome is Outcome.NOT_APPLICABLE}
    assert "a retired version is refused, the next one works" in left_out
    assert all("administration door" in reason or "the hook" in reason for reason in left_out.values())
    assert sum(each.outcome is Outcome.OK for each in report.results) > 20


def test_hooks_that_are_missing_are_named(settings: ProviderSettings) -> None:
    report = conformance.run(
        subject_of(settings),
        hooks=Hooks(seal=lambda: None),
        only={"a sealed provider says try later, and recovers"},
        samples=0,
    )
    (result,) = report.results[1:]
    assert (result.outcome, result.reason) == (Outcome.NOT_APPLICABLE, "the hook unseal was not given")


def test_what_cannot_be_ended_is_reported(settings: ProviderSettings) -> None:
    class Keeps(Administration):
        def destroy(self, key: str, version: int) -> None:
            raise ProviderMisconfiguredError(f"not today, version {version}", provider=key)

    report = conformance.run(subject_of(settings, Door, Keeps), only={"generated keys are fresh"}, samples=0)
    assert report.left_behind == ("version 1 of key 'strongroom-conformance': not today, version 1",)


def test_the_report_is_json(settings: ProviderSettings) -> None:
    report = conformance.run(subject_of(settings), only={"an empty batch is an empty answer"}, samples=2)
    document = json.loads(report.as_json())
    assert document["format"] == "strongroom-conformance/1"
    assert document["provider"] == settings.name
    assert document["conformant"] is True
    assert document["capabilities"]["max_batch"] == 1
    assert document["latency"]["unwrap"]["samples"] == 2
    assert [each["outcome"] for each in document["results"]] == ["ok"] * 3


def test_logging_is_as_before_afterwards(settings: ProviderSettings) -> None:
    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    conformance.run(subject_of(settings), only={"no secret is shown or logged"}, samples=0)
    assert (root.level, root.handlers) == before


def test_percentiles_are_nearest_ranks() -> None:
    latency = Latency.of([number / 1000 for number in range(100, 0, -1)])
    assert latency == Latency(100, 50.0, 90.0, 99.0, 100.0)
    assert Latency.of([0.002]) == Latency(1, 2.0, 2.0, 2.0, 2.0)


SECRET = bytes(range(200, 232))


@pytest.mark.parametrize(
    "shown",
    [
        SECRET.hex(),
        SECRET.hex().upper(),
        SECRET.decode("latin-1"),
        str(SECRET),
        str(bytearray(SECRET)),
        str(list(SECRET)),
        base64.b64encode(SECRET).decode(),
        base64.urlsafe_b64encode(SECRET).decode(),
    ],
    ids=range(8),
)
def test_a_secret_is_recognised_in_every_usual_form(shown: str) -> None:
    assert any(form in f"error: {shown}." for form in forms_of(SECRET))
    assert not any(form in "bytes, lists [200, 201] and c8c9" for form in forms_of(SECRET))


def test_every_check_has_a_name_of_its_own() -> None:
    assert len(set(NAMES)) == len(NAMES) > 30
    caught = {fault.caught_by for fault in FAULTS} | set(BAD_IN_WEATHER.values())
    assert caught <= set(NAMES)
