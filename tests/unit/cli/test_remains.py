from __future__ import annotations

from pathlib import Path

import pytest

from vault.cli import remains
from vault.cli.remains import search


def test_counts_every_form_in_every_file_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a-wal").write_bytes(b"..ADA@example.com..ada@example.com")
    (tmp_path / "b").write_bytes(b"\x00\xff+4420 442")
    found = search(tmp_path, {"e-mail": [b"Ada@Example.com"], "phone": [b"+4420", b"442"], "no": [b"x"]})
    assert found.found == {"e-mail": 2, "phone": 3, "no": 2}
    assert (found.files, found.size_bytes) == (2, 45)


@pytest.mark.parametrize("offset", range(24))
def test_nothing_hides_on_the_border_of_a_chunk_and_nothing_counts_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    monkeypatch.setattr(remains, "_CHUNK_BYTES", 8)
    (tmp_path / "a").write_bytes(b"." * offset + b"wintergreen" + b"." * 9 + b"ada" + b"." * (24 - offset))
    found = search(tmp_path, {"name": [b"wintergreen"], "short": [b"ada"]})
    assert found.found == {"name": 1, "short": 1}


def test_a_file_that_goes_while_it_is_read_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").write_bytes(b"x")
    really_open = Path.open

    def vanishing(path: Path, mode: str) -> object:
        if path.name == "a":
            raise FileNotFoundError
        return really_open(path, mode)

    monkeypatch.setattr(Path, "open", vanishing)
    assert search(tmp_path, {"x": [b"x"]}).found == {"x": 1}
