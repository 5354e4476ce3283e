"""What a run of the conformance kit found, as values and as JSON."""

from __future__ import annotations

import enum
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from keyproviders.interface import Capabilities

__all__ = ["FORMAT", "CheckResult", "Latency", "Outcome", "Report"]

FORMAT = "strongroom-conformance/1"
"""The first member of every report."""


class Outcome(enum.StrEnum):
    """What came of one check."""

    OK = "ok"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check: its name, its outcome and, unless it is ok, why.

    Attributes:
        name: what was checked, as a claim.
        outcome: whether the claim holds.
        reason: one sentence without secrets; empty if the outcome is ok.
        seconds: how long it took.
    """

    name: str
    outcome: Outcome
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Latency:
    """How long one call with one item took, in milliseconds, over so many samples."""

    samples: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    most_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Take the percentiles of at least one measurement (nearest rank)."""
        ordered = sorted(1000 * each for each in seconds)

        def rank(percent: int) -> float:
            return round(ordered[max(0, -(-percent * len(ordered) // 100) - 1)], 4)

        return cls(len(ordered), rank(50), rank(90), rank(99), rank(100))


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one run.

    Attributes:
        provider: the configured name of the provider.
        capabilities: what it says it can do; None if it could not be opened.
        results: one per check, in the order in which they ran.
        latency: by call (``generate``, ``wrap``, ``unwrap``, ``rewrap``); empty if it was not measured.
        left_behind: what the kit made and could not end, one sentence each.
    """

    provider: str
    capabilities: Capabilities | None
    results: tuple[CheckResult, ...]
    latency: dict[str, Latency]
    left_behind: tuple[str, ...]

    @property
    def is_conformant(self) -> bool:
        """Whether no check failed, and at least one could be asked."""
        outcomes = {each.outcome for each in self.results}
        return Outcome.OK in outcomes and Outcome.FAILED not in outcomes

    @property
    def failed(self) -> tuple[CheckResult, ...]:
        """The checks that failed."""
        return tuple(each for each in self.results if each.outcome is Outcome.FAILED)

    def as_json(self) -> str:
        """Return the report as one JSON object, indented."""
        document: dict[str, Any] = {
            "format": FORMAT,
            "provider": self.provider,
            "conformant": self.is_conformant,
            "capabilities": None if self.capabilities is None else asdict(self.capabilities),
            "latency": {call: asdict(each) for call, each in self.latency.items()},
            "results": [{**asdict(each), "seconds": round(each.seconds, 3)} for each in self.results],
            "left_behind": list(self.left_behind),
        }
        return json.dumps(document, indent=2)
