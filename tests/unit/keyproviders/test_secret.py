from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable

import pytest

from keyproviders.interface import SecretBytes

MATERIAL = bytes(range(32))


def test_reveal_returns_the_material_and_len_its_length() -> None:
    secret = SecretBytes(MATERIAL)
    assert secret.reveal() == MATERIAL
    assert len(secret) == 32


def test_the_material_is_a_copy_of_its_own() -> None:
    source = bytearray(MATERIAL)
    secret = SecretBytes(source)
    source[:] = bytes(32)
    assert secret.reveal() == MATERIAL


@pytest.mark.parametrize(
    "show", [repr, str, "{}".format, lambda secret: f"{secret!r}", lambda secret: f"{[secret]}"]
)
def test_it_never_shows_itself(show: Callable[[SecretBytes], str]) -> None:
    shown = show(SecretBytes(b"AAAABBBBCCCCDDDD"))
    assert shown.strip("[]") == "SecretBytes(<16 bytes>)"


@pytest.mark.parametrize("copying", [pickle.dumps, copy.copy, copy.deepcopy])
def test_it_is_not_pickled_or_copied(copying: Callable[[SecretBytes], object]) -> None:
    with pytest.raises(TypeError, match="not pickled or copied"):
        copying(SecretBytes(MATERIAL))


def test_it_is_not_compared_and_not_hashed() -> None:
    secret = SecretBytes(MATERIAL)
    with pytest.raises(TypeError, match="compare_digest"):
        _ = secret == MATERIAL
    with pytest.raises(TypeError, match="compare_digest"):
        _ = secret != SecretBytes(MATERIAL)
    with pytest.raises(TypeError, match="unhashable"):
        hash(secret)


def test_it_has_no_other_attributes() -> None:
    assert not hasattr(SecretBytes(MATERIAL), "__dict__")


def test_wipe_overwrites_our_copy_and_may_be_repeated() -> None:
    secret = SecretBytes(MATERIAL)
    buffer = secret._buffer
    secret.wipe()
    secret.wipe()
    assert buffer == bytes(32)
    assert len(secret) == 0
    with pytest.raises(ValueError, match="wiped"):
        secret.reveal()


def test_a_wipe_during_reveal_never_hands_out_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = SecretBytes(MATERIAL)

    class WipedWhileCopied(bytearray):
        def __bytes__(self) -> bytes:
            wiping = threading.Thread(target=secret.wipe)
            wiping.start()
            wiping.join()
            return bytes(bytearray(self))

    monkeypatch.setattr(secret, "_buffer", WipedWhileCopied(MATERIAL))
    with pytest.raises(ValueError, match="wiped"):
        secret.reveal()
