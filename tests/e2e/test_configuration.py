"""What else a configuration can get wrong; in process, for the real command says it the same way (test_start.py)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vault.config import load_configuration
from vault.core.errors import MisconfiguredError

pytestmark = pytest.mark.own_home


@pytest.fixture(autouse=True)
def no_variables_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith("STRONGROOM_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "listen",
    [
        "localhost:8420",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:70000",
        ":8420",
        "x",
        "",
        "0.0.0.0:1",
        "[::]:1",
    ],
)
def test_an_address_that_cannot_be_listened_on_safely(listen: str) -> None:
    with pytest.raises(MisconfiguredError, match="listen"):
        load_configuration(None, None, {"server": {"listen": listen}})


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "127.1.2.3:65535", "[::1]:8420"])
def test_an_address_that_can(listen: str) -> None:
    assert load_configuration(None, None, {"server": {"listen": listen}}).settings.server.listen == listen


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("nonsense = 1\n", "nonsense"),
        ("[server]\nworkers = 0\n", "server.workers"),
        ("[server]\nworkers = 65\n", "server.workers"),
        ("[server]\nworkers = 'hildegard'\n", "server.workers"),
        ("[server.tls]\ncertificate = 'a.pem'\n", "server.tls.key"),
        (
            "[server.tls]\ncertificate = 'a.pem'\nkey = 'b.pem'\npassword = 'hildegard'\n",
            "server.tls.password",
        ),
        ("[database]\nurl = 'oracle://hildegard'\n", "database"),
        ("[database]\nurl = 'sqlite:'\n", "database"),
        ("[keyrings.default]\nprovider = 'elsewhere'\nkey = 'records'\n", "elsewhere"),
        ("[keyrings.default]\nprovider = 'disk'\nkey = 'a b'\n", "keyrings.default.key"),
        ("[providers.disk]\npath = 'hildegard'\n", "providers.disk.type"),
        ("[providers.Disk]\ntype = 'file'\npath = 'hildegard'\n", "Disk"),
    ],
)
def test_a_file_that_is_wrong_is_named_by_place_and_not_by_value(
    tmp_path: Path, text: str, named: str
) -> None:
    file = tmp_path / "strongroom.toml"
    file.write_text(text)
    with pytest.raises(MisconfiguredError) as caught:
        load_configuration(file, None)
    assert named in caught.value.detail
    assert "hildegard" not in caught.value.detail


@pytest.mark.parametrize(
    "variable",
    [
        "STRONGROOM_SERVER_LISTEN",
        "strongroom_server__listen",
        "STRONGROOM_",
        "STRONGROOM___",
        "STRONGROOM_LOG__LEVEL",
    ],
)
def test_a_variable_that_maps_to_nothing(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "hildegard")
    with pytest.raises(MisconfiguredError) as caught:
        load_configuration(None, None)
    assert variable in caught.value.detail
    assert "hildegard" not in caught.value.detail


def test_variables_go_before_the_file_and_the_command_line_before_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "strongroom.toml"
    file.write_text("[server]\nlisten = '127.0.0.1:1'\nworkers = 3\n")
    assert load_configuration(file, None).settings.server.port == 1
    monkeypatch.setenv("STRONGROOM_SERVER__LISTEN", "127.0.0.1:2")
    assert load_configuration(file, None).settings.server.port == 2
    server = load_configuration(file, None, {"server": {"listen": "127.0.0.1:3"}}).settings.server
    assert (server.port, server.workers) == (3, 3)


def test_a_file_that_is_not_there_and_two_homes_at_once(tmp_path: Path) -> None:
    with pytest.raises(MisconfiguredError, match=r"config\.example\.toml"):
        load_configuration(tmp_path / "nothing.toml", None)
    with pytest.raises(MisconfiguredError, match="--config"):
        load_configuration(tmp_path / "a.toml", tmp_path)
