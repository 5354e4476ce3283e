r"""What an import has done so far: a file of JSON lines beside the source, one line for each finished batch.

::

    {"strongroom_import":1,"id":"5b..","at":..,"server":..,"collection":..,"options":{..}}    first line
    {"source":{"size":..,"sha256":"..","records":..},"at":..}            what there is to import, up to here
    {"batch":1,"records":500,"last_line":501,"imported":498,"refused":2,"tokens":..,"report":..,"at":..}
    {"paused":true,"at":..}                                              nothing is in flight
    {"finished":true,"at":..}                                            everything of the source is done

A line counts when its line feed is there. What it says of the other files was on the medium before it was written.
The key of a batch is made of the import's id and the batch's number, so whoever reads the file can send a batch again
and hear what became of it. Never change what a member means: a later release may have to go on with this file.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vault.cli.moving.outputs import Output


@dataclass(frozen=True, slots=True)
class Plan:
    """What shapes the operations of an import. Two runs with the same plan send the same batches."""

    server: str
    collection: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def differences(self, other: Plan) -> list[str]:
        """Return the names of what is not the same, as options."""
        names = [name for name in ("server", "collection") if getattr(self, name) != getattr(other, name)]
        names += [n for n in {**self.options, **other.options} if self.options.get(n) != other.options.get(n)]
        return [f"--{name.replace('_', '-')}" for name in names]


@dataclass(frozen=True, slots=True)
class Leg:
    """A piece of work that is settled before its first batch: the source up to a size, and the records in that.

    Attributes:
        size: bytes; None for a stream.
        sha256: of these bytes; empty for a stream.
        records: how many rows there are up to here; None for a stream.
    """

    size: int | None
    sha256: str
    records: int | None


@dataclass(frozen=True, slots=True)
class Progress:
    """What is done.

    Attributes:
        batch: the number of the last batch that is finished.
        records: rows that are done with, refused ones included.
        tokens: bytes of the file of tokens that count.
        report: bytes of the report that count.
        at: the time, in seconds since 1970, from which on batches can have been sent whose end is not written here.
        is_settled: nothing is in flight.
    """

    batch: int = 0
    records: int = 0
    last_line: int = 0
    imported: int = 0
    refused: int = 0
    tokens: int = 0
    report: int = 0
    at: float = 0.0
    digest: str = ""
    is_settled: bool = True
    is_finished: bool = False


class State:
    """An import's state file, locked while it is open; use it as a context manager.

    Args:
        output: the file; None if nothing is kept.
        lock: a descriptor that holds the lock, to be closed with the file.
        import_id: random; see ``id``.
        leg: see there.
        progress: see there.

    Attributes:
        id: of the import, random.
        leg: the newest one; None in a new import.
        progress: what is done.
    """

    def __init__(
        self, output: Output | None, *, lock: int, import_id: str, leg: Leg | None, progress: Progress
    ) -> None:
        self._output = output
        self._lock = lock
        self.id = import_id
        self.leg = leg
        self.progress = progress

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._output is not None:
            self._output.close()
            os.close(self._lock)

    @property
    def path(self) -> Path | None:
        """Where it lies; None if nothing is kept."""
        return None if self._output is None else self._output.path

    def begin_leg(self, leg: Leg, *, at: float) -> None:
        """Settle what is to be imported next."""
        source = {"size": leg.size, "sha256": leg.sha256, "records": leg.records}
        self._write({"source": source, "at": at})
        self.leg = leg
        self.progress = replace(self.progress, at=at, is_finished=False, is_settled=True)

    def finish_batch(self, progress: Progress) -> None:
        """Write down that a batch is done, after the other files are durable."""
        done, before = progress, self.progress
        self._write(
            {
                "batch": done.batch,
                "records": done.records - before.records,
                "last_line": done.last_line,
                "imported": done.imported - before.imported,
                "refused": done.refused - before.refused,
                "tokens": done.tokens,
                "report": done.report,
                "at": done.at,
            }
            | ({"digest": done.digest} if done.digest else {})
        )
        self.progress = progress

    def pause(self, *, at: float) -> None:
        """Write down that nothing is in flight."""
        self._write({"paused": True, "at": at})
        self.progress = replace(self.progress, at=at, is_settled=True)

    def finish(self, *, at: float) -> None:
        """Write down that all of the source is done."""
        self._write({"finished": True, "at": at})
        self.progress = replace(self.progress, at=at, is_settled=True, is_finished=True)

    def _write(self, line: dict[str, Any]) -> None:
        if self._output is not None:
            self._output.append([json_line(line)])
            self._output.sync()


def json_line(document: Mapping[str, Any]) -> str:
    """Return a line of the state."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"


def forgetful_state() -> State:
    """Return the state of an import that nobody can go on with: of a stream, or a dry run."""
    return State(None, lock=-1, import_id=secrets.token_hex(16), leg=None, progress=Progress())
