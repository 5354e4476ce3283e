"""The lock between processes: held once, taken again by its holder, never waited for without end."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from keyproviders.errors import ProviderMisconfiguredError, ProviderUnavailableError
from keyproviders.pkcs11_lock import ProcessLock


def lock_at(path: Path) -> ProcessLock:
    return ProcessLock(path, provider="hsm", wait_seconds=0.1)


def is_free(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_it_is_held_until_its_outermost_holder_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = lock_at(path)
    with lock.held():
        with lock.held():
            assert not is_free(path)
        assert not is_free(path)
    assert is_free(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_it_is_let_go_after_an_error(tmp_path: Path) -> None:
    lock = lock_at(tmp_path / "lock")
    with pytest.raises(KeyError), lock.held():
        raise KeyError
    with lock.held():
        assert not is_free(tmp_path / "lock")


def test_another_holder_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    with (
        lock_at(tmp_path / "lock").held(),
        pytest.raises(ProviderUnavailableError, match="another process"),
        lock_at(tmp_path / "lock").held(),
    ):
        pytest.fail("two hold one lock")


def test_a_lock_that_cannot_be_made_is_the_operators_to_mend(tmp_path: Path) -> None:
    with (
        pytest.raises(ProviderMisconfiguredError, match="set lock_folder"),
        lock_at(tmp_path / "no" / "lock").held(),
    ):
        pytest.fail("held without a file")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(ProviderMisconfiguredError, match="cannot be opened"),
        lock_at(tmp_path / "link").held(),
    ):
        pytest.fail("a link was followed")
    assert not (tmp_path / "elsewhere").exists()
