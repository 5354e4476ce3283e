from __future__ import annotations

import base64
import hashlib
import json
import re
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import SecretBytes, VersionState
from keyproviders.key_file_format import KeyFileContent, KeyFileLabel, decode, encode
from keyproviders.keyset import KeySet, SoftwareKey, SoftwareVersion

LABEL = KeyFileLabel("disk", Path("/keys.json"))
MATERIAL = base64.b64encode(bytes(range(32))).decode()

# The golden file: if this test has to change, files that exist no longer open. Define strongroom-key-file/2 instead.
GOLDEN = b"""{
  "format": "strongroom-key-file/1",
  "file_id": "000102030405060708090a0b0c0d0e0f",
  "keys": {
    "records": {
      "highest_version": 3,
      "versions": [
        {
          "version": 1,
          "algorithm": "A256KWP",
          "state": "retired",
          "created_at": "2026-01-31T12:00:00Z",
          "material": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
        },
        {
          "version": 3,
          "algorithm": "A256KWP",
          "state": "enabled",
          "created_at": "2026-02-28T23:59:59Z",
          "material": "//////////////////////////////////////////8="
        }
      ]
    }
  },
  "checksum": "2185950a87377623a04b611853bf3d155faf4284da46744d298fe0ab423fe161"
}
"""


def golden_document() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(GOLDEN)
    return document


def sealed(document: dict[str, Any]) -> bytes:
    """Give a hand-made document the checksum that docs/formats/key-file.md describes."""
    body = {name: value for name, value in document.items() if name != "checksum"}
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return json.dumps({**body, "checksum": hashlib.sha256(canonical.encode()).hexdigest()}).encode()


def golden_content() -> KeyFileContent:
    first = SoftwareVersion(
        1, VersionState.RETIRED, datetime(2026, 1, 31, 12, tzinfo=UTC), SecretBytes(bytes(range(32)))
    )
    third = SoftwareVersion(
        3, VersionState.ENABLED, datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), SecretBytes(b"\xff" * 32)
    )
    keys = {"records": SoftwareKey(3, {1: first, 3: third})}
    return KeyFileContent("000102030405060708090a0b0c0d0e0f", KeySet("disk", keys))


def test_the_bytes_of_the_golden_file_are_frozen() -> None:
    assert encode(golden_content()) == GOLDEN


def test_the_golden_file_opens() -> None:
    content = decode(GOLDEN, LABEL)
    assert content.file_id == "000102030405060708090a0b0c0d0e0f"
    key = content.key_set.keys["records"]
    assert key.highest_version == 3
    assert list(key.versions) == [1, 3]
    assert key.versions[1].state is VersionState.RETIRED
    assert key.versions[3].created_at == datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)
    assert key.versions[1].material.reveal() == bytes(range(32))
    assert key.versions[3].material.reveal() == b"\xff" * 32


def test_white_space_and_order_of_members_carry_no_meaning() -> None:
    document = dict(reversed(golden_document().items()))
    for raw in (json.dumps(document).encode(), json.dumps(document, indent=7).encode()):
        assert decode(raw, LABEL).key_set.info("records").versions[-1].version == 3


def test_every_byte_that_is_cut_off_is_noticed() -> None:
    for length in range(len(GOLDEN.rstrip())):
        with pytest.raises(
            ProviderMisconfiguredError, match=r"is damaged: it is not whole JSON|is not a Strongroom"
        ):
            decode(GOLDEN[:length], LABEL)


def test_every_changed_byte_is_noticed() -> None:
    unnoticed = set()
    for position in range(len(GOLDEN)):
        changed = bytearray(GOLDEN)
        changed[position] ^= 0x02
        try:
            decode(bytes(changed), LABEL)
        except ProviderMisconfiguredError:
            continue
        unnoticed.add(GOLDEN[position])
    assert unnoticed <= set(b" \n")  # white space between members may turn into other white space


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00" * 64,
        b"{}",
        b"[]",
        b"null",
        b'"strongroom"',
        b"hello",
        b'{"keys": {}}',
        b'{"format": 1}',
        b"[" * 100000,
        b'{"format": "another-file/1"}',
        b"\xff\xfe",
        b"-----BEGIN PRIVATE KEY-----\n",
    ],
    ids=range(13),
)
def test_a_foreign_file_is_called_foreign(raw: bytes) -> None:
    with pytest.raises(
        ProviderMisconfiguredError, match=r"^key file /keys\.json is not a Strongroom key file$"
    ):
        decode(raw, LABEL)


def test_a_newer_format_is_called_so() -> None:
    raw = GOLDEN.replace(b"key-file/1", b"key-file/3")
    with pytest.raises(
        ProviderMisconfiguredError,
        match=r"does not know \(it reads strongroom-key-file/1 and strongroom-key-file/2\)",
    ):
        decode(raw, LABEL)


@pytest.mark.parametrize(
    "raw",
    [
        GOLDEN[:-5],
        GOLDEN.replace(b'"keys": {', b'"keys": '),
        GOLDEN.replace(b'"version": 3', b'"version": NaN'),
        GOLDEN.replace(b'"keys"', b'"file_id": "0", "keys"'),
        GOLDEN.replace(b"records", b"rec\xffrds"),
    ],
    ids=["cut", "brace", "nan", "twice", "utf-8"],
)
def test_broken_json_of_ours_is_called_damaged(raw: bytes) -> None:
    with pytest.raises(
        ProviderMisconfiguredError, match="is damaged: it is not whole JSON; restore it from a backup"
    ):
        decode(raw, LABEL)


