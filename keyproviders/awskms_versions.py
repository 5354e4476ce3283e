"""One AWS key per version of ours: the names of their aliases, and what state they are in.

What may never change: ``alias/PREFIX/KEY/vN`` is version N of KEY. AWS KMS hides the versions of its own rotation, so
a key of theirs is one version of ours, and its automatic rotation stays off or goes unnoticed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from keyproviders.awskms_session import AwsKmsSession
from keyproviders.errors import KeyNotFoundError, KeyProviderError, ProviderUnavailableError
from keyproviders.interface import KeyInfo, ProviderVersion, VersionState

__all__ = ["ALGORITHM", "KEY_NAME", "AwsKmsVersion", "AwsKmsVersions", "must"]

ALGORITHM = "AWS-KMS"
"""Whatever AWS does inside ``SYMMETRIC_DEFAULT`` (today AES-256-GCM); the blob says it to AWS alone."""

KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
"""What a key may be called here: as everywhere, but without dots, which an alias must not have."""

_MOST_DIGITS = 18
_PAGE = 100
_MOST_PAGES = 1000
_ENABLED, _DISABLED = "Enabled", "Disabled"
_DELETED = frozenset({"PendingDeletion", "PendingReplicaDeletion"})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AwsKmsVersion:
    """One version and the state in which AWS has its key."""

    version: int
    state: str

    @property
    def is_enabled(self) -> bool:
        """Whether it wraps and unwraps."""
        return self.state == _ENABLED

    @property
    def is_destroyed(self) -> bool:
        """Whether AWS only waits for the day on which it deletes the key."""
        return self.state in _DELETED


class AwsKmsVersions:
    """Finds the versions of keys.

    Args:
        session: where to ask.
        provider: the configured name of the provider.
        prefix: of the aliases.
    """

    def __init__(self, session: AwsKmsSession, *, provider: str, prefix: str) -> None:
        self._session = session
        self._provider = provider
        self._prefix = prefix

    def alias(self, key: str, version: int) -> str | None:
        """Return the alias of a version, or None if there can be no such key or version."""
        if not KEY_NAME.fullmatch(key) or not 1 <= version < 10**_MOST_DIGITS:
            return None
        return f"alias/{self._prefix}/{key}/v{version}"

    def numbers(self, key: str) -> list[int]:
        """List the versions that have an alias, ascending: usable, retired, and destroyed ones until AWS deletes them."""
        pattern = re.compile(
            rf"alias/{re.escape(self._prefix)}/{re.escape(key)}/v([1-9]\d{{0,{_MOST_DIGITS - 1}}})", re.ASCII
        )
        found = (pattern.fullmatch(name) for name in self._aliases())
        return sorted(int(match[1]) for match in found if match)

    def known(self, key: str) -> list[AwsKmsVersion]:
        """List the versions with their states, destroyed ones included, ascending."""
        return [AwsKmsVersion(number, self.state(key, number)) for number in self.numbers(key)]

    def state(self, key: str, version: int) -> str:
        """Return AWS's state of the key behind a version.

        Raises:
            KeyNotFoundError: there is none.
        """
        alias = self.alias(key, version)
        if alias is None:
            raise self.unknown(key, version)
        answer = must(self._session.call("describe_key", _what(key, version), KeyId=alias))
        return str(answer.get("KeyMetadata", {}).get("KeyState", ""))

    def info(self, key: str) -> KeyInfo:
        """List the versions that AWS has not been told to delete.

        Raises:
            KeyNotFoundError: no version has an alias.
        """
        known = self.known(key)
        if not known:
            raise KeyNotFoundError(f"AWS KMS has no key {key!r} here", provider=self._provider)
        return KeyInfo(
            key,
            tuple(
                ProviderVersion(
                    each.version, ALGORITHM, VersionState.ENABLED if each.is_enabled else VersionState.RETIRED
                )
                for each in known
                if not each.is_destroyed
            ),
        )

    def unknown(self, key: str, version: int) -> KeyNotFoundError:
        """Return (not raise) the error about a version that is not there."""
        return KeyNotFoundError(f"there is no {_what(key, version)}", provider=self._provider)

    def _aliases(self) -> list[str]:
        names: list[str] = []
        marker: dict[str, str] = {}
        for _ in range(_MOST_PAGES):
            page = must(self._session.call("list_aliases", "all keys", Limit=_PAGE, **marker))
            names += [str(each.get("AliasName", "")) for each in page.get("Aliases", [])]
            if not page.get("Truncated"):
                return names
            marker = {"Marker": str(page.get("NextMarker", ""))}
        # Half a list would make a rotation give out a number again.
        raise ProviderUnavailableError("AWS KMS lists aliases without end", provider=self._provider)


def must(outcome: T | KeyProviderError) -> T:
    """Return the answer, or raise the error.

    Raises:
        KeyProviderError: the outcome is one.
    """
    if isinstance(outcome, KeyProviderError):
        raise outcome
    return outcome


def _what(key: str, version: int) -> str:
    return f"version {version} of key {key!r}"
