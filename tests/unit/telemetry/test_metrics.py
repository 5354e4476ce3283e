"""The numbers of one process: names, labels, and the text that Prometheus reads."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from vault.telemetry.jobs import JobMeter
from vault.telemetry.metrics import METRICS, Metrics, label_value


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


def samples(metrics: Metrics) -> Iterator[Sample]:
    """All of them, without the times of creation that exist within one process only."""
    for family in text_string_to_metric_families(metrics.render().decode()):
        yield from (each for each in family.samples if not each.name.endswith("_created"))


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    found = [each.value for each in samples(metrics) if (each.name, each.labels) == (name, labels)]
    assert len(found) <= 1
    return found[0] if found else None


def use_everything(metrics: Metrics) -> None:
    metrics.request_began()
    metrics.request_ended("/healthz", "GET", 200, 0.002)
    metrics.provider_call("disk", "unwrap", "ok", 0.0002)
    metrics.breaker_changed("disk", is_open=True)
    metrics.cache_asked("collection_definitions", "hit")
    metrics.database_read(0.0002)
    metrics.database_wrote(0.0002, 0.003, [("record.read", "released")])
    metrics.database_failed("full")
    metrics.audit_failed()
    metrics.job_batch("expire-records", 5, 0, 0.1)
    metrics.job_succeeded("expire-records", 1_800_000_000.5)


def test_every_metric_can_be_used_and_is_shown_with_its_labels(metrics: Metrics) -> None:
    use_everything(metrics)
    shown: dict[str, set[str]] = {}
    for each in samples(metrics):
        name = re.sub(r"_(bucket|sum|count)$", "", each.name)
        shown.setdefault(name, set()).update(each.labels.keys() - {"le"})
    described = {name: set(each.labels) for name, each in METRICS.items()}
    assert shown == described


def test_a_request_is_counted_timed_and_in_progress_only_meanwhile(metrics: Metrics) -> None:
    metrics.request_began()
    metrics.request_began()
    assert value(metrics, "strongroom_requests_in_progress") == 2
    metrics.request_ended("/v1/collections", "GET", 200, 0.004)
    metrics.request_ended("/v1/collections", "GET", 403, 0.2)
    assert value(metrics, "strongroom_requests_in_progress") == 0
    labels = {"route": "/v1/collections", "method": "GET"}
    assert value(metrics, "strongroom_requests_total", **labels, status="200") == 1
    assert value(metrics, "strongroom_requests_total", **labels, status="403") == 1
    assert value(metrics, "strongroom_request_seconds_count", **labels) == 2
    assert value(metrics, "strongroom_request_seconds_sum", **labels) == pytest.approx(0.204)
    assert value(metrics, "strongroom_request_seconds_bucket", **labels, le="0.005") == 1
    assert value(metrics, "strongroom_request_seconds_bucket", **labels, le="0.25") == 2


def test_to_find_nothing_to_do_is_a_success(metrics: Metrics) -> None:
    JobMeter(metrics).nothing_waits("expire-records")
    assert value(metrics, "strongroom_job_last_success_timestamp_seconds", job="expire-records") is not None
    assert value(metrics, "strongroom_job_batch_seconds_count", job="expire-records") is None


def test_the_release_is_a_label(metrics: Metrics) -> None:
    assert value(metrics, "strongroom_info", version="1.2.3") == 1


def test_two_in_one_process_do_not_add_up(metrics: Metrics) -> None:
    metrics.audit_failed()
    assert value(Metrics("1.2.3"), "strongroom_audit_failures_total") in (None, 0)


def test_a_batch_of_a_job_is_counted_and_a_clean_one_is_a_success(metrics: Metrics) -> None:
    meter = JobMeter(metrics)
    meter.batch("expire-records", 500, 2, 0.2)
    assert value(metrics, "strongroom_job_last_success_timestamp_seconds", job="expire-records") is None
    meter.batch("expire-records", 100, 0, 0.1)
    meter.batch("expire-records", 0, 0, 0.001)
    assert value(metrics, "strongroom_job_rows_total", job="expire-records", outcome="done") == 600
    assert value(metrics, "strongroom_job_rows_total", job="expire-records", outcome="failed") == 2
    assert value(metrics, "strongroom_job_batch_seconds_count", job="expire-records") == 3
    success = value(metrics, "strongroom_job_last_success_timestamp_seconds", job="expire-records")
    assert success is not None
    assert success > 1_700_000_000


@pytest.mark.parametrize("text", ["ada@example.org", "Ada", "", "a b", "x" * 64, 'a"b', "a\nb", "Zoë"])
def test_a_label_that_is_no_word_of_ours_is_other(metrics: Metrics, text: str) -> None:
    metrics.database_failed(text)
    metrics.database_wrote(0.1, 0.1, [(text, text)])
    metrics.provider_call(text, text, text, 0.1)
    metrics.cache_asked(text, text)
    metrics.job_batch(text, 1, 1, 0.1)
    metrics.job_succeeded(text, 1.0)
    labels = {
        value
        for each in samples(metrics)
        for name, value in each.labels.items()
        if name not in {"le", "version"}
    }
    assert labels == {"other", "done", "failed", "write"}


@pytest.mark.parametrize(
    ("label", "good", "bad"),
    [
        ("route", ["/v1/collections/{collection}/records", "/docs", "unmatched"], ["/a@b", "/a b", "", "/é"]),
        ("method", ["GET", "OPTIONS"], ["get", "QANARY.0", ""]),
        ("status", ["200", "503"], ["20", "2000", "abc"]),
        ("version", ["0.1.0", "1.0.0rc1+local"], ["", "a b"]),
        ("reason", ["no-turn", "io"], ["Ada", "a@b"]),
        ("action", ["record.create", "request"], ["RECORD"]),
        ("result", ["not-found"], ["not found"]),
        ("job", ["expire-records"], ["x" * 64]),
    ],
)
def test_each_label_has_its_form(label: str, good: list[str], bad: list[str]) -> None:
    assert [label_value(label, text) for text in good] == good
    assert {label_value(label, text) for text in bad} == {"other"}


def test_descriptions_follow_the_rules_of_prometheus() -> None:
    for name, each in METRICS.items():
        assert re.fullmatch(r"strongroom_[a-z_]+", name)
        assert name.endswith("_total") == (each.kind == "counter"), name
        assert (each.kind == "histogram") == bool(each.buckets), name
        assert not each.buckets or name.endswith("_seconds"), name
        assert list(each.buckets) == sorted(set(each.buckets))
        assert each.meaning.endswith("."), name
