from __future__ import annotations

import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyproviders.interface import SecretBytes
from vault.core.context import RecordContext
from vault.core.errors import IntegrityError
from vault.core.sealing import OVERHEAD_BYTES, open_sealed, seal

CONTEXT = RecordContext("default", "users", bytes(range(16)), 1, 1, 1)
KEY = bytes(range(32))


def opened(sealed: bytes, *, key: bytes = KEY, context: RecordContext = CONTEXT) -> bytes:
    return open_sealed(sealed, dek=SecretBytes(key), context=context, where="record 1")


@given(st.binary(max_size=4096), st.binary(min_size=32, max_size=32))
def test_what_is_sealed_opens(plaintext: bytes, key: bytes) -> None:
    sealed = seal(plaintext, dek=SecretBytes(key), context=CONTEXT)
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES == len(plaintext) + 30
    assert opened(sealed, key=key) == plaintext


def test_a_mebibyte_opens() -> None:
    plaintext = os.urandom(2**20)
    assert opened(seal(plaintext, dek=SecretBytes(KEY), context=CONTEXT)) == plaintext


def test_two_seals_of_one_plaintext_differ() -> None:
    assert len({seal(b"x", dek=SecretBytes(KEY), context=CONTEXT) for _ in range(100)}) == 100


def test_every_single_bit_is_checked() -> None:
    sealed = seal(b"a document", dek=SecretBytes(KEY), context=CONTEXT)
    for position in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(IntegrityError) as refused:
            opened(bytes(changed))
        assert refused.value.finding == ("seal-format" if position < 16 else "seal")
        assert refused.value.where == "record 1"


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(RecordContext)])
def test_another_context_does_not_open(field: str) -> None:
    sealed = seal(b"x", dek=SecretBytes(KEY), context=CONTEXT)
    value = getattr(CONTEXT, field)
    other = dataclasses.replace(
        CONTEXT, **{field: value + value if isinstance(value, bytes | str) else value + 1}
    )
    with pytest.raises(IntegrityError) as refused:
        opened(sealed, context=other)
    assert refused.value.finding == "seal"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_open(sealed: bytes) -> None:
    with pytest.raises(IntegrityError) as refused:
        opened(sealed)
    assert refused.value.finding == ("seal" if len(sealed) >= 30 and sealed[:2] == b"\1\1" else "seal-format")
