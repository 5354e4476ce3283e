"""The numbers of this vault: every metric by name, its labels, and what may stand in a label.

Where the server named a folder, the numbers of its processes lie there and are added up (prometheus-client's
multiprocess mode); without one they live in the process. prometheus-client is imported when :class:`Metrics` is made:
commands that measure nothing start faster. Label values come from closed sets: routes, methods, statuses, configured
names, words of our own code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vault.telemetry.shared import SharedNumbers
from vault.telemetry.values import value_class

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_WORD = re.compile(r"[a-z][a-z0-9_.-]{0,62}", re.ASCII)
_FORMS = {
    "route": re.compile(r"[A-Za-z0-9_.{}/-]{1,120}", re.ASCII),
    "method": re.compile(r"[A-Z]{3,7}", re.ASCII),
    "status": re.compile(r"[1-5][0-9]{2}", re.ASCII),
    "version": re.compile(r"[A-Za-z0-9_.+-]{1,40}", re.ASCII),
}
"""What label values look like; those of labels that are not named here are words."""

_REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CALL_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_DATABASE_BUCKETS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
_BATCH_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True, slots=True)
class Description:
    """One metric.

    Attributes:
        kind: what prometheus-client calls it.
        meaning: one sentence, which ``/metrics`` shows too.
        labels: the names of its labels.
        buckets: upper bounds of a histogram, in seconds.
        over_processes: how a gauge is put together from those of several processes.
    """

    kind: Literal["counter", "gauge", "histogram"]
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    over_processes: Literal["livesum", "max"] = "max"


METRICS: Mapping[str, Description] = {
    "strongroom_info": Description("gauge", "Always 1; the release that runs.", ("version",)),
    "strongroom_requests_total": Description("counter", "Requests answered.", ("route", "method", "status")),
    "strongroom_request_seconds": Description(
        "histogram", "From the first look at a request to its answer.", ("route", "method"), _REQUEST_BUCKETS
    ),
    "strongroom_requests_in_progress": Description(
        "gauge", "Requests that are being answered, this one included.", over_processes="livesum"
    ),
    "strongroom_provider_calls_total": Description(
        "counter", "Calls of a key provider.", ("provider", "operation", "outcome")
    ),
    "strongroom_provider_call_seconds": Description(
        "histogram", "How long a key provider took.", ("provider", "operation"), _CALL_BUCKETS
    ),
    "strongroom_provider_breaker_open": Description(
        "gauge",
        "Processes that do not ask a key provider at present, because it was away.",
        ("provider",),
        over_processes="livesum",
    ),
    "strongroom_cache_requests_total": Description("counter", "Questions to a cache.", ("cache", "outcome")),
    "strongroom_database_wait_seconds": Description(
        "histogram", "How long a transaction waited for its turn on the database.", (), _DATABASE_BUCKETS
    ),
    "strongroom_database_transaction_seconds": Description(
        "histogram", "How long a transaction took, its commit included.", ("kind",), _DATABASE_BUCKETS
    ),
    "strongroom_database_failures_total": Description(
        "counter", "Transactions that the database did not carry out.", ("reason",)
    ),
    "strongroom_audit_entries_total": Description(
        "counter", "Entries committed to the access log.", ("action", "result")
    ),
    "strongroom_audit_failures_total": Description(
        "counter", "Requests that were answered 503 because the access log could not be written."
    ),
    "strongroom_job_rows_total": Description("counter", "Rows that a job worked on.", ("job", "outcome")),
    "strongroom_job_batch_seconds": Description(
        "histogram", "How long one batch of a job took.", ("job",), _BATCH_BUCKETS
    ),
    "strongroom_job_last_success_timestamp_seconds": Description(
        "gauge", "When a batch of a job last ended without a failure, in Unix time.", ("job",)
    ),
}
"""Every metric; docs/operations/monitoring.md lists the same, and a test compares them."""


class Metrics:
    """The numbers of this process, and those of all processes of the server when they are read.

    Safe to use from several threads. Measuring never fails what is measured.

    Args:
        version: the release that runs.

    Attributes:
        is_counted: whether what this process does is in the numbers; not if there was no room to keep them.
    """

    def __init__(self, version: str) -> None:
        # Imported late: see above.
        import prometheus_client  # noqa: PLC0415
        from prometheus_client import values  # noqa: PLC0415

        self._client = prometheus_client
        self._values = values
        self._shared = SharedNumbers.of_environment()
        files = None if self._shared is None else self._shared.files
        self._value_class = values.MutexValue if files is None else value_class(files)
        self.is_counted = self._shared is None or files is not None
        self._registry = prometheus_client.CollectorRegistry()
        self._series: dict[tuple[str, ...], Any] = {}
        self._metrics = {name: self._made(name, described) for name, described in METRICS.items()}
        self._of("strongroom_info", version).set(1)
        self._in_progress = self._of("strongroom_requests_in_progress")

    def render(self) -> bytes:
        """All numbers in Prometheus's text format; none at all if somebody removed the folder of the server."""
        if self._shared is None:
            return self._client.generate_latest(self._registry)
        registry = self._client.CollectorRegistry()
        try:
            self._shared.forget_the_dead()
            self._shared.collect_into(registry)
            return self._client.generate_latest(registry)
        except FileNotFoundError:
            return b""

    def request_began(self) -> None:
        """Note that a request is being answered."""
        self._in_progress.inc()

    def request_ended(self, route: str, method: str, status: int, seconds: float) -> None:
        """Note an answer.

        Args:
            route: the pattern that the path fitted, or ``unmatched``; never the path itself.
            method: the HTTP method, or ``other``.
            status: the HTTP status.
            seconds: since it began.
        """
        self._in_progress.dec()
        self._of("strongroom_requests_total", route, method, str(status)).inc()
        self._of("strongroom_request_seconds", route, method).observe(seconds)

    def provider_call(self, provider: str, operation: str, outcome: str, seconds: float) -> None:
        """Note one call of a key provider."""
        self._of("strongroom_provider_calls_total", provider, operation, outcome).inc()
        self._of("strongroom_provider_call_seconds", provider, operation).observe(seconds)

    def breaker_changed(self, provider: str, *, is_open: bool) -> None:
        """Note whether this process asks a key provider."""
        self._of("strongroom_provider_breaker_open", provider).set(1 if is_open else 0)

    def cache_asked(self, cache: str, outcome: str) -> None:
        """Note one question to a cache: ``hit`` or ``miss``."""
        self._of("strongroom_cache_requests_total", cache, outcome).inc()

    def database_read(self, seconds: float) -> None:
        """Note how long a reading transaction took."""
        self._of("strongroom_database_transaction_seconds", "read").observe(seconds)

    def database_wrote(self, waited: float, seconds: float, entries: Sequence[tuple[str, str]]) -> None:
        """Note a writing transaction.

        Args:
            waited: seconds until it had its turn.
            seconds: how long it took, its commit included.
            entries: action and result of each entry of the access log that it committed.
        """
        self._of("strongroom_database_wait_seconds").observe(waited)
        self._of("strongroom_database_transaction_seconds", "write").observe(seconds)
        for action, result in entries:
            self._of("strongroom_audit_entries_total", action, result).inc()

    def database_failed(self, reason: str) -> None:
        """Note a transaction that was not carried out."""
        self._of("strongroom_database_failures_total", reason).inc()

    def audit_failed(self) -> None:
        """Note a request that was refused because the access log could not be written."""
        self._of("strongroom_audit_failures_total").inc()

    def job_batch(self, job: str, rows_done: int, rows_failed: int, seconds: float) -> None:
        """Note one batch of a job."""
        self._of("strongroom_job_rows_total", job, "done").inc(rows_done)
        self._of("strongroom_job_rows_total", job, "failed").inc(rows_failed)
        self._of("strongroom_job_batch_seconds", job).observe(seconds)

    def job_succeeded(self, job: str, moment: float) -> None:
        """Note when a job did all that it found, in Unix time."""
        self._of("strongroom_job_last_success_timestamp_seconds", job).set(moment)

    def _made(self, name: str, described: Description) -> Any:
        # What is read from several processes must not be read from this one once more.
        options: dict[str, Any] = {"registry": None if self._shared else self._registry}
        if described.buckets:
            options["buckets"] = described.buckets
        if described.kind == "gauge":
            options["multiprocess_mode"] = described.over_processes
        kinds: dict[str, Callable[..., Any]] = {
            "counter": self._client.Counter,
            "gauge": self._client.Gauge,
            "histogram": self._client.Histogram,
        }
        self._values.ValueClass = self._value_class  # where metrics look it up
        return kinds[described.kind](name, described.meaning, described.labels, **options)

    def _of(self, name: str, *labels: str) -> Any:
        # One dictionary instead of prometheus-client's lock and checks on every call.
        key = (name, *labels)
        found = self._series.get(key)
        if found is None:
            metric = self._metrics[name]
            self._values.ValueClass = self._value_class  # where metrics look it up
            found = metric.labels(*map(label_value, METRICS[name].labels, labels)) if labels else metric
            self._series[key] = found
        return found


def label_value(label: str, text: str) -> str:
    """What stands in a label: a word of our own code, or ``other`` for what has not the label's form."""
    return text if _FORMS.get(label, _WORD).fullmatch(text) else "other"
