"""The folder in which the processes of one server keep their numbers, as one of them sees it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vault.telemetry.values import RESERVED_BYTES, NumbersFile

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder to the processes of a server."""
_HOLD = "{pid}.alive"


class SharedNumbers:
    """The numbers of all processes, and the files of this one.

    Args:
        folder: private to this user.

    Attributes:
        files: those of this process by kind; None if there is no room for them, or another instance has them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.files = self._open_files()

    @classmethod
    def of_environment(cls) -> SharedNumbers | None:
        """The folder that the server named to its processes; None if there is none, for tests and commands."""
        folder = os.environ.get(FOLDER_VARIABLE)
        return None if folder is None else cls(Path(folder))

    def forget_the_dead(self) -> None:
        """Take back what processes that were killed said of their present; what they counted stays."""
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  # see metrics.py

        for pid in self._dead():
            mark_process_dead(pid, str(self._folder))  # type: ignore[no-untyped-call]
            (self._folder / _HOLD.format(pid=pid)).unlink(missing_ok=True)

    def collect_into(self, registry: CollectorRegistry) -> None:
        """Let this registry give the sums over all processes.

        Raises:
            FileNotFoundError: somebody removed the folder.
        """
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415  # see metrics.py

        self._folder.stat()
        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]

    def _open_files(self) -> dict[str, NumbersFile] | None:
        pid = os.getpid()
        try:
            if not self._hold(pid):
                return None  # this very process has its files already, and two would write over each other
            # A process of this number may have been killed earlier.
            (self._folder / f"gauge_livesum_{pid}.db").unlink(missing_ok=True)
            return {
                kind: NumbersFile(self._folder / f"{kind}_{pid}.db", size)
                for kind, size in RESERVED_BYTES.items()
            }
        except OSError:
            return None

    def _hold(self, pid: int) -> bool:
        """Say that this process lives; False if it has said so before."""
        # The kernel lets go of the lock when the process ends, however it ends: a process number alone could be
        # another's soon. So the file is never closed.
        hold = os.open(self._folder / _HOLD.format(pid=pid), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(hold)
            return False
        return True

    def _dead(self) -> Iterator[int]:
        for hold in self._folder.glob(_HOLD.format(pid="*")):
            pid = int(hold.name.partition(".")[0])
            if pid != os.getpid() and not _is_held(hold):
                yield pid


def _is_held(file: Path) -> bool:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True  # another process has just forgotten it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
