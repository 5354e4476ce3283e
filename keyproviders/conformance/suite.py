"""The list of checks, and the loop that asks them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from keyproviders.conformance import batches, lifecycle, outages, processes, round_trips, secrecy, wrong_bytes
from keyproviders.conformance.bench import Bench, CheckFailedError, Hooks, NotApplicableError, Subject
from keyproviders.conformance.latency import measure
from keyproviders.conformance.report import CheckResult, Latency, Outcome, Report
from keyproviders.errors import KeyProviderError
from keyproviders.interface import Capabilities

__all__ = ["CHECKS", "Check", "run"]

_LARGE_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Check:
    """One promise of the door: a claim, and the function that tries to refute it."""

    name: str
    function: Callable[[Bench], None]


# What retires or ends versions of the scratch key stands last.
CHECKS: tuple[Check, ...] = (
    Check("a generated key opens to itself", round_trips.generated_keys_open),
    Check("generated keys are fresh", round_trips.generated_keys_are_fresh),
    Check("versions 1, 2 and 10 each open what they wrapped", round_trips.several_versions),
    Check("keys of 16 to 64 bytes are wrapped", round_trips.every_promised_length),
    Check("keys of other lengths are refused", round_trips.other_lengths),
    Check("rewrap keeps the data key", round_trips.rewrap_keeps_the_key),
    Check("capabilities are steady and sane", round_trips.capabilities),
    Check("another context is refused where it is bound", round_trips.another_context),
    Check("every flipped byte is rejected", wrong_bytes.flipped),
    Check("every truncated blob is rejected", wrong_bytes.truncated),
    Check("every extended blob is rejected", wrong_bytes.extended),
    Check("another algorithm is rejected", wrong_bytes.another_algorithm),
    Check("another version is rejected", wrong_bytes.another_version),
    Check("a blob of another key is rejected", wrong_bytes.another_key),
    Check("an empty batch is an empty answer", batches.empty),
    Check("results come in the order of the items", batches.order),
    Check("one bad item at first, middle or last spoils only itself", batches.one_bad_item),
    Check("a batch over max_batch comes back whole", batches.over_the_limit),
    Check("an unknown key is not found", lifecycle.unknown_key),
    Check("an unknown version is not found", lifecycle.unknown_version),
    Check("no run-time call makes a key or version", lifecycle.nothing_is_made),
    Check("the run-time door has no verb of administration", lifecycle.no_verbs_of_administration),
    Check("administration refuses what is not there", lifecycle.refusals_of_administration),
    Check("rotation goes on while four threads read", processes.rotation_under_readers),
    Check("two administrators never share a version", processes.two_administrators),
    Check("a forked child and its parent both go on", processes.fork_after_use),
    Check("a reopened door opens what was wrapped before", processes.reopened),
    Check("health is what the canary says", processes.health),
    Check("a closed door says try later, and closes twice", processes.closed),
    Check("no secret is shown or logged", secrecy.nothing_secret_shows),
    Check("a disturbed provider finds its way back", outages.disturbed),
    Check("a sealed provider says try later, and recovers", outages.sealed),
    Check("an expired credential is renewed", outages.expired_credential),
    Check("a slow provider is given up in time", outages.slow),
    Check("a lying provider is not believed", outages.lying),
    Check("a retired version is refused, the next one works", lifecycle.retired),
    Check("a destroyed version is gone and its number spent", lifecycle.destroyed),
)


def run(
    subject: Subject,
    *,
    hooks: Hooks | None = None,
    only: Collection[str] | None = None,
    samples: int = 50,
    large_batch: int = _LARGE_BATCH,
    progress: Callable[[CheckResult], object] = lambda _: None,
) -> Report:
    """Ask every check of a provider and report what came of it. Raises nothing that the provider raises.

    Args:
        subject: the provider under test.
        hooks: what the caller can do to its backend.
        only: names of checks; the others are left out.
        samples: how many calls each figure of latency is taken from; 0 leaves them out.
        large_batch: how many items the largest batch has.
        progress: called after each check.
    """
    bench = Bench(subject, hooks or Hooks(), large_batch=large_batch)
    results = []
    for check in _chosen(bench, only):
        results.append(_asked(check, bench))
        progress(results[-1])
    latency: dict[str, Latency] = {}
    if samples:
        # Measuring is a check, too: what fails here must not be lost.
        measuring = Check("latency is measured", lambda each: latency.update(measure(each, samples=samples)))
        results.append(_asked(measuring, bench))
        progress(results[-1])
    capabilities = _capabilities(bench)
    left_behind = tuple(_clean_up(bench))
    return Report(subject.name, capabilities, tuple(results), latency, left_behind)


def _chosen(bench: Bench, only: Collection[str] | None) -> Iterator[Check]:
    if bench.subject.open_administration is not None:
        yield Check("administration makes a key", lambda each: each.make_scratch_key())
    yield from (check for check in CHECKS if only is None or check.name in only)


def _asked(check: Check, bench: Bench) -> CheckResult:
    start = time.perf_counter()
    outcome, reason = Outcome.OK, ""
    try:
        try:
            check.function(bench)
        finally:
            bench.close_doors()
    except NotApplicableError as error:
        outcome, reason = Outcome.NOT_APPLICABLE, str(error)
    except (CheckFailedError, KeyProviderError) as error:
        outcome, reason = Outcome.FAILED, _sentence(error)
    except Exception as error:  # noqa: BLE001 - the code under test may raise anything; it ends this check only
        # Only its name: nobody promised that a stranger's text is free of secrets.
        outcome, reason = (
            Outcome.FAILED,
            f"{type(error).__name__} crossed the door, which is no KeyProviderError",
        )
    return CheckResult(check.name, outcome, reason, time.perf_counter() - start)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, CheckFailedError) else f"{type(error).__name__}: {error}"


def _capabilities(bench: Bench) -> Capabilities | None:
    found: list[Capabilities] = []
    _asked(Check("capabilities", lambda each: found.append(each.provider().capabilities())), bench)
    return found[0] if found else None


def _clean_up(bench: Bench) -> Iterator[str]:
    if bench.subject.open_administration is None:
        return
    for key in (bench.key, bench.other_key):
        kept: list[str] = []
        ended = _asked(Check("clean up", functools.partial(lifecycle.end, key=key, kept=kept)), bench)
        yield from kept
        if ended.outcome is Outcome.FAILED:
            yield f"key {key!r}: {ended.reason}"
