"""The stored formats ``strongroom-key-file/1`` and ``/2``: bytes of a key file from and to a set of keys.

Format 1 has the keys in the clear. In format 2 they are sealed by a passphrase (keyproviders/key_file_passphrase.py).

What may never change: the members of each object, their types, the encoding of ``material`` and the canonical form
under ``checksum``. A file of either format must open in every later release. To change anything, define
``strongroom-key-file/3`` beside them, and let the administration door write it on the next change.

Source: docs/formats/key-file.md.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import SecretBytes, VersionState
from keyproviders.keyset import ALGORITHM, KEK_BYTES, KEY_NAME, KeySet, SoftwareKey, SoftwareVersion

__all__ = [
    "FORMAT",
    "LOCKED_FORMAT",
    "KeyFileContent",
    "KeyFileLabel",
    "KeyLock",
    "canonical",
    "decode",
    "encode",
    "parse",
]

FORMAT = "strongroom-key-file/1"
"""The first member of a key file whose keys are in the clear."""

LOCKED_FORMAT = "strongroom-key-file/2"
"""The first member of a key file whose keys are sealed by a passphrase."""

_FAMILY = "strongroom-key-file/"
_FILE_MEMBERS = {
    FORMAT: {"format", "file_id", "keys", "checksum"},
    LOCKED_FORMAT: {"format", "file_id", "passphrase", "sealed", "checksum"},
}
_KEY_MEMBERS = {"highest_version", "versions"}
_VERSION_MEMBERS = {"version", "algorithm", "state", "created_at", "material"}
_FILE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True, eq=False)
class KeyFileContent:
    """What a key file says.

    Attributes:
        file_id: 32 lower-case hexadecimal digits, random, made with the file and never changed.
        key_set: the keys.
    """

    file_id: str
    key_set: KeySet


@dataclass(frozen=True, slots=True)
class KeyFileLabel:
    """Which file of which provider, for the sentences of errors."""

    provider: str
    path: Path

    def refusal(self, sentence: str) -> ProviderMisconfiguredError:
        """Return (not raise) an error about this file."""
        return ProviderMisconfiguredError(f"key file {self.path} {sentence}", provider=self.provider)

    def damaged(self, reason: str) -> ProviderMisconfiguredError:
        """Return the error for a key file of ours that is not whole."""
        return self.refusal(f"is damaged: {reason}; restore it from a backup")


class KeyLock(Protocol):
    """Seals the keys of a file of format 2, and opens them."""

    def seal(self, header: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
        """Return the members ``passphrase`` and ``sealed`` for a file that begins with this header."""
        ...

    def open(self, document: dict[str, Any], label: KeyFileLabel) -> Any:
        """Return what was sealed.

        Raises:
            ProviderCredentialError: the passphrase is another one.
            ProviderMisconfiguredError: the file is damaged.
        """
        ...


def encode(content: KeyFileContent, lock: KeyLock | None = None) -> bytes:
    """Return the bytes of a key file, checksum included, ending in a line feed: of format 2 if there is a lock."""
    keys = {name: _key_members(key) for name, key in sorted(content.key_set.keys.items())}
    body: dict[str, Any] = {
        "format": FORMAT if lock is None else LOCKED_FORMAT,
        "file_id": content.file_id,
    }
    body |= {"keys": keys} if lock is None else lock.seal(dict(body), keys)
    text = json.dumps({**body, "checksum": _checksum(body)}, indent=2, ensure_ascii=True)
    return text.encode("ascii") + b"\n"


def decode(raw: bytes, label: KeyFileLabel, lock: KeyLock | None = None) -> KeyFileContent:
    """Read the bytes of a key file, whole and of a known format, or refuse.

    Args:
        raw: the file.
        label: which file it is.
        lock: the passphrase, if the configuration names one. A file of the other format is refused: keys in the
            clear where a passphrase is expected may be somebody else's.

    Raises:
        ProviderMisconfiguredError: one sentence that tells a foreign file, a newer format and each damage apart.
        ProviderCredentialError: the file is whole, and its passphrase is another one.

    Security: the checksum finds damage, not malice: whoever can write the file can also compute it.
    """
    document = parse(raw)
    if not isinstance(document, dict) or not str(document.get("format", "")).startswith(_FAMILY):
        # A truncated file of ours is not JSON either, but our encoder puts the format first.
        if document is None and _FAMILY.encode() in raw[:200]:
            raise label.damaged("it is not whole JSON")
        raise label.refusal("is not a Strongroom key file")
    if document["format"] not in _FILE_MEMBERS:
        raise label.refusal(
            f"has a format that this release does not know (it reads {FORMAT} and {LOCKED_FORMAT})"
        )
    checksum = document.get("checksum")
    body = {name: value for name, value in document.items() if name != "checksum"}
    if not isinstance(checksum, str) or not hmac.compare_digest(checksum.encode(), _checksum(body).encode()):
        raise label.damaged("its checksum does not match")
    _expect_members(document, _FILE_MEMBERS[document["format"]], "the file", label)
    if not isinstance(document["file_id"], str) or not _FILE_ID.fullmatch(document["file_id"]):
        raise label.damaged("its file_id is not 32 hexadecimal digits")
    stored = _stored_keys(document, label, lock)
    if not isinstance(stored, dict):
        raise label.damaged("its keys are no object")
    keys = {name: _key(name, members, label) for name, members in stored.items()}
    return KeyFileContent(document["file_id"], KeySet(label.provider, keys))


def _stored_keys(document: dict[str, Any], label: KeyFileLabel, lock: KeyLock | None) -> Any:
    if document["format"] == LOCKED_FORMAT:
        if lock is None:
            raise label.refusal(
                "is locked by a passphrase, and the configuration names none; "
                f'add to [providers.{label.provider}]: passphrase = {{ file = "PATH" }}'
            )
        return lock.open(document, label)
    if lock is not None:
        raise label.refusal(
            "is not locked, although the configuration names a passphrase; take the option out, "
            "lock the file (docs/providers/file.md), and put the option back"
        )
    return document["keys"]


def parse(raw: bytes) -> Any:
    """Return the JSON, or None if it is none: strict, and without an error that carries the keys."""
    # The errors of json and of decoding carry the whole document, keys included, so none of them is let out or
    # chained: None stands for "not JSON".
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member occurs twice")
    return members


def _refuse_constant(_constant: str) -> Any:
    raise ValueError("NaN and Infinity are not JSON")


def canonical(body: dict[str, Any]) -> bytes:
    """Return the one encoding of an object that checksums and seals are made over."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def _checksum(body: dict[str, Any]) -> str:
    # Frozen: SHA-256 over the object without "checksum", names sorted by code point at every level, no white space,
    # everything beyond ASCII escaped. Names and values of a valid file are all ASCII and integers.
    return hashlib.sha256(canonical(body)).hexdigest()


