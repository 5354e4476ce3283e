"""A key file on disk: read only if nobody else may, replaced whole or not at all, by one administrator at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shlex
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from keyproviders.errors import KeyProviderError, ProviderMisconfiguredError, ProviderUnavailableError
from keyproviders.key_file_format import KeyFileContent, KeyFileLabel, decode, encode
from keyproviders.key_file_passphrase import Passphrase

__all__ = ["KeyFile", "Signature"]

Signature = tuple[int, ...] | None
"""Tells one content of the file from the next by stat alone. None: too young to tell, so always read."""

_ALLOWED_MODES = (0o600, 0o400)
_LONGEST_FILE_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 64 * 1024
_LOCK_SECONDS = 10.0
_LOCK_POLL_SECONDS = 0.02
# Two changes within one tick of the file system's clock can leave every field that stat shows the same (the inode
# number is free again after the first). So a file that was changed this shortly ago is not yet recognised by stat.
_SETTLED_NANOSECONDS = 100_000_000
_NO_FILE: tuple[int, ...] = ()


class KeyFile:
    """The key file of one provider.

    Args:
        path: where it is.
        provider: the configured name of the provider.
        passphrase: what its keys are sealed by, if the configuration names one.
        lock_seconds: how long an administrator waits for another one.
    """

    def __init__(
        self,
        path: Path,
        *,
        provider: str,
        passphrase: Passphrase | None = None,
        lock_seconds: float = _LOCK_SECONDS,
    ) -> None:
        self.path = path
        self.passphrase = passphrase
        self.label = KeyFileLabel(provider, path)
        self._lock_seconds = lock_seconds

    def signature(self) -> Signature:
        """Describe the file as it is now, without opening it."""
        try:
            return _signature(self.path.stat())
        except OSError:
            return _NO_FILE

    def exists(self) -> bool:
        """Whether anything, even a broken symbolic link, is at the path."""
        return os.path.lexists(self.path)

    def read(self) -> tuple[KeyFileContent, Signature]:
        """Return the content and its signature, if the file is private to us and whole.

        Raises:
            ProviderMisconfiguredError: missing, not ours, open to others, damaged or no key file; locked by a
                passphrase where the configuration names none, or the other way round.
            ProviderCredentialError: the passphrase is another one.
            ProviderUnavailableError: the disk failed.
        """
        raw, signature = self._raw()
        return decode(raw, self.label, self.passphrase), _settled(signature)

    def back_up(self, copy: Path) -> None:
        """Write a copy that is whole, private and durable when this returns. Call it inside :meth:`locked` only.

        Raises:
            ProviderMisconfiguredError: the file is not sound, so there is nothing worth keeping; something is at
                the place of the copy, which is left alone; or it cannot be written there.
            ProviderUnavailableError: the disk is full or failed. No copy is left.
        """
        raw, _ = self._raw()
        decode(raw, self.label, self.passphrase)
        temporary = copy.with_name(f".{copy.name}.{secrets.token_hex(8)}.tmp")
        try:
            # Ours from here on: nothing that was there is replaced.
            os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError as error:
            raise ProviderMisconfiguredError(
                f"{copy} exists already and is not overwritten; name a new file for the backup",
                provider=self.label.provider,
            ) from error
        except OSError as error:
            raise self._cannot(f"copy to {copy} the", error) from error
        try:
            _write_new(temporary, raw)
            temporary.replace(copy)
            _sync_folder(copy.parent)
        except OSError as error:
            for path in (temporary, copy):
                with contextlib.suppress(OSError):
                    path.unlink()
            raise self._cannot(f"copy to {copy} the", error) from error

    def _raw(self) -> tuple[bytes, tuple[int, ...]]:
        try:
            # O_NONBLOCK: opening a named pipe must not wait for a writer.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError as error:
            raise self._cannot("open", error) from error
        try:
            # Asked of the descriptor, not of the path: what is checked is what is read.
            status = os.fstat(descriptor)
            self._check_private(status)
            raw = _read_up_to(_LONGEST_FILE_BYTES + 1, descriptor)
        except OSError as error:
            raise self._cannot("read", error) from error
        finally:
            os.close(descriptor)
        if len(raw) > _LONGEST_FILE_BYTES:
            raise self.label.refusal("is not a Strongroom key file: it is too long for one")
        return raw, _signature(status)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other administrator of this file out, in this process and in others.

        The lock is on a file of its own (``PATH.lock``), which stays: the key file is replaced by each change,
        and a lock on a file that was replaced excludes nobody.

        Raises:
            ProviderUnavailableError: another administrator did not finish in time.
            ProviderMisconfiguredError: the lock file cannot be made.
        """
        target = self._target()
        try:
            descriptor = os.open(
                f"{target}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as error:
            raise self._cannot("lock", error) from error
        try:
            self._wait_for_lock(descriptor)
            yield
        finally:
            os.close(descriptor)  # and with it the lock

    def replace(self, content: KeyFileContent, passphrase: Passphrase | None) -> None:
        """Put a new content in place, durable when this returns. Call it inside :meth:`locked` only.

        Raises:
            ProviderUnavailableError: the disk is full or failed. The old file is untouched, unless the sentence
                says that the new one is in place.
            ProviderMisconfiguredError: the folder may not be written.
        """
        raw = encode(content, passphrase)
        target = self._target()
        self._remove_leftovers(target)
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
        try:
            _write_new(temporary, raw)
            temporary.replace(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise self._cannot("write", error) from error
        try:
            _sync_folder(target.parent)
        except OSError as error:
            raise ProviderUnavailableError(
                f"key file {self.path} is written and in place, but the disk did not confirm it: "
                "it may be the old one again after a power failure",
                provider=self.label.provider,
            ) from error

    def make_folder(self) -> None:
        """Make the folder of the file, closed to everyone else, if it is missing.

        Raises:
            ProviderMisconfiguredError: it cannot be made.
        """
        folder = self._target().parent
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot("make the folder of", error) from error

    def _target(self) -> Path:
        # A path that is a symbolic link stays one: its target is replaced, and the lock lies beside the target.
        return Path(os.path.realpath(self.path))

    def _check_private(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise self.label.refusal("is not a Strongroom key file: it is not a regular file")
        if status.st_uid != os.geteuid():
            raise self.label.refusal(
                f"belongs to user id {status.st_uid}, but Strongroom runs as user id {os.geteuid()}; "
                f"give it over: chown {os.geteuid()} {shlex.quote(str(self.path))}"
            )
        mode = stat.S_IMODE(status.st_mode)
        if mode not in _ALLOWED_MODES:
            raise self.label.refusal(
                f"has mode {mode:04o}; others could read or change it. Close it: chmod 600 {shlex.quote(str(self.path))}"
            )

    def _wait_for_lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + self._lock_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() >= deadline:
                    raise ProviderUnavailableError(
                        f"key file {self.path} is being changed by another administrator; "
                        f"waited {self._lock_seconds:g} seconds for {self.path}.lock",
                        provider=self.label.provider,
                    ) from error
                time.sleep(_LOCK_POLL_SECONDS)
            except OSError as error:
                raise self._cannot("lock", error) from error
            else:
                return

    def _remove_leftovers(self, target: Path) -> None:
        # An administrator that was killed before the rename left a file with keys in it. Nobody else can be writing
        # one now: we hold the lock.
        prefix = f".{target.name}."
        with contextlib.suppress(OSError):
            for path in target.parent.iterdir():
                if path.name.startswith(prefix) and path.name.endswith(".tmp"):
                    path.unlink()

    def _cannot(self, what: str, error: OSError) -> KeyProviderError:
        if error.errno in (errno.ENOENT, errno.ENOTDIR) and what == "open":
            return self.label.refusal(
                "does not exist. `strongroom init` creates one for a new installation; if data was sealed under a "
                "file that was here, restore it from a backup: a lost key file means lost data"
            )
        reason = f"cannot {what} key file {self.path}: {os.strerror(error.errno or 0)}"
        if error.errno in (
            errno.EIO,
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EFBIG,
            errno.EMFILE,
            errno.ENFILE,
            errno.ENOMEM,
        ):
            return ProviderUnavailableError(reason, provider=self.label.provider)
        return self.label.refusal(f"is not at our disposal: {reason}")


def _signature(status: os.stat_result) -> tuple[int, ...]:
    # The time of change (ctime) is in it so that a chmod is seen as well.
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _settled(signature: tuple[int, ...]) -> Signature:
    return signature if time.time_ns() - signature[-1] > _SETTLED_NANOSECONDS else None


def _read_up_to(limit: int, descriptor: int) -> bytes:
    raw = bytearray()
    while len(raw) < limit and (chunk := os.read(descriptor, min(_CHUNK_BYTES, limit - len(raw)))):
        raw += chunk
    return bytes(raw)


def _write_new(path: Path, raw: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        os.fchmod(descriptor, 0o600)  # whatever the umask took away
        rest = memoryview(raw)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
