"""The run of an import: check, send, write down; and go on where an earlier run was ended, however that was."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from vault.cli.connection import explained
from vault.cli.failure import Failure
from vault.cli.moving import state_file
from vault.cli.moving.batches import Batch, Digest, batches
from vault.cli.moving.ledger import Ledger
from vault.cli.moving.options import ImportOptions
from vault.cli.moving.outputs import refuse_existing
from vault.cli.moving.patience import Patience, StoppedError
from vault.cli.moving.progress import Display, Meter
from vault.cli.moving.reading import Reading
from vault.cli.moving.sending import KEY_SECONDS, Outcome, Sender
from vault.cli.moving.source import Source
from vault.cli.moving.state import Leg, State, forgetful_state
from vault.cli.moving.stopping import Stop
from vault.cli.moving.twins import Twins
from vault.client import Client, CollectionInfo, StrongroomError
from vault.core.schema_rules import declared_names

_GO_ON = "Then run the same command again: it goes on where it stopped."


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How an import, or one run of it, ended.

    Attributes:
        imported: records stored, by all runs.
        refused: lines refused, by all runs.
        fresh: lines that this run is done with.
        seconds: what this run took, without the check.
        is_finished: False if somebody stopped it.
        is_settled: False if batches may be stored of which nothing is written down yet.
        was_finished: there was nothing to do.
        grown_bytes: what the file has got meanwhile, and nobody has read.
        open_line: a last line that was imported as it stood, and has gone on growing; 0 if there is none.
    """

    imported: int
    refused: int
    fresh: int
    seconds: float
    is_finished: bool
    is_settled: bool = True
    was_finished: bool = False
    grown_bytes: int = 0
    open_line: int = 0


@dataclass(frozen=True, slots=True)
class _Flight:
    batch: Batch
    future: Future[tuple[Outcome, ...]]
    sent_at: float


