from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import strongroom
from strongroom import Client


def _file(tmp_path: Path, content: bytes, mode: int = 0o600) -> Any:
    path = tmp_path / "credential"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\nsecond line\n"])
def test_the_first_line_is_the_credential(server: Any, tmp_path: Path, credential: str, end: bytes) -> None:
    server.will_answer({"items": [], "next_cursor": None})
    with Client(server.url, credential_file=_file(tmp_path, credential.encode() + end)) as client:
        client.keyrings()
    assert server.asked[0].headers["Authorization"] == f"Bearer {credential}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o610])
def test_a_file_open_to_others_is_refused_with_what_to_do(tmp_path: Path, credential: str, mode: int) -> None:
    path = _file(tmp_path, credential.encode(), mode)
    with pytest.raises(strongroom.Misconfigured, match=f"chmod 600 {path}") as caught:
        Client(credential_file=path)
    assert caught.value.code == "credential-file-mode"
    assert credential not in str(caught.value)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_the_owner_is_accepted(tmp_path: Path, credential: str, mode: int) -> None:
    Client(credential_file=str(_file(tmp_path, credential.encode(), mode))).close()


@pytest.mark.parametrize(
    "content", [b"", b"hunter2-canary\n", b"\xff\xfe\n", b"strongroom_short-canary", b"x" * 100_000]
)
def test_what_is_no_credential_is_refused_and_not_repeated(tmp_path: Path, content: bytes) -> None:
    path = _file(tmp_path, content)
    with pytest.raises(strongroom.Misconfigured, match=str(path)) as caught:
        Client(credential_file=path)
    assert caught.value.code == "credential-malformed"
    assert "canary" not in f"{caught.value!r}{caught.value.__context__!r}"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(strongroom.Misconfigured, match="No such file"):
        Client(credential_file=tmp_path / "nowhere")


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(strongroom.Misconfigured, match="cannot be read"):
        Client(credential_file=tmp_path)


def test_a_credential_cannot_smuggle_a_header(credential: str) -> None:
    with pytest.raises(strongroom.Misconfigured):
        Client(credential=f"{credential}\r\nX-Evil: 1")
    with pytest.raises(strongroom.Misconfigured):
        Client(credential=f"{credential}\n")


def test_two_credentials_are_one_too_many(tmp_path: Path, credential: str) -> None:
    with pytest.raises(strongroom.Misconfigured, match="not both"):
        Client(credential=credential, credential_file=_file(tmp_path, credential.encode()))