@pytest.mark.parametrize("checksum", [None, 7, "", "0" * 64, "ä" * 64, "missing"])
def test_a_checksum_that_does_not_match(checksum: object) -> None:
    document = golden_document()
    document["checksum"] = checksum
    if checksum == "missing":
        del document["checksum"]
    with pytest.raises(ProviderMisconfiguredError, match="is damaged: its checksum does not match;"):
        decode(json.dumps(document).encode(), LABEL)


Change = Callable[[dict[str, Any]], object]


def key(document: dict[str, Any]) -> dict[str, Any]:
    members: dict[str, Any] = document["keys"]["records"]
    return members


def first(document: dict[str, Any]) -> dict[str, Any]:
    version: dict[str, Any] = key(document)["versions"][0]
    return version


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda d: d.update(extra=1),
            "the file does not have exactly the members checksum, file_id, format, keys",
        ),
        (lambda d: d.pop("keys"), "the file does not have exactly the members"),
        (lambda d: d.update(file_id="XY"), "its file_id is not 32 hexadecimal digits"),
        (lambda d: d.update(keys=[]), "its keys are no object"),
        (lambda d: d["keys"].update({"../x": key(d)}), "a key has a name that is not allowed"),
        (lambda d: key(d).pop("versions"), "key 'records' does not have exactly the members"),
        (lambda d: d["keys"].update(records=[]), "key 'records' does not have exactly the members"),
        (lambda d: key(d).update(highest_version=True), "highest_version or versions of key 'records' has"),
        (lambda d: key(d).update(highest_version=0), "highest_version or versions of key 'records' has"),
        (lambda d: key(d).update(versions={}), "highest_version or versions of key 'records' has"),
        (lambda d: key(d).update(highest_version=2), "versions out of order or above highest_version"),
        (lambda d: key(d)["versions"].reverse(), "versions out of order or above highest_version"),
        (lambda d: first(d).update(version=3), "key 'records' has version 3 twice"),
        (
            lambda d: first(d).update(version=0),
            "key 'records' has a version that is not a whole number from 1",
        ),
        (lambda d: first(d).update(version=True), "key 'records' has a version that is not a whole number"),
        (lambda d: first(d).update(version=1.0), "key 'records' has a version that is not a whole number"),
        (lambda d: first(d).update(extra=1), "a version of key 'records' does not have exactly the members"),
        (lambda d: first(d).update(algorithm="A128KW"), "version 1 of key 'records' has another algorithm"),
        (lambda d: first(d).update(state="gone"), "version 1 of key 'records' is in no known state"),
        (lambda d: first(d).update(state=[]), "version 1 of key 'records' is in no known state"),
        (lambda d: first(d).update(created_at="2026-13-01T00:00:00Z"), "created_at that is not a time"),
        (lambda d: first(d).update(created_at="2026-01-01"), "created_at that is not a time"),
        (lambda d: first(d).update(created_at=0), "created_at that is not a time"),
        (
            lambda d: first(d).update(material=f"*{MATERIAL[1:]}"),
            "material of version 1 of key 'records' is not base64",
        ),
        (
            lambda d: first(d).update(material=f"ä{MATERIAL[1:]}"),
            "material of version 1 of key 'records' is not base64",
        ),
        (
            lambda d: first(d).update(material=f"{MATERIAL}\n"),
            "material of version 1 of key 'records' is not base64",
        ),
        (
            lambda d: first(d).update(material=f"{MATERIAL[:-2]}9="),
            "material of version 1 of key 'records' is not base64",
        ),
        (lambda d: first(d).update(material=None), "material of version 1 of key 'records' is not base64"),
        (lambda d: first(d).update(material="AAAA"), "version 1 of key 'records' has 3 bytes, not 32"),
        (lambda d: first(d).update(material=""), "version 1 of key 'records' has 0 bytes, not 32"),
        (lambda d: first(d).update(material=base64.b64encode(bytes(33)).decode()), "has 33 bytes, not 32"),
    ],
)
def test_each_damage_has_its_own_sentence(change: Change, sentence: str) -> None:
    document = golden_document()
    assert decode(sealed(document), LABEL).file_id
    change(document)
    with pytest.raises(
        ProviderMisconfiguredError, match=f"is damaged: .*{re.escape(sentence)}.*; restore it"
    ):
        decode(sealed(document), LABEL)


@pytest.mark.parametrize(
    "raw", [GOLDEN[:-5], GOLDEN.replace(b"c", b"\xe9"), GOLDEN.replace(b'"keys"', b'"a":1,"a":2,"keys"')]
)
def test_no_error_carries_the_content(raw: bytes) -> None:
    with pytest.raises(ProviderMisconfiguredError) as caught:
        decode(raw, LABEL)
    assert caught.value.__cause__ is None
    assert (
        caught.value.__context__ is None
    )  # JSONDecodeError.doc and UnicodeDecodeError.object are the whole file
    assert MATERIAL not in "".join(traceback.format_exception(caught.value))
