"""The conformance kit: one black-box suite that shows whether a key provider keeps the promises of the door.

It knows :mod:`keyproviders.interface` and :mod:`keyproviders.errors` and nothing of any backend, and runs without a
test framework: :func:`run` returns a :class:`Report`. ``strongroom keys conformance --provider NAME`` calls it.
"""

from __future__ import annotations

from keyproviders.conformance.bench import SCRATCH_KEY, Bench, Hooks, Subject
from keyproviders.conformance.report import CheckResult, Outcome, Report
from keyproviders.conformance.suite import CHECKS, Check, run

__all__ = [
    "CHECKS",
    "SCRATCH_KEY",
    "Bench",
    "Check",
    "CheckResult",
    "Hooks",
    "Outcome",
    "Report",
    "Subject",
    "run",
]
