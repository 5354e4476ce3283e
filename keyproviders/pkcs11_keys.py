"""The KEKs of a token as a door sees them: found by label, checked, kept as handles until they become void.

Version N of key NAME is the AES key with the label ``NAME/vN``. A data object ``NAME/retired``, made by the
administrator, says up to which version the key is retired and which number was the highest ever given out.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any

from pkcs11.constants import Attribute, ObjectClass
from pkcs11.exceptions import RandomNoRNG
from pkcs11.types import Session

from keyproviders.errors import (
    KeyNotFoundError,
    KeyProviderError,
    KeyVersionRetiredError,
    ProviderMisconfiguredError,
)
from keyproviders.interface import ItemResult, KeyInfo, ProviderVersion, VersionState
from keyproviders.keyset import KEY_NAME
from keyproviders.pkcs11_attributes import label_of, purpose_of
from keyproviders.pkcs11_errors import UNSUPPORTED_ERRORS, describe
from keyproviders.pkcs11_mechanisms import Kek
from keyproviders.pkcs11_record import KeyRecord, record_label

__all__ = ["TokenKeys", "key_id", "key_label"]

# How long the retired mark is believed before it is read again: a change by another process shows this much later.
_RECORD_SECONDS = 1.0

_VERSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


def key_label(key: str, version: int) -> str:
    """The label of a version."""
    return f"{key}/v{version}"


def key_id(key: str, version: int) -> bytes:
    """The identifier (CKA_ID) of a version, for tools that show nothing else."""
    return f"{key}:{version}".encode()


class TokenKeys:
    """The keys of a token during one epoch: every handle in here is void after it.

    Errors that belong to one key are returned, not raised: as results of single items they must not hold frames.

    Args:
        session: what to search on.
        provider: the configured name of the provider.
        prove_login: raises unless a search now would show everything.
    """

    def __init__(self, session: Session, *, provider: str, prove_login: Callable[[], None]) -> None:
        self._session = session
        self._provider = provider
        self._prove_login = prove_login
        self._keks: dict[tuple[str, int], Kek] = {}
        self._records: dict[str, tuple[float, KeyRecord]] = {}

    def usable(self, key: str, version: int) -> ItemResult[Kek]:
        """Return a version that may wrap and unwrap now, or the error that says why not."""
        record = self._recent_record(key)
        if isinstance(record, KeyProviderError):
            return record
        is_retired = version <= record.retired_up_to
        kek = None if is_retired else self._keks.get((key, version))
        if kek is None:
            found = self._find(key, version, record)
            if isinstance(found, KeyProviderError):
                return found
            if is_retired:
                return KeyVersionRetiredError(
                    f"version {version} of key {key!r} is retired", provider=self._provider
                )
            loaded = self.load(key, version, found)
            if isinstance(loaded, KeyProviderError):
                return loaded
            kek = self._keks[key, version] = loaded
        return kek

    def load(self, key: str, version: int, handle: Any) -> ItemResult[Kek]:
        """Check a key's attributes and try it out.

        Returns:
            ProviderMisconfiguredError: it is not what a KEK must be, or the token cannot use it.
        """
        kind, wrong = purpose_of(handle)
        label = key_label(key, version)
        if kind is None or wrong:
            return self._misconfigured(
                f"{label!r} is not used as a KEK: {'; '.join(wrong)}. Wanted is an AES-256 key made in this token, "
                "SENSITIVE, PRIVATE, not EXTRACTABLE, not MODIFIABLE, for ENCRYPT and DECRYPT only or for WRAP and "
                "UNWRAP only: rotate to one made by the administrator"
            )
        try:
            return kind(self._session, handle)
        except UNSUPPORTED_ERRORS as error:
            return self._misconfigured(
                f"the token does not do {kind.algorithm} with {label!r} ({describe(error)})"
            )

    def numbers(self, key: str) -> ItemResult[dict[int, Any]]:
        """Return the handles of all versions in the token by number, in order."""
        found: dict[int, Any] = {}
        for handle in self._search({Attribute.CLASS: ObjectClass.SECRET_KEY}):
            name, _, number = label_of(handle).rpartition("/v")
            if name == key and _VERSION.fullmatch(number):
                if int(number) in found:
                    return self._ambiguous(key, int(number))
                found[int(number)] = handle
        return dict(sorted(found.items()))

    def record(self, key: str) -> ItemResult[KeyRecord]:
        """Read a key's record from the token; an empty one if there is none."""
        self._records.pop(key, None)
        return self._recent_record(key)

    def record_objects(self, key: str) -> list[Any]:
        """Return the data objects that hold a key's record: none, one, or for a moment two.

        Without proof of the login, which costs a session object each second: a record that is not seen for lack of a
        login does no harm, because no key can be used then, and a login that is mended reads the record again.
        """
        return self._look({Attribute.CLASS: ObjectClass.DATA, Attribute.LABEL: record_label(key)})

    def info(self, key: str) -> ItemResult[KeyInfo]:
        """Read all versions of a key from the token, each one checked."""
        record = self.record(key)
        if isinstance(record, KeyProviderError):
            return record
        numbers = self.numbers(key)
        if isinstance(numbers, KeyProviderError):
            return numbers
        if not KEY_NAME.fullmatch(key) or not (numbers or record.highest):
            return self._unknown_key(key)
        versions = []
        for number, handle in numbers.items():
            kek = self._keks.get((key, number)) or self.load(key, number, handle)
            if isinstance(kek, KeyProviderError):
                return kek
            is_retired = number <= record.retired_up_to
            state = VersionState.RETIRED if is_retired else VersionState.ENABLED
            versions.append(ProviderVersion(number, kek.algorithm, state))
        return KeyInfo(key, tuple(versions))

    def algorithms(self) -> set[str]:
        """Return the algorithms that the KEKs in this token are for, whatever their names."""
        handles = self._search({Attribute.CLASS: ObjectClass.SECRET_KEY})
        labelled = [each for each in handles if _VERSION.fullmatch(label_of(each).rpartition("/v")[2])]
        kinds = [purpose_of(each)[0] for each in labelled]
        return {each.algorithm for each in kinds if each is not None}

    def _find(self, key: str, version: int, record: KeyRecord) -> ItemResult[Any]:
        label = key_label(key, version)
        is_possible = version >= 1 and KEY_NAME.fullmatch(key)
        found = (
            self._search({Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.LABEL: label})
            if is_possible
            else []
        )
        if len(found) > 1:
            return self._ambiguous(key, version)
        if not found:
            reason = "was destroyed" if 1 <= version <= record.highest else "is not in the token"
            return KeyNotFoundError(f"version {version} of key {key!r} {reason}", provider=self._provider)
        return found[0]

    def _search(self, wanted: dict[Attribute, Any]) -> list[Any]:
        self._prove_login()
        found = self._look(wanted)
        if not found:
            self._prove_login()  # nothing found must mean nothing there
        return found

    def _look(self, wanted: dict[Attribute, Any]) -> list[Any]:
        # A search on a dead session is noisy in python-pkcs11, and this is the cheapest question that fails quietly.
        with contextlib.suppress(RandomNoRNG):
            self._session.generate_random(8)
        return list(self._session.get_objects({Attribute.TOKEN: True, **wanted}))

    def _recent_record(self, key: str) -> ItemResult[KeyRecord]:
        known = self._records.get(key)
        if known is not None and time.monotonic() - known[0] < _RECORD_SECONDS:
            return known[1]
        read_at = time.monotonic()
        # A label that is no name of a key finds nothing of ours.
        values = (
            [each[Attribute.VALUE] for each in self.record_objects(key)] if KEY_NAME.fullmatch(key) else []
        )
        record = KeyRecord.of(values)
        if record is None:
            return self._misconfigured(
                f"the data object {record_label(key)!r} in the token is not one of ours; remove it, or write "
                f"{KeyRecord(1, 2).encode().decode()!r} with the right numbers"
            )
        self._records[key] = read_at, record
        return record

    def _unknown_key(self, key: str) -> KeyNotFoundError:
        return KeyNotFoundError(f"there is no key {key!r} in the token", provider=self._provider)

    def _ambiguous(self, key: str, version: int) -> ProviderMisconfiguredError:
        return self._misconfigured(
            f"more than one key in the token is called {key_label(key, version)!r}; find out which one the data is "
            "wrapped by, and give the others another label"
        )

    def _misconfigured(self, message: str) -> ProviderMisconfiguredError:
        return ProviderMisconfiguredError(message, provider=self._provider)
