from __future__ import annotations

import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vault.cli.failure import Failure
from vault.cli.moving.outputs import Output, csv_line, refuse_existing


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_lines_are_appended_for_the_owner_alone(path: Path) -> None:
    path.touch(0o644)
    output = Output(path, length=0, heading="head\n")
    output.append(["a\n", "ü\n"])
    output.sync()
    output.close()
    output.close()
    assert path.read_text() == "head\na\nü\n"
    assert output.length == len(path.read_bytes())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_does_not_count_is_cut_off(path: Path) -> None:
    path.write_text("head\na\nhalf a li")
    output = Output(path, length=7, heading="head\n")
    output.append(["b\n"])
    output.close()
    assert path.read_text() == "head\na\nb\n"


def test_a_file_that_is_shorter_than_what_counts_is_refused(path: Path) -> None:
    path.write_text("hea")
    with pytest.raises(Failure, match="shorter than this import left it"):
        Output(path, length=7)
    assert path.read_text() == "hea"


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    path.symlink_to(other)
    with pytest.raises(Failure, match="cannot be written"):
        Output(path, length=0)
    with pytest.raises(Failure, match="exists"):
        refuse_existing(path, "--tokens")
    assert other.read_text() == "precious"


def test_an_existing_file_is_not_written_over(path: Path) -> None:
    refuse_existing(None, "--tokens")
    refuse_existing(path, "--tokens")
    path.touch()
    with pytest.raises(Failure, match="has not made it") as caught:
        refuse_existing(path, "--tokens")
    assert "--tokens" in caught.value.next_step


@contextmanager
def small_files() -> Iterator[None]:
    """Only around what is tested: whoever runs the tests may write their report to a file, too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_is_no_reason_to_begin_again(path: Path) -> None:
    output = Output(path, length=0)
    output.append(["x" * 90])
    with pytest.raises(Failure, match="cannot be written: File too large") as caught, small_files():
        output.append(["y" * 90])
    assert "goes on where it stopped" in caught.value.next_step
    assert output.length == 90
    output.close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="No such file"):
        Output(tmp_path / "none" / "out", length=0)
    assert list(tmp_path.iterdir()) == []


def test_cells_are_quoted_where_they_must_be() -> None:
    assert csv_line(["1", 'a "b", c', "x\ny", ""]) == '1,"a ""b"", c","x\ny",\n'
