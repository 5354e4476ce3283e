"""One process at a time: the file lock round everything that a token does not bear from two processes at once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from keyproviders.errors import ProviderMisconfiguredError, ProviderUnavailableError

__all__ = ["ProcessLock"]

_POLL_SECONDS = 0.01


class ProcessLock:
    """An ``flock`` that a process may take again while it holds it. Used only within this process's own turn.

    SoftHSM 2.6.1 rewrites the token's file at login: half of the logins of two processes at once failed without it.

    Args:
        path: the lock file; it is made if it is missing and stays.
        provider: the configured name of the provider.
        wait_seconds: how long to wait for another process.
    """

    def __init__(self, path: Path, *, provider: str, wait_seconds: float) -> None:
        self._path = path
        self._provider = provider
        self._wait_seconds = wait_seconds
        self._depth = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock.

        Raises:
            ProviderMisconfiguredError: the lock file cannot be made or opened.
            ProviderUnavailableError: another process held it all the time.
        """
        if self._depth:
            yield
            return
        descriptor = self._open()
        try:
            self._wait(descriptor)
            self._depth = 1
            try:
                yield
            finally:
                self._depth = 0
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise ProviderMisconfiguredError(
                f"the lock file {self._path} cannot be opened ({error.strerror}); set lock_folder to a folder "
                "that every process using this token may write to",
                provider=self._provider,
            ) from error

    def _wait(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in {errno.EWOULDBLOCK, errno.EINTR}:
                    raise ProviderMisconfiguredError(
                        f"the file system of {self._path} has no locks ({error.strerror}); set lock_folder",
                        provider=self._provider,
                    ) from error
            else:
                return
            if time.monotonic() >= deadline:
                raise ProviderUnavailableError(
                    f"another process has been logging in to the token for {self._wait_seconds:g} s "
                    f"(it holds {self._path})",
                    provider=self._provider,
                )
            time.sleep(_POLL_SECONDS)
