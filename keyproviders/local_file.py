"""Type ``file``: versioned AES-256 KEKs in one private file. Options: ``path``, ``passphrase``.

The key lies on the same machine as the data, so this protects copies of the database, not the machine: see
docs/providers/file.md.
"""

from __future__ import annotations

import functools
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from keyproviders.errors import KeyProviderError, ProviderMisconfiguredError, ProviderUnavailableError
from keyproviders.interface import ProviderSettings, SecretBytes
from keyproviders.key_file import KeyFile, Signature
from keyproviders.key_file_format import KeyFileContent
from keyproviders.key_file_passphrase import Passphrase
from keyproviders.keyset import KeySet
from keyproviders.options import path_option, refuse_unknown_options, secret_option
from keyproviders.software import SoftwareKeyProvider

__all__ = ["LocalFileAdministration", "LocalFileProviderType"]

_log = logging.getLogger(__name__)


class LocalFileProviderType:
    """Opens providers whose keys are in one file (format: docs/formats/key-file.md).

    Security: that the run-time door cannot change keys is the discipline of this code, not of a server: both
        doors read and write the same file under the same user.
    """

    def open(self, settings: ProviderSettings) -> SoftwareKeyProvider:
        """Open the run-time door on an existing key file.

        Raises:
            ProviderMisconfiguredError: an option is wrong, or the file is missing, open to others or damaged.
            ProviderCredentialError: the passphrase is not the one of the file.
            ProviderUnavailableError: the disk failed.
        """
        return SoftwareKeyProvider(settings.name, _WatchedKeyFile(_key_file(settings)))

    def open_administration(self, settings: ProviderSettings) -> LocalFileAdministration:
        """Open the administration door. The file may be missing: ``create`` makes it.

        Raises:
            ProviderMisconfiguredError: an option is wrong, or the file is there and open to others or damaged.
            ProviderCredentialError: the passphrase is not the one of the file.
            ProviderUnavailableError: the disk failed.
        """
        file = _key_file(settings)
        if file.exists():
            file.read()
        return LocalFileAdministration(file)


