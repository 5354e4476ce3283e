"""Numbers that several processes of one server write into a folder, so that any of them can show the sum.

prometheus-client maps files of that folder into memory and grows them sparsely. Writing to a page for which the file
system has no room left ends the process by SIGBUS; so each process reserves the room for all it can ever write when it
starts, and one that cannot get it measures nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder to the processes of a server; prometheus-client reads it, too."""
RESERVED_BYTES = {
    "histogram": 512 * 1024,
    "counter": 512 * 1024,
    "gauge_livesum": 64 * 1024,
    "gauge_max": 64 * 1024,
}
"""What each kind of metric gets in each process: more than all label values together need, which a test counts."""
_HOLD = "{pid}.alive"


class SharedValues:
    """The folder as one process sees it.

    Args:
        folder: private to this user.

    Attributes:
        is_writing: whether this process has the room to take part.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hold = -1
        self.is_writing = self._take_part()

    @classmethod
    def of_environment(cls) -> SharedValues | None:
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
        """Let this registry give the sums over all processes."""
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415  # see metrics.py

        MultiProcessCollector(registry, str(self._folder))  # type: ignore[no-untyped-call]

    def _take_part(self) -> bool:
        pid = os.getpid()
        # A process of this number may have been killed earlier.
        (self._folder / f"gauge_livesum_{pid}.db").unlink(missing_ok=True)
        try:
            for kind, size in RESERVED_BYTES.items():
                _reserve(self._folder / f"{kind}_{pid}.db", size)
            self._hold = _held(self._folder / _HOLD.format(pid=pid))
        except OSError:
            return False
        return True

    def _dead(self) -> Iterator[int]:
        for hold in self._folder.glob(_HOLD.format(pid="*")):
            pid = int(hold.name.partition(".")[0])
            if pid != os.getpid() and not _is_held(hold):
                yield pid


def _reserve(file: Path, size: int) -> None:
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError:
        file.unlink()
        raise
    finally:
        os.close(descriptor)


def _held(file: Path) -> int:
    # The kernel lets go of it when this process ends, however it ends: a process number alone could be another's soon.
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


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
