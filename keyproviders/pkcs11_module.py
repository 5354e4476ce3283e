"""A PKCS#11 library in this process: loaded once, used by one thread at a time, and begun anew after a fork.

What is guarded against here was seen with SoftHSM 2.6.1 under python-pkcs11, which tells the library that there is
one thread only, and then lets go of Python's lock: crashes and hangs, in every run with four threads. And a key or
session of a library that was unloaded is a dangling pointer, so none is used after a change of generation.

Source: PKCS#11 version 2.40, section 5.4 (C_Initialize, C_Finalize) and section 6.7.1 (applications and processes).
"""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pkcs11
from pkcs11.exceptions import PKCS11Error

from keyproviders.errors import ProviderUnavailableError

if TYPE_CHECKING:
    from pkcs11 import _pkcs11
    from pkcs11.types import Slot

__all__ = ["Module", "ModuleNotLoadableError", "module_at"]

_FORK_WAIT_SECONDS = 10.0


class ModuleNotLoadableError(Exception):
    """The file is no PKCS#11 library for this machine. The text says what the system's loader says."""


class Module:
    """One PKCS#11 library. All methods but ``turn`` are called within a turn.

    Args:
        path: the library, symbolic links resolved.

    Attributes:
        generation: changes whenever every session and handle of the library has become void.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.generation = 0
        self._library: _pkcs11.lib | None = None
        self._is_inherited = False
        self._is_used = threading.RLock()
        self._users = 0

    @contextlib.contextmanager
    def turn(self, *, provider: str, wait_seconds: float) -> Iterator[None]:
        """Let this thread, and no other of this process, call the library.

        Raises:
            ProviderUnavailableError: other threads had it all the time.
        """
        is_used = self._is_used
        if not is_used.acquire(timeout=wait_seconds):
            raise ProviderUnavailableError(
                f"other threads have kept the token busy for {wait_seconds:g} s", provider=provider
            )
        try:
            yield
        finally:
            is_used.release()
            _openssl_errors_clearer()()

    def start(self, *, anew: bool) -> bool:
        """Load and initialise the library; say whether that was done now.

        Args:
            anew: also if it runs already. Every session and handle of this process becomes void.

        Raises:
            ModuleNotLoadableError: the file is no PKCS#11 library.
            PKCS11Error: the library does not start.
        """
        if self._is_inherited:
            # Some libraries refuse everything in a forked child until they are loaded again.
            self._library = None
            pkcs11.unload(str(self.path))
            self._is_inherited = False
        if self._library is not None:
            if self._library.initialized and not anew:
                return False
            self._finalize()
        self.generation += 1
        try:
            self._library = pkcs11.lib(str(self.path))
        except PKCS11Error as error:
            if type(error) is PKCS11Error and "while loading" in str(error):
                raise ModuleNotLoadableError(str(error)) from error
            raise
        return True

    def slots(self) -> list[Slot]:
        """List the slots in which there is a token."""
        return [] if self._library is None else self._library.get_slots(token_present=True)

    def join(self) -> None:
        """Count one more user of the library."""
        self._users += 1

    def leave(self) -> None:
        """Count one user less; the last one ends the library's work in this process."""
        self._users -= 1
        if not self._users and self._library is not None and not self._is_inherited:
            self.generation += 1
            self._finalize()

    def _finalize(self) -> None:
        # It fails if somebody else in this process ended it already: all the same to us.
        if self._library is not None and self._library.initialized:
            with contextlib.suppress(PKCS11Error):
                self._library.finalize()

    def acquire_for_fork(self) -> bool:
        """Wait, but not for ever, until no thread is inside the library: a fork would copy it half-way through."""
        return self._is_used.acquire(timeout=_FORK_WAIT_SECONDS)

    def release_after_fork(self) -> None:
        """Undo ``acquire_for_fork`` in the parent."""
        self._is_used.release()

    def begin_anew_in_child(self) -> None:
        """Forget what the parent had: its lock, its login, its sessions and handles."""
        self._is_used = threading.RLock()
        self._is_inherited = self._library is not None
        self.generation += 1


@functools.cache
def _openssl_errors_clearer() -> Callable[[], object]:
    """What empties this thread's queue of OpenSSL errors, where Python's ssl module would read it.

    SoftHSM uses the same OpenSSL and leaves an error behind when something does not open; the next TLS connection of
    the thread would take it for its own. Source: ERR_get_error(3), SSL_get_error(3).
    """
    try:
        return ctypes.CDLL(getattr(_ssl, "__file__", None)).ERR_clear_error
    except (OSError, AttributeError):
        # Python has an OpenSSL of its own that nobody else can reach, or none: nothing can be left there.
        return lambda: None


# One process has one copy of a library, whoever asks for it.
_modules: dict[Path, Module] = {}
_registry = threading.Lock()
_held: list[Module] = []


def module_at(path: Path) -> Module:
    """Return this process's one object for a library; nothing is loaded yet."""
    with _registry:
        return _modules.setdefault(path, Module(path))


def _before_fork() -> None:
    _registry.acquire()
    _held[:] = [module for module in _modules.values() if module.acquire_for_fork()]


def _after_fork_in_parent() -> None:
    for module in _held:
        module.release_after_fork()
    _held.clear()
    _registry.release()


def _after_fork_in_child() -> None:
    for module in _modules.values():
        module.begin_anew_in_child()
    _held.clear()
    _registry.release()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
