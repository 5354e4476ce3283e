"""The folder that processes share: private, in memory, gone in the end, and cleared away after a kill."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vault.telemetry import folder as folder_module
from vault.telemetry.folder import shared_folder
from vault.telemetry.shared import FOLDER_VARIABLE


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Stand-ins for the file system in memory and for the folder of temporary files."""
    memory, temporary = tmp_path / "shm", tmp_path / "tmp"
    memory.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(folder_module, "_MEMORY", memory)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    return memory, temporary


def left_behind(place: Path, name: str = "strongroom-metrics-left") -> Path:
    left = place / name
    left.mkdir(mode=0o700)
    (left / "counter_1.db").write_bytes(b"x")
    (left / "1.alive").touch()
    return left


@contextmanager
def held(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def test_it_is_private_named_to_children_and_gone_in_the_end(places: tuple[Path, Path]) -> None:
    with shared_folder(processes=3) as folder:
        assert folder.parent == places[0]
        assert folder.stat().st_mode & 0o777 == 0o700
        assert os.environ[FOLDER_VARIABLE] == str(folder)
        (folder / "counter_1.db").touch()
        (folder / "1.alive").touch()
    assert not folder.exists()
    assert FOLDER_VARIABLE not in os.environ


def test_it_goes_when_the_server_fails_and_a_variable_of_before_comes_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "/somewhere")
    with pytest.raises(KeyboardInterrupt), shared_folder(processes=3) as folder:
        raise KeyboardInterrupt
    assert not folder.exists()
    assert os.environ[FOLDER_VARIABLE] == "/somewhere"


@pytest.mark.parametrize("trouble", ["absent", "small", "no right"])
def test_without_room_in_memory_it_is_a_temporary_folder(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    match trouble:
        case "absent":
            places[0].rmdir()
        case "small":
            small = os.statvfs_result((4096, 4096, 1, 1, 1, 1, 1, 1, 0, 255))
            monkeypatch.setattr(os, "statvfs", lambda _: small)
        case _:
            monkeypatch.setattr(os, "access", lambda *_: False)
    with shared_folder(processes=3) as folder:
        assert folder.parent == places[1]


def test_what_killed_servers_left_is_cleared_away(places: tuple[Path, Path]) -> None:
    left = [left_behind(place, f"strongroom-metrics-{n}") for place in places for n in range(3)]
    with shared_folder(processes=3) as folder:
        assert not [each for each in left if each.exists()]
        assert folder.exists()


def test_the_folder_of_a_server_that_lives_stays(places: tuple[Path, Path]) -> None:
    other = left_behind(places[0])
    with held(other), shared_folder(processes=3) as folder, shared_folder(processes=3) as second:
        assert (other / "counter_1.db").exists()
        assert folder.exists()
        assert second.exists()
        assert folder != second
    assert other.exists()


def test_a_new_folder_that_another_server_took_for_a_left_one_is_made_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []
    make = tempfile.mkdtemp

    def meddled(**options: str) -> str:
        made.append(make(**options))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", meddled)
    with shared_folder(processes=3) as folder:
        assert made == [made[0], str(folder)]
        assert folder.exists()


@pytest.mark.parametrize("kind", ["other name", "link", "open to others", "file", "more in it"])
def test_what_is_not_ours_is_left_alone(places: tuple[Path, Path], kind: str) -> None:
    """Everybody may write to these places, and must not be able to have other things removed."""
    memory, _ = places
    left = left_behind(memory)
    kept = [left / "counter_1.db"]
    match kind:
        case "other name":
            left = left.rename(memory / "precious")
            kept = [left / "counter_1.db"]
        case "link":
            target = left.rename(memory / "precious")
            left.symlink_to(target)
            kept = [target / "counter_1.db", left]
        case "open to others":
            left.chmod(0o755)
        case "file":
            left = memory / "strongroom-metrics-file"
            left.touch(0o600)
            kept = [left]
        case _:
            (left / "document.txt").touch()
            kept = [left / "document.txt"]
    with shared_folder(processes=3):
        pass
    assert all(each.is_symlink() or each.exists() for each in kept)


def test_a_folder_of_another_user_is_left_alone(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = left_behind(places[0])
    monkeypatch.setattr(os, "geteuid", lambda: left.stat().st_uid + 1)
    with shared_folder(processes=3):
        assert (left / "counter_1.db").exists()
