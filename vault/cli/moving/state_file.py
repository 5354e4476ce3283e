"""Opening an import's state: a new one, or one to go on with, and every reason not to."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vault.cli.failure import Failure
from vault.cli.moving.locking import locked
from vault.cli.moving.outputs import Output, unwritable
from vault.cli.moving.state import Leg, Plan, Progress, State, json_line

VERSION = 1
_MEMBER = "strongroom_import"
_MAX_HEADER_BYTES = 1024 * 1024
# The header, and what there is to import. Nothing is sent before both are there.
_LINES_OF_A_BEGINNING = 2


def is_begun(path: Path) -> bool:
    """Say whether there is a state to go on with: one that has settled what is to be imported.

    Raises:
        Failure: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(_MAX_HEADER_BYTES).count(b"\n") >= _LINES_OF_A_BEGINNING
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}.") from error


def open_state(path: Path, plan: Plan, *, at: float) -> State:
    """Open a state to go on with it, or begin a new one, which also takes the place of one that has begun nothing.

    Raises:
        Failure: it is of an import with other options, in use, or no state at all.
    """
    lock = locked(path, by="import")
    try:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole.count(b"\n") >= _LINES_OF_A_BEGINNING:
            return _continued(path, whole, plan, lock)
        _refuse_foreign(path, content)
        return _begun(path, plan, lock, at)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, OSError):
            raise unwritable(path, error) from error
        raise


def _begun(path: Path, plan: Plan, lock: int, at: float) -> State:
    import_id = secrets.token_hex(16)
    header = {_MEMBER: VERSION, "id": import_id, "at": at, "server": plan.server}
    header |= {"collection": plan.collection, "options": dict(plan.options)}
    output = Output(path, length=0)
    output.append([json_line(header)])
    output.sync()
    return State(output, lock=lock, import_id=import_id, leg=None, progress=Progress(at=at))


def _continued(path: Path, whole: bytes, plan: Plan, lock: int) -> State:
    try:
        header, *lines = [json.loads(line) for line in whole.splitlines()]
        version = header[_MEMBER]
        found = Plan(header["server"], header["collection"], header["options"])
        import_id = str(header["id"])
        leg, progress = _told(lines, header["at"])
    except (ValueError, KeyError, TypeError):
        raise _foreign(path) from None
    if version != VERSION:
        raise Failure(
            f"{path} was written by another release of Strongroom.",
            next_step="Go on with the release that began this import.",
        )
    if differences := found.differences(plan):
        raise Failure(
            f"{path} is the state of an import with another {', '.join(differences)}.",
            next_step="To go on with it, give the options that it was begun with. To begin another import, name "
            "another state file: --state OTHER.",
        )
    output = Output(path, length=len(whole))
    return State(output, lock=lock, import_id=import_id, leg=leg, progress=progress)


def _told(lines: Iterable[dict[str, Any]], begun_at: float) -> tuple[Leg | None, Progress]:
    leg: Leg | None = None
    progress = Progress(at=begun_at)
    for line in lines:
        progress = replace(progress, at=line["at"], is_settled=True)
        if "source" in line:
            source = line["source"]
            leg = Leg(source["size"], source["sha256"], source["records"])
            # From here on batches can be in flight until a line says something else.
            progress = replace(progress, is_settled=False, is_finished=False)
        elif "batch" in line:
            progress = replace(
                progress,
                batch=line["batch"],
                records=progress.records + line["records"],
                last_line=line["last_line"],
                imported=progress.imported + line["imported"],
                refused=progress.refused + line["refused"],
                tokens=line["tokens"],
                report=line["report"],
                digest=line.get("digest", ""),
                is_settled=False,
            )
        elif "finished" in line:
            progress = replace(progress, is_finished=True)
        elif "paused" not in line:
            raise KeyError("a line that this release does not know")
    return leg, progress


def _refuse_foreign(path: Path, content: bytes) -> None:
    if not content.startswith(f'{{"{_MEMBER}"'.encode()[: len(content)]):
        raise _foreign(path)


def _foreign(path: Path) -> Failure:
    return Failure(
        f"{path} is not the state of an import, or it is damaged.",
        next_step="Name another state file with --state; this one is left as it is.",
    )
