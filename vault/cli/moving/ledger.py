"""Writing down what became of a batch: tokens and refusals first, and when they are safe, the line of the state."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vault.cli.moving.batches import Batch
from vault.cli.moving.outputs import Output, csv_line
from vault.cli.moving.sending import Outcome
from vault.cli.moving.state import State


class Ledger:
    """The files of an import; use it as a context manager.

    Args:
        state: how far it is.
        tokens: where the tokens go, or None.
        key: what the customer's own key is called, or None.
        report: where refusals go; made with the first one.

    Raises:
        Failure: a file cannot be written.
    """

    def __init__(self, state: State, *, tokens: Path | None, key: str | None, report: Path) -> None:
        self._state = state
        self._has_key = key is not None
        self._report_path = report
        self._stack = ExitStack()
        self._tokens = None
        self._report: Output | None = None
        if tokens is not None:
            heading = csv_line(["line", *([key] if key is not None else []), "token"])
            self._tokens = self._opened(tokens, state.progress.tokens, heading)
        if state.progress.report:
            self._report = self._opened(report, state.progress.report)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def finish(self, batch: Batch, outcomes: Iterable[Outcome], *, at: float) -> tuple[int, int]:
        """Write down the outcomes of the next batch.

        Args:
            batch: the one after the last that was finished.
            outcomes: of its entries.
            at: since when later batches may be on their way.

        Returns:
            How many records were stored, and how many refused.

        Raises:
            Failure: there is no room. Nothing of the batch counts then; it can be finished again.
        """
        stored: list[str] = []
        refused: list[str] = []
        imported_count = refused_count = 0
        for outcome in outcomes:
            if outcome.refusals:
                refused_count += 1
                refused.extend(_report_lines(outcome))
                continue
            imported_count += 1
            key = [outcome.entry.key] if self._has_key else []
            stored.append(csv_line([str(outcome.entry.line), *key, str(outcome.token)]))
        if self._tokens is not None:
            self._tokens.append(stored)
            self._tokens.sync()
        if refused:
            self._report = self._report or self._opened(self._report_path, 0)
            self._report.append(refused)
            self._report.sync()
        done = self._state.progress
        self._state.finish_batch(
            replace(
                done,
                batch=batch.number,
                records=done.records + len(batch.entries),
                last_line=batch.entries[-1].last_line,
                imported=done.imported + imported_count,
                refused=done.refused + refused_count,
                tokens=0 if self._tokens is None else self._tokens.length,
                report=0 if self._report is None else self._report.length,
                at=at,
                digest=batch.digest,
                is_settled=False,
            )
        )
        return imported_count, refused_count

    def _opened(self, path: Path, length: int, heading: str = "") -> Output:
        output = Output(path, length=length, heading=heading)
        self._stack.callback(output.close)
        return output


def _report_lines(outcome: Outcome) -> Iterable[str]:
    entry = outcome.entry
    for refusal in outcome.refusals:
        line: dict[str, Any] = {"line": entry.line}
        if entry.last_line != entry.line:
            line["last_line"] = entry.last_line
        line |= {"pointer": refusal.pointer, "rule": refusal.rule}
        yield json.dumps(line, separators=(",", ":")) + "\n"
