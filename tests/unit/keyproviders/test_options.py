"""Options of a provider's table: what is read, and how what is wrong is named without showing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import ProviderSettings
from keyproviders.options import number_option, secret_option, text_option

SECRET = "s3cret-canary"


def settings(folder: Path, **options: Any) -> ProviderSettings:
    return ProviderSettings(name="door", options=options, folder=folder)


def revealed(folder: Path, reference: Any) -> bytes | None:
    secret = secret_option(settings(folder, pin=reference), "pin")
    return None if secret is None else secret.reveal()


def test_a_secret_is_read_from_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "pin"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    assert revealed(tmp_path, {"file": "pin"}) == SECRET.encode()
    assert revealed(tmp_path, {"file": str(path)}) == SECRET.encode()


def test_only_one_line_break_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "pin"
    path.touch(0o600)
    path.write_bytes(b" a b \r\n\r\n")
    assert revealed(tmp_path, {"file": "pin"}) == b" a b \r\n"


def test_a_secret_is_read_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOOR_PIN", SECRET)
    assert revealed(tmp_path, {"env": "DOOR_PIN"}) == SECRET.encode()


def test_a_secret_that_is_not_configured_is_none(tmp_path: Path) -> None:
    assert secret_option(settings(tmp_path), "pin") is None


@pytest.mark.parametrize(
    "reference",
    [
        SECRET,
        1234,
        "",
        {},
        {"file": ""},
        {"file": 1},
        {"env": "A", "file": "b"},
        {"value": SECRET},
        {"file": "a\0b"},
    ],
)
def test_a_secret_that_is_no_reference_is_refused_and_not_shown(tmp_path: Path, reference: Any) -> None:
    with pytest.raises(
        ProviderMisconfiguredError, match=r"^\[providers.door\] needs pin = \{ file"
    ) as refused:
        revealed(tmp_path, reference)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("mode", "content", "said"),
    [
        (0o640, SECRET, "others may read"),
        (0o604, SECRET, "chmod 600"),
        (0o600, "", "is empty"),
        (0o600, "\n", "is empty"),
    ],
)
def test_a_secret_file_that_cannot_be_used_is_named(
    tmp_path: Path, mode: int, content: str, said: str
) -> None:
    path = tmp_path / "pin"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ProviderMisconfiguredError, match=said) as refused:
        revealed(tmp_path, {"file": "pin"})
    assert SECRET not in str(refused.value)


def test_the_longest_secret(tmp_path: Path) -> None:
    path = tmp_path / "pin"
    path.touch(0o600)
    path.write_bytes(b"x" * 65_536)
    assert revealed(tmp_path, {"file": "pin"}) == b"x" * 65_536
    path.write_bytes(b"x" * 65_537)
    with pytest.raises(ProviderMisconfiguredError, match="65,536 bytes"):
        revealed(tmp_path, {"file": "pin"})


def test_a_reference_that_points_at_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProviderMisconfiguredError, match=r"pin: .*nowhere cannot be read"):
        revealed(tmp_path, {"file": "nowhere"})
    with pytest.raises(ProviderMisconfiguredError, match="no environment variable DOOR_NOT_SET"):
        revealed(tmp_path, {"env": "DOOR_NOT_SET"})


def test_texts_and_numbers_have_bounds(tmp_path: Path) -> None:
    given = settings(tmp_path, mount="transit", wait=2.5, bad=True, empty="")
    assert text_option(given, "mount") == "transit"
    assert text_option(given, "namespace", "root") == "root"
    assert number_option(given, "wait", 1, least=0.1, most=60) == 2.5
    assert number_option(given, "other", 7, least=1, most=60) == 7
    for option in ("empty", "absent", "wait"):
        with pytest.raises(ProviderMisconfiguredError, match=option):
            text_option(given, option)
    with pytest.raises(ProviderMisconfiguredError, match="from 1 to 60"):
        number_option(given, "bad", 1, least=1, most=60)
    with pytest.raises(ProviderMisconfiguredError, match="from 3 to 60"):
        number_option(given, "wait", 1, least=3, most=60)