class LocalFileAdministration:
    """Creates and ends KEKs in a key file. Each change is durable when its call returns.

    Changes by several administrators, threads or processes come one after the other. Every change raises
    ProviderMisconfiguredError if the file is missing, open to others or damaged, and ProviderUnavailableError if
    the disk failed, another administrator did not finish, or this door was closed.

    Args:
        file: the key file.
    """

    def __init__(self, file: KeyFile) -> None:
        self._file = file
        self._is_closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._file.path)!r})"

    def create(self, key: str) -> int:
        """Make a new KEK with version 1; return 1. Makes the file and its folder if they are missing.

        Raises:
            ProviderMisconfiguredError: the key exists already, or its name is not allowed.
        """
        self._file.make_folder()
        return self._change(lambda keys: keys.with_new_key(key), may_make_file=True).keys[key].highest_version

    def rotate(self, key: str) -> int:
        """Add a version and return it.

        Raises:
            KeyNotFoundError: the key is unknown.
        """
        return self._change(lambda keys: keys.with_new_version(key)).keys[key].highest_version

    def retire(self, key: str, up_to_version: int) -> None:
        """Refuse to use every version up to and including this one.

        Raises:
            KeyNotFoundError: the key is unknown, or never had this version.
        """
        self._change(lambda keys: keys.with_retired(key, up_to_version))

    def destroy(self, key: str, version: int) -> None:
        """Remove the material of a retired version from the file for ever.

        Raises:
            KeyNotFoundError: the key or version is unknown or destroyed already.
            ProviderMisconfiguredError: the version is not retired.

        Security: copies of the file and blocks that a disk keeps after a rename are beyond our reach.
        """
        self._change(lambda keys: keys.without(key, version))

    def change_passphrase(self, new: SecretBytes | None) -> None:
        """Seal the keys by another passphrase, or lock or open the file: the keys stay the same.

        Servers that run go on with the keys they have. They take in the next change of the file once the
        configuration names the new passphrase, without a restart if it is in the same place.

        Args:
            new: at least 12 bytes, or None to keep the keys in the clear from now on.

        Raises:
            ProviderMisconfiguredError: the new passphrase is too short.

        Security: copies that were made earlier still open with the old passphrase. If that one is known to
            somebody, rotate, rewrap and destroy the old versions.
        """
        provider = self._file.label.provider
        lock = None if new is None else Passphrase(lambda: new, provider=provider)
        self._expect_a_file()
        with self._file.locked():
            content, _ = self._file.read()
            self._file.replace(content, lock)
        self._file.passphrase = lock

    def backup(self, path: Path) -> None:
        """Write a copy of the key file that is whole and checked, readable by this user only, and on the disk.

        It opens with the passphrase of today, whatever the configuration says later.

        Raises:
            ProviderMisconfiguredError: something is at that path already, or it cannot be written.
        """
        self._expect_a_file()
        with self._file.locked():
            self._file.back_up(path)

    def close(self) -> None:
        """Close this door and wipe what was derived from the passphrase."""
        self._is_closed = True
        if self._file.passphrase is not None:
            self._file.passphrase.forget()

    def _change(self, change: Callable[[KeySet], KeySet], *, may_make_file: bool = False) -> KeySet:
        if may_make_file:
            self._refuse_if_closed()
        else:
            self._expect_a_file()
        with self._file.locked():
            if may_make_file and not self._file.exists():
                before = KeyFileContent(secrets.token_hex(16), KeySet(self._file.label.provider))
            else:
                before, _ = self._file.read()
            changed = change(before.key_set)
            self._file.replace(KeyFileContent(before.file_id, changed), self._file.passphrase)
        return changed

    def _expect_a_file(self) -> None:
        self._refuse_if_closed()
        if not self._file.exists():
            self._file.read()  # says that the file is missing, before a lock file appears in its place

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise ProviderUnavailableError(
                "the administration door was closed", provider=self._file.label.provider
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One good content, and the signature of the file when it was last looked at (good or not)."""

    content: KeyFileContent
    signature: Signature
    trouble: str | None


class _WatchedKeyFile:
    """The keys of a key file, read again when another process changed it.

    No lock: threads may read the file at the same time, and the reference they set is one whole state. One that
    sets an older state is corrected by the next call, because the signature no longer matches.
    """

    def __init__(self, file: KeyFile) -> None:
        self._file = file
        content, signature = file.read()
        self._seen: _Seen | None = _Seen(content, signature, None)

    def current(self) -> KeySet:
        seen = self._seen
        if seen is None:
            raise ProviderUnavailableError("the provider was closed", provider=self._file.label.provider)
        signature = self._file.signature()
        if signature != seen.signature or (seen.trouble is not None and self._has_another_passphrase()):
            seen = self._look_again(seen, signature)
        return seen.content.key_set

    def trouble(self) -> str | None:
        seen = self._seen
        return seen.trouble if seen is not None else None

    def close(self) -> None:
        seen, self._seen = self._seen, None
        if seen is not None:
            seen.content.key_set.wipe()
        if self._file.passphrase is not None:
            self._file.passphrase.forget()

    def _has_another_passphrase(self) -> bool:
        return self._file.passphrase is not None and self._file.passphrase.has_changed()

    def _look_again(self, seen: _Seen, signature: Signature) -> _Seen:
        try:
            content, signature = self._file.read()
            trouble = _why_not_a_successor(seen.content, content)
        except KeyProviderError as error:
            content, trouble = seen.content, str(error)
        if trouble is None:
            now = _Seen(content, signature, None)
        else:
            # A file that went bad under a running server must not take the keys away that still work.
            now = _Seen(seen.content, signature, trouble)
            if trouble != seen.trouble:
                _log.error("the key file went bad, going on with the keys read earlier: %s", trouble)
        if self._seen is not None:  # not if another thread closed us meanwhile
            self._seen = now
        return now


def _why_not_a_successor(before: KeyFileContent, after: KeyFileContent) -> str | None:
    if before.file_id != after.file_id:
        return "another key file was put in its place (its file_id differs)"
    for name, key in before.key_set.keys.items():
        changed = after.key_set.keys.get(name)
        if changed is None or changed.highest_version < key.highest_version:
            return f"an older copy was put in its place (it lacks versions of key {name!r})"
    return None


def _key_file(settings: ProviderSettings) -> KeyFile:
    refuse_unknown_options(settings, known={"path", "passphrase"})
    path, passphrase = path_option(settings, "path"), None
    if secret_option(settings, "passphrase") is not None:
        passphrase = Passphrase(functools.partial(_read_passphrase, settings), provider=settings.name)
    return KeyFile(path, provider=settings.name, passphrase=passphrase)


def _read_passphrase(settings: ProviderSettings) -> SecretBytes:
    passphrase = secret_option(settings, "passphrase")
    if passphrase is None:  # it was there when the door was opened, and the settings do not change
        raise ProviderMisconfiguredError("the passphrase is gone", provider=settings.name)
    return passphrase
