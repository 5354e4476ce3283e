from __future__ import annotations

import gzip
import hashlib
import io
import os
import threading
from pathlib import Path

import pytest

from vault.cli.failure import Failure
from vault.cli.moving.source import Fingerprint, Source, is_same_beginning

NOTHING = io.BytesIO()


@pytest.fixture
def content() -> bytes:
    return os.urandom(200_000)


def read(path: Path | None, stream: io.BytesIO = NOTHING, *, size: int | None = None) -> bytes:
    with Source(path, stream) as source:
        return b"".join(source.chunks(source.size() if path is not None and size is None else size))


def print_of(data: bytes) -> Fingerprint:
    return Fingerprint(len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_is_read_as_often_as_needed(tmp_path: Path, content: bytes, packed: bool) -> None:  # noqa: FBT001
    path = tmp_path / "file"
    raw = gzip.compress(content[:100_000]) + gzip.compress(content[100_000:]) if packed else content
    path.write_bytes(raw)
    prints: list[Fingerprint] = []
    with Source(path, NOTHING) as source:
        assert source.is_file
        assert b"".join(source.checked_chunks(len(raw), prints)) == content
        assert prints == [print_of(raw)] == [source.fingerprint(len(raw))]
        assert b"".join(source.chunks(len(raw))) == content
        assert is_same_beginning(source, print_of(raw))


def test_what_is_appended_while_it_is_read_is_left(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with Source(path, NOTHING) as source:
        size = source.size()
        chunks = source.chunks(size)
        first = next(chunks)
        with path.open("ab") as more:
            more.write(b"more")
        assert first + b"".join(chunks) == content
        assert source.size() == size + 4
        assert is_same_beginning(source, print_of(content))
        assert not is_same_beginning(source, print_of(content + b"other"))
        assert not is_same_beginning(source, print_of(content + b"more and more"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_stream_is_read_once(content: bytes, packed: bool) -> None:  # noqa: FBT001
    raw = gzip.compress(content) if packed else content
    with Source(None, io.BytesIO(raw)) as source:
        assert not source.is_file
        assert b"".join(source.chunks()) == content


def test_a_pipe_under_a_name_is_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"a,b\n",))
    writer.start()
    with Source(path, NOTHING) as source:
        assert not source.is_file
        assert b"".join(source.chunks()) == b"a,b\n"
    writer.join()


@pytest.mark.parametrize("kept", [1, 30, 5_000, -1])
def test_gzip_that_ends_too_early_is_named(tmp_path: Path, content: bytes, kept: int) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(content)[:kept])
    if kept == 1:
        assert len(read(path)) == 1  # no gzip yet
        return
    with pytest.raises(Failure, match=r"ends too early") as caught:
        read(path)
    assert "still being written" in caught.value.message


def test_broken_gzip_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.gz"
    raw = bytearray(gzip.compress(content))
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(Failure, match="broken gzip"):
        read(path)
    path.write_bytes(gzip.compress(content) + b"rubbish behind it")
    with pytest.raises(Failure, match="broken gzip"):
        read(path)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="No such file"):
        Source(tmp_path / "nothing", NOTHING)
    with pytest.raises(Failure, match="directory"):
        Source(tmp_path, NOTHING)
