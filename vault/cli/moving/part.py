"""An export on its way: ``FILE.part`` beside a state of JSON lines, and at the end, FILE.

::

    {"strongroom_export":1,"server":..,"collection":..,"options":{..}}
    {"cursor":"..","bytes":..,"records":500,"gone":0,"whole":false}      up to this cursor, so many bytes count

Where FILE ends with ``.gz`` each step is a gzip member of its own, so that cutting off what does not count leaves
whole gzip.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from vault.cli.failure import Failure
from vault.cli.moving.locking import locked
from vault.cli.moving.outputs import Output, refuse_existing, sync_folder, unwritable
from vault.cli.moving.state import Plan, json_line

VERSION = 1
_MEMBER = "strongroom_export"
_STEP = {"cursor", "bytes", "records", "gone", "whole"}


@dataclass(frozen=True, slots=True)
class Position:
    """How far an export is.

    Attributes:
        cursor: where the list goes on; None at its beginning, and when all is written.
        records: written so far.
        gone: records that were erased or expired before they could be read.
        is_whole: all is written.
    """

    cursor: str | None = None
    records: int = 0
    gone: int = 0
    is_whole: bool = False


class Part(Protocol):
    """Takes the steps of an export.

    Attributes:
        position: after the last step.
        is_new: no step was taken yet.
    """

    position: Position
    is_new: bool

    def add(self, text: str, position: Position) -> None:
        """Keep a step, whole or not at all."""

    def finish(self) -> None:
        """Say that everything is there."""

    def close(self) -> None:
        """Let go of the files."""


class FilePart:
    """An export into a file for its owner alone, which gets its name when it is whole.

    Args:
        path: the file at the end.
        plan: what must be the same to go on.

    Raises:
        Failure: there is such a file already, another export is at work, or was begun with other options.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self._path = path
        self._part_path = path.with_name(path.name + ".part")
        self._state_path = path.with_name(path.name + ".strongroom-export")
        refuse_existing(path, "--output")
        with ExitStack() as stack:
            stack.callback(os.close, locked(self._state_path, by="export"))
            steps = self._steps(plan)
            self.is_new = not steps
            length = int(steps[-1]["bytes"]) if steps else 0
            if steps:
                last = steps[-1]
                self.position = Position(last["cursor"], last["records"], last["gone"], last["whole"])
            else:
                self.position = Position()
            self._state = Output(self._state_path, length=self._state_length)
            stack.callback(self._state.close)
            if self._state_length == 0:
                refuse_existing(self._part_path, "--output")
                header = {_MEMBER: VERSION, "server": plan.server, "collection": plan.collection}
                self._state.append([json_line(header | {"options": dict(plan.options)})])
                self._state.sync()
            self._part = Output(self._part_path, length=length)
            stack.callback(self._part.close)
            self._stack = stack.pop_all()

    def _steps(self, plan: Plan) -> list[dict[str, Any]]:
        """Read what earlier runs did; nothing if there were none, or if what they wrote is not there any more."""
        try:
            content = self._state_path.read_bytes()
        except OSError as error:
            raise unwritable(self._state_path, error) from error
        whole = content[: content.rfind(b"\n") + 1]
        self._state_length = len(whole)
        if not whole:
            return []
        steps: list[dict[str, Any]]
        try:
            header, *steps = [json.loads(line) for line in whole.splitlines()]
            found = Plan(header["server"], header["collection"], header["options"])
            is_ours = header[_MEMBER] == VERSION and all(step.keys() == _STEP for step in steps)
        except (ValueError, KeyError, TypeError, AttributeError):
            is_ours = False
        if not is_ours:
            raise Failure(
                f"{self._state_path} is not the state of an export of this release, or it is damaged.",
                next_step="Move it and the .part file away, or name another file with --output.",
            )
        if not self._part_path.exists():
            # The last run has ended between naming the file and forgetting this, or somebody has begun to tidy up.
            self._state_length = 0
            return []
        if differences := found.differences(plan):
            raise Failure(
                f"{self._part_path} is of an export with another {', '.join(differences)}.",
                next_step="Give the same options to go on with it, or name another file with --output.",
            )
        return steps

    def add(self, text: str, position: Position) -> None:
        """Keep a step: the bytes first, and when they are safe, the line of the state.

        Raises:
            Failure: there is no room.
        """
        content = text.encode()
        is_packed = self._path.suffix == ".gz" and (content or position.is_whole)
        self._part.append_bytes(gzip.compress(content, mtime=0) if is_packed else content)
        self._part.sync()
        line = {"cursor": position.cursor, "bytes": self._part.length, "records": position.records}
        self._state.append([json_line(line | {"gone": position.gone, "whole": position.is_whole})])
        self._state.sync()
        self.position = position
        self.is_new = False

    def finish(self) -> None:
        """Give the file its name.

        Raises:
            Failure: somebody else has taken it meanwhile.
        """
        refuse_existing(self._path, "--output")
        try:
            self._part_path.rename(self._path)
            sync_folder(self._path)
            self._state_path.unlink()
        except OSError as error:
            raise unwritable(self._path, error) from error

    def close(self) -> None:
        """Let go of the files."""
        self._stack.close()


class StreamPart:
    """An export to standard output: nobody can go on with it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.position = Position()
        self.is_new = True

    def add(self, text: str, position: Position) -> None:
        """Write a step.

        Raises:
            Failure: whoever reads has gone.
        """
        try:
            self._stream.write(text.encode())
            self._stream.flush()
        except OSError as error:
            # Else the interpreter complains once more when it closes the stream.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Failure(f"Standard output cannot be written: {error.strerror}.") from error
        self.position = position

    def finish(self) -> None:
        """All is written."""

    def close(self) -> None:
        """The stream is not ours to close."""