class Import:
    """One run of an import.

    Args:
        options: what is asked for.
        client: makes no tries of its own.
        server: its address, as the options name it.
        display: shows how far it is.
        stop: set when somebody wants to stop.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        options: ImportOptions,
        client: Client,
        *,
        server: str,
        display: Display,
        stop: Stop,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._options = options
        self._client = client
        self._server = server
        self._display = display
        self._stop = stop
        self._clock = clock

    def run(self, source: Source) -> Summary:
        """Import what there is to import.

        Raises:
            Failure: the file, an output or the server does not allow to go on; the sentence says what to do.
        """
        options = self._options
        collection = self._client.collection(options.collection)
        reading = Reading(source, options, collection)
        with ExitStack() as stack:
            try:
                state, leg = self._begun_or_continued(reading, source, stack)
            except StoppedError:
                return _summary(forgetful_state(), 0, 0.0)
            if leg is None:
                return _summary(state, 0, 0.0, was_finished=True)
            ledger = stack.enter_context(
                Ledger(state, tokens=options.tokens, key=options.key, report=options.report)
            )
            twins = None
            if options.is_dry_run:
                twins = stack.enter_context(Twins(collection.schema, collection.settings.default_region))
            return self._send_all(reading, leg, state, ledger, twins, collection)

    def _begun_or_continued(
        self, reading: Reading, source: Source, stack: ExitStack
    ) -> tuple[State, Leg | None]:
        options = self._options
        is_begun = options.state is not None and state_file.is_begun(options.state)
        leg: Leg | None = Leg(None, "", None)
        if not is_begun:
            refuse_existing(options.tokens, "--tokens")
            refuse_existing(options.report, "--refused")
            # Before there is a state: a file that cannot be imported leaves nothing behind.
            if source.is_file:
                self._display.say("checking", f"Checking {source.name}.", bytes=source.size())
                leg = reading.check(self._stop)
        state = stack.enter_context(
            forgetful_state()
            if options.state is None
            else state_file.open_state(options.state, options.plan(self._server), at=self._clock())
        )
        if is_begun:
            return state, self._continued(reading, state)
        if leg is not None:
            state.begin_leg(leg, at=self._clock())
        return state, leg

    def _continued(self, reading: Reading, state: State) -> Leg | None:
        """Return what there is to go on with, or None if all of it is done."""
        leg, done = state.leg, state.progress
        if leg is None:
            return None
        reading.check_same(leg)
        if done.is_finished:
            if reading.grown_by(leg) == 0:
                return None
            self._display.say("grown", "The file has grown since it was imported: going on with what is new.")
            more = reading.check(self._stop)
            leg = Leg(more.size, more.sha256, max(more.records or 0, done.records))
            state.begin_leg(leg, at=self._clock())
            return leg
        self._check_settled(state)
        self._display.say(
            "going-on",
            f"Going on after line {done.last_line}: {done.records:,} records are done.",
            done=done.records,
            last_line=done.last_line,
        )
        return leg

    def _check_settled(self, state: State) -> None:
        done = state.progress
        if done.is_settled or self._options.is_resend or self._clock() - done.at < KEY_SECONDS:
            return
        since = datetime.fromtimestamp(done.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        raise Failure(
            f"This import ended in the middle of a batch, more than {KEY_SECONDS // 3600} hours ago. The server "
            "remembers for 24 hours which batches it had; whether it has stored those after line "
            f"{done.last_line} is not known any more.",
            next_step=f"Look which records were created after {since} and are not in the file of tokens "
            '(docs/operations/moving-in.md, "After more than a day"). Then pass --resend: it sends these batches '
            "again, and values that must be unique are refused where they are stored already.",
        )

    def _send_all(
        self,
        reading: Reading,
        leg: Leg,
        state: State,
        ledger: Ledger,
        twins: Twins | None,
        collection: CollectionInfo,
    ) -> Summary:
        before = state.progress
        meter = Meter(self._display, done=before.records, refused=before.refused, total=leg.records)
        sender = Sender(
            self._client,
            collection.name,
            import_id=state.id,
            declared=declared_names(collection.schema),
            is_dry_run=self._options.is_dry_run,
            patience=Patience(self._stop, meter),
            clock=self._clock,
        )
        digest = Digest(is_wanted=leg.size is None and state.path is not None)
        entries = reading.entries(leg, skip=before.records, digest=digest, expected=before.digest)
        crew = _Crew(sender, ledger, twins, meter, state, self._clock)
        is_all_sent = False
        with ThreadPoolExecutor(self._options.parallel, thread_name_prefix="import") as pool:
            try:
                for batch in batches(
                    entries, first_number=before.batch + 1, most_entries=self._options.batch, digest=digest
                ):
                    crew.finish_down_to(self._options.parallel - 1)
                    if self._stop.is_set():
                        break
                    crew.send(pool, batch)
                else:
                    is_all_sent = True
                crew.finish_down_to(0)
            except StoppedError:
                return _summary(state, before.records, meter.count.seconds, is_settled=False)
            except StrongroomError as error:
                self._stop.set()
                raise self._refused(error, crew, state) from error
            finally:
                # Whoever still waits for the server in another thread does not wait any longer.
                self._stop.set()
        if not is_all_sent:
            state.pause(at=self._clock())
            return _summary(state, before.records, meter.count.seconds)
        state.finish(at=self._clock())
        grown = reading.grown_by(leg)
        return _summary(
            state,
            before.records,
            meter.count.seconds,
            grown_bytes=grown,
            open_line=state.progress.last_line if grown and reading.is_open_ended else 0,
        )

    def _refused(self, error: StrongroomError, crew: _Crew, state: State) -> Failure:
        """Say why it cannot go on; the state remembers whether anything is unsettled."""
        if crew.is_settled_after(error):
            state.pause(at=self._clock())
        said = explained(error)
        keeps = " " + _GO_ON if self._options.state is not None else ""
        return Failure(
            f"{said.message} {state.progress.imported:,} records are imported so far.",
            details=said.details,
            next_step=said.next_step + keeps,
            exit_code=said.exit_code,
        )


class _Crew:
    """The batches that are on their way, in the order of the file."""

    def __init__(
        self,
        sender: Sender,
        ledger: Ledger,
        twins: Twins | None,
        meter: Meter,
        state: State,
        clock: Callable[[], float],
    ) -> None:
        self._sender = sender
        self._ledger = ledger
        self._twins = twins
        self._meter = meter
        self._state = state
        self._clock = clock
        self._flights: deque[_Flight] = deque()

    def send(self, pool: ThreadPoolExecutor, batch: Batch) -> None:
        self._flights.append(_Flight(batch, pool.submit(self._sender.send, batch), self._clock()))

    def finish_down_to(self, most: int) -> None:
        """Wait for the oldest batches and write them down, until so many are on their way."""
        while len(self._flights) > most:
            outcomes = self._flights[0].future.result()
            flight = self._flights.popleft()
            if self._twins is not None:
                outcomes = tuple(self._twins.judged(outcome) for outcome in outcomes)
            # The age of what remains on its way decides whether the server can still know it.
            at = min((other.sent_at for other in self._flights), default=self._clock())
            _, refused = self._ledger.finish(flight.batch, outcomes, at=at)
            self._meter.add(done=len(outcomes), refused=refused)

    def is_settled_after(self, error: StrongroomError) -> bool:
        """Wait for what is on its way, and say whether the server has refused all of it, whole."""
        errors = [error, *(flight.future.exception() for flight in self._flights)]
        return all(isinstance(each, StrongroomError) and not each.outcome_unknown for each in errors)


def _summary(
    state: State,
    earlier: int,
    seconds: float,
    *,
    is_settled: bool = True,
    was_finished: bool = False,
    grown_bytes: int = 0,
    open_line: int = 0,
) -> Summary:
    done = state.progress
    return Summary(
        imported=done.imported,
        refused=done.refused,
        fresh=done.records - earlier,
        seconds=seconds,
        is_finished=done.is_finished,
        is_settled=is_settled,
        was_finished=was_finished,
        grown_bytes=grown_bytes,
        open_line=open_line,
    )
