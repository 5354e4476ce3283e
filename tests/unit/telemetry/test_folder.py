"""The folder that processes share: private, in memory, gone in the end, and cleared away after a kill."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from vault.telemetry import folder as folder_module
from vault.telemetry.folder import shared_folder
from vault.telemetry.shared import FOLDER_VARIABLE


@pytest.fixture
def pointer(tmp_path: Path) -> Path:
    return tmp_path / "strongroom.db.server"


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Stand-ins for the file system in memory and for the folder of temporary files."""
    memory, temporary = tmp_path / "shm", tmp_path / "tmp"
    memory.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(folder_module, "_MEMORY", memory)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    return memory, temporary


def left_behind(folder: Path, name: str = "strongroom-metrics-left") -> Path:
    left = folder / name
    left.mkdir(mode=0o700)
    (left / "counter_1.db").write_bytes(b"x")
    (left / "1.alive").touch()
    return left


def test_it_is_private_named_to_children_and_gone_in_the_end(
    pointer: Path, places: tuple[Path, Path]
) -> None:
    with shared_folder(pointer, processes=3) as folder:
        assert folder.parent == places[0]
        assert folder.stat().st_mode & 0o777 == 0o700
        assert os.environ[FOLDER_VARIABLE] == str(folder) == pointer.read_text()
        (folder / "counter_1.db").touch()
        (folder / "1.alive").touch()
    assert not folder.exists()
    assert FOLDER_VARIABLE not in os.environ
    assert pointer.read_text() == ""


@pytest.mark.usefixtures("places")
def test_it_goes_when_the_server_fails_and_a_variable_of_before_comes_back(
    pointer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, "/somewhere")
    with pytest.raises(KeyboardInterrupt), shared_folder(pointer, processes=3) as folder:
        raise KeyboardInterrupt
    assert not folder.exists()
    assert os.environ[FOLDER_VARIABLE] == "/somewhere"


@pytest.mark.parametrize("trouble", ["absent", "small", "no right"])
def test_without_room_in_memory_it_is_a_temporary_folder(
    pointer: Path, places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    match trouble:
        case "absent":
            places[0].rmdir()
        case "small":
            small = os.statvfs_result((4096, 4096, 1, 1, 1, 1, 1, 1, 0, 255))
            monkeypatch.setattr(os, "statvfs", lambda _: small)
        case _:
            monkeypatch.setattr(os, "access", lambda *_: False)
    with shared_folder(pointer, processes=3) as folder:
        assert folder.parent == places[1]


def test_what_a_killed_server_left_is_cleared_away(pointer: Path, places: tuple[Path, Path]) -> None:
    left = left_behind(places[0])
    pointer.write_text(str(left))
    with shared_folder(pointer, processes=3) as folder:
        assert not left.exists()
        assert folder.exists()


@pytest.mark.parametrize("kind", ["other name", "link", "open to others", "file", "more in it"])
def test_what_is_not_ours_is_left_alone(pointer: Path, places: tuple[Path, Path], kind: str) -> None:
    """Whoever can write the pointer must not be able to remove other things by it."""
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
    pointer.write_text(str(left))
    with shared_folder(pointer, processes=3):
        pass
    assert all(each.is_symlink() or each.exists() for each in kept)


@pytest.mark.usefixtures("places")
@pytest.mark.parametrize("content", [b"", b"\0", b"/nowhere/strongroom-metrics-x", b"\xff" * 10_000, b"."])
def test_a_pointer_to_nothing_does_no_harm(pointer: Path, content: bytes) -> None:
    pointer.write_bytes(content)
    with shared_folder(pointer, processes=3) as folder:
        assert folder.exists()


@pytest.mark.usefixtures("places")
def test_a_pointer_that_cannot_be_written_stops_no_server(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with shared_folder(tmp_path / "missing" / "pointer", processes=3) as folder:
        assert folder.exists()
    assert "metrics-folder-not-remembered" in caplog.text
    assert not folder.exists()
