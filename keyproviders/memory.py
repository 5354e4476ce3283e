"""Type ``memory``: KEKs that live in this process and die with it. For tests, and it says so loudly."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable

from keyproviders.errors import ProviderUnavailableError
from keyproviders.interface import ProviderSettings
from keyproviders.keyset import KeySet
from keyproviders.options import refuse_unknown_options
from keyproviders.software import SoftwareKeyProvider

__all__ = ["InsecureProviderWarning", "MemoryKeyAdministration", "MemoryProviderType"]

_log = logging.getLogger(__name__)


class InsecureProviderWarning(UserWarning):
    """A key provider that loses or exposes its keys was opened. Right in a test, wrong anywhere else."""


class MemoryProviderType:
    """Opens in-memory providers; two doors of one name in one process share their keys.

    Security: the keys are gone when the process ends, and everything sealed under them with it.
    """

    def open(self, settings: ProviderSettings) -> SoftwareKeyProvider:
        """Open the run-time door, with a warning.

        Raises:
            ProviderMisconfiguredError: an option was given; there are none.
        """
        return SoftwareKeyProvider(settings.name, _ProcessKeys(_opened(settings)))

    def open_administration(self, settings: ProviderSettings) -> MemoryKeyAdministration:
        """Open the administration door, with a warning.

        Raises:
            ProviderMisconfiguredError: an option was given; there are none.
        """
        return MemoryKeyAdministration(_opened(settings))


class MemoryKeyAdministration:
    """Creates and ends KEKs of this process.

    Args:
        name: the configured name of the provider whose keys these are.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_closed = False

    def create(self, key: str) -> int:
        """Make a new KEK with version 1; return 1.

        Raises:
            ProviderMisconfiguredError: the key exists already, or its name is not allowed.
            ProviderUnavailableError: this door was closed.
        """
        return self._change(lambda keys: keys.with_new_key(key)).keys[key].highest_version

    def rotate(self, key: str) -> int:
        """Add a version and return it.

        Raises:
            KeyNotFoundError: the key is unknown.
            ProviderUnavailableError: this door was closed.
        """
        return self._change(lambda keys: keys.with_new_version(key)).keys[key].highest_version

    def retire(self, key: str, up_to_version: int) -> None:
        """Refuse to use every version up to and including this one.

        Raises:
            KeyNotFoundError: the key is unknown, or never had this version.
            ProviderUnavailableError: this door was closed.
        """
        self._change(lambda keys: keys.with_retired(key, up_to_version))

    def destroy(self, key: str, version: int) -> None:
        """Remove the material of a retired version for ever.

        Raises:
            KeyNotFoundError: the key or version is unknown or destroyed already.
            ProviderMisconfiguredError: the version is not retired.
            ProviderUnavailableError: this door was closed.
        """
        self._change(lambda keys: keys.without(key, version))

    def close(self) -> None:
        """Close this door. The keys stay: they belong to the process."""
        self._is_closed = True

    def _change(self, change: Callable[[KeySet], KeySet]) -> KeySet:
        if self._is_closed:
            raise ProviderUnavailableError("the administration door was closed", provider=self._name)
        with _lock:
            changed = _key_sets[self._name] = change(_key_sets[self._name])
        return changed


# Keys by provider name. The two doors are opened apart, by code that does not know of each other, and there is no
# file or server to meet at: the process itself is the place where the keys of this provider are.
_key_sets: dict[str, KeySet] = {}
_lock = threading.Lock()
# A fork while another thread holds the lock would leave the child with a lock that nobody releases.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


class _ProcessKeys:
    def __init__(self, name: str) -> None:
        self._name = name
        self._is_closed = False

    def current(self) -> KeySet:
        if self._is_closed:
            raise ProviderUnavailableError("the provider was closed", provider=self._name)
        return _key_sets[self._name]

    def trouble(self) -> str | None:
        return None

    def close(self) -> None:
        self._is_closed = True


def _opened(settings: ProviderSettings) -> str:
    refuse_unknown_options(settings, known=())
    message = f"provider {settings.name!r} keeps its keys in memory: all data sealed under them is lost when the process ends"
    _log.warning(message)
    warnings.warn(message, InsecureProviderWarning, stacklevel=3)
    with _lock:
        _key_sets.setdefault(settings.name, KeySet(settings.name))
    return settings.name