def _key_members(key: SoftwareKey) -> dict[str, Any]:
    return {
        "highest_version": key.highest_version,
        "versions": [
            {
                "version": each.version,
                "algorithm": ALGORITHM,
                "state": each.state.value,
                "created_at": each.created_at.astimezone(UTC).strftime(_TIME_FORMAT),
                "material": base64.b64encode(each.material.reveal()).decode("ascii"),
            }
            for each in key.versions.values()
        ],
    }


def _expect_members(value: Any, expected: set[str], what: str, label: KeyFileLabel) -> None:
    if not isinstance(value, dict) or set(value) != expected:
        raise label.damaged(f"{what} does not have exactly the members {', '.join(sorted(expected))}")


def _key(name: str, members: Any, label: KeyFileLabel) -> SoftwareKey:
    if not KEY_NAME.fullmatch(name):
        raise label.damaged("a key has a name that is not allowed")
    _expect_members(members, _KEY_MEMBERS, f"key {name!r}", label)
    highest = members["highest_version"]
    if type(highest) is not int or highest < 1 or not isinstance(members["versions"], list):
        raise label.damaged(f"highest_version or versions of key {name!r} has the wrong type")
    versions: dict[int, SoftwareVersion] = {}
    for entry in members["versions"]:
        version = _version(name, entry, label)
        if version.version in versions:
            raise label.damaged(f"key {name!r} has version {version.version} twice")
        if version.version > highest or version.version < max(versions, default=0):
            raise label.damaged(f"key {name!r} has its versions out of order or above highest_version")
        versions[version.version] = version
    return SoftwareKey(highest, versions)


def _version(name: str, entry: Any, label: KeyFileLabel) -> SoftwareVersion:
    _expect_members(entry, _VERSION_MEMBERS, f"a version of key {name!r}", label)
    number = entry["version"]
    if type(number) is not int or number < 1:  # type() and not isinstance: JSON's true is an int in Python
        raise label.damaged(f"key {name!r} has a version that is not a whole number from 1")
    what = f"version {number} of key {name!r}"
    if entry["algorithm"] != ALGORITHM:
        raise label.damaged(f"{what} has another algorithm than {ALGORITHM}")
    if entry["state"] not in [state.value for state in VersionState]:
        raise label.damaged(f"{what} is in no known state")
    return SoftwareVersion(
        version=number,
        state=VersionState(entry["state"]),
        created_at=_time(entry["created_at"], what, label),
        material=_material(entry["material"], what, label),
    )


def _time(value: Any, what: str, label: KeyFileLabel) -> datetime:
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.strptime(value, _TIME_FORMAT).replace(tzinfo=UTC)
        except ValueError:
            pass  # a 13th month: the sentence below says all there is to say
    raise label.damaged(f"{what} has a created_at that is not a time like 2026-01-31T12:00:00Z")


def _material(value: Any, what: str, label: KeyFileLabel) -> SecretBytes:
    material = None
    if isinstance(value, str):
        try:
            material = base64.b64decode(value.encode("ascii"), validate=True)
        except (binascii.Error, UnicodeEncodeError):
            material = None  # raised below, outside: UnicodeEncodeError carries the string
    if material is None or base64.b64encode(material).decode("ascii") != value:
        raise label.damaged(f"the material of {what} is not base64")
    if len(material) != KEK_BYTES:
        raise label.damaged(f"the material of {what} has {len(material)} bytes, not {KEK_BYTES}")
    return SecretBytes(material)
