"""Starts that must not happen: exit code 1, one sentence that says what to do, no traceback, nothing touched."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3

if TYPE_CHECKING:
    from conftest import Api, Server

pytestmark = [
    pytest.mark.own_home,
    pytest.mark.sqlite_only("looks at the database's file and its neighbours, and damages them"),
]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def data(new_vault: Callable[[], tuple[Path, str]]) -> Path:
    return new_vault()[0]


@pytest.fixture
def refuse(strongroom: Run, free_port: Callable[[], int]) -> Callable[..., str]:
    """Runs ``strongroom serve`` and asserts that it refuses to start; gives the sentence."""

    def check(*arguments: str | Path, command: str = "serve", **options: Any) -> str:
        if command == "serve" and "--listen" not in arguments and "environment" not in options:
            arguments = ("--listen", f"127.0.0.1:{free_port()}", *arguments)
        done = strongroom(command, *arguments, **options)
        return _sentence(done)

    return check


def _sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert "strongroom serves" not in done.stdout
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
    return done.stderr


def _snapshot(folder: Path) -> dict[str, bytes]:
    # SQLite makes -shm and -wal whenever somebody looks; locks are empty files.
    kept = (each for each in folder.iterdir() if each.suffix in {".db", ".json"} and each.is_file())
    return {each.name: each.read_bytes() for each in kept}


class TestKeyFile:
    """Without the right key file nothing starts, and nothing is made in its place."""

    @pytest.fixture
    def refused(self, refuse: Callable[..., str], data: Path) -> Callable[..., str]:
        def check(*arguments: str, command: str = "serve") -> str:
            before = _snapshot(data)
            sentence = refuse("--data", data, *arguments, command=command)
            assert _snapshot(data) == before
            assert str(data / "keys.json") in sentence
            return sentence

        return check

    def test_missing(self, refused: Callable[..., str], data: Path) -> None:
        (data / "keys.json").unlink()
        assert "disk" in refused()
        assert not (data / "keys.json").exists()

    @pytest.mark.parametrize("mode", [0o644, 0o620])
    def test_open_to_others(self, refused: Callable[..., str], data: Path, mode: int) -> None:
        (data / "keys.json").chmod(mode)
        assert "chmod 600" in refused()

    @pytest.mark.parametrize("damage", ["empty", "cut", "garbage", "flipped"])
    def test_damaged(self, refused: Callable[..., str], data: Path, damage: str) -> None:
        file = data / "keys.json"
        content = file.read_bytes()
        material = re.search(rb'"material": ?"([^"]+)"', content)
        assert material is not None
        start = material.start(1)
        flipped = (
            content[:start] + (b"B" if content[start : start + 1] != b"B" else b"C") + content[start + 1 :]
        )
        file.write_bytes(
            {
                "empty": b"",
                "cut": content[: len(content) // 2],
                "garbage": os.urandom(500),
                "flipped": flipped,
            }[damage]
        )
        secret = material[1].decode()
        assert secret not in refused()

    @pytest.mark.parametrize("command", [("verify",), ("init", "--new-credential")], ids=lambda each: each[0])
    def test_the_other_commands_refuse_as_well(
        self, refused: Callable[..., str], data: Path, command: tuple[str, ...]
    ) -> None:
        (data / "keys.json").chmod(0o644)
        assert "chmod 600" in refused(*command[1:], command=command[0])

    def test_a_folder_in_its_place(self, refused: Callable[..., str], data: Path) -> None:
        (data / "keys.json").unlink()
        (data / "keys.json").mkdir(mode=0o700)
        refused()


def test_the_key_file_of_another_vault_is_refused(
    strongroom: Run, refuse: Callable[..., str], data: Path, tmp_path: Path
) -> None:
    assert strongroom("init", "--data", tmp_path / "other").returncode == 0
    shutil.copy2(tmp_path / "other" / "keys.json", data / "keys.json")
    before = _snapshot(data)
    sentence = refuse("--data", data)
    assert "key" in sentence
    assert _snapshot(data) == before
    assert strongroom("verify", "--data", data).returncode in {1, 3}


class TestDatabase:
    """A database that this release cannot or should not open."""

    @pytest.mark.parametrize("command", ["serve", "database"])
    def test_newer_than_the_code(self, refuse: Callable[..., str], data: Path, command: str) -> None:
        with closing(sqlite3.connect(data / "strongroom.db")) as connection, connection:
            columns = [row[1] for row in connection.execute("PRAGMA table_info(schema_history)")]
            values = [{"id": 999, "name": "0999_from_the_future"}.get(name, 0) for name in columns]
            marks = ", ".join("?" * len(columns))
            connection.execute(f"INSERT INTO schema_history VALUES ({marks})", values)  # noqa: S608 - counted marks
        arguments = ("upgrade", "--apply") if command == "database" else ()
        sentence = refuse(*arguments, "--data", data, command=command)
        assert "0999_from_the_future" in sentence
        assert "newer release" in sentence

    def test_no_database_at_all(self, refuse: Callable[..., str], data: Path) -> None:
        (data / "strongroom.db").write_bytes(b"not a database " * 500)
        for suffix in ("-wal", "-shm"):
            (data / f"strongroom.db{suffix}").unlink(missing_ok=True)
        assert str(data / "strongroom.db") in refuse("--data", data)

    def test_an_empty_file(self, refuse: Callable[..., str], data: Path) -> None:
        (data / "strongroom.db").write_bytes(b"")
        for suffix in ("-wal", "-shm"):
            (data / f"strongroom.db{suffix}").unlink(missing_ok=True)
        assert "strongroom database upgrade" in refuse("--data", data)

    def test_a_unique_index_is_missing(self, refuse: Callable[..., str], data: Path) -> None:
        with closing(sqlite3.connect(data / "strongroom.db")) as connection, connection:
            names = connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'index_entry' AND sql LIKE '%UNIQUE%'"
            ).fetchall()
            for (name,) in names:
                connection.execute(f'DROP INDEX "{name}"')
        assert "index_entry" in refuse("--data", data)

    def test_none_for_verify(self, refuse: Callable[..., str], tmp_path: Path) -> None:
        assert "strongroom init" in refuse("--data", tmp_path / "nothing", command="verify")
        assert not (tmp_path / "nothing").exists()


class TestListening:
    """Where a server may listen."""

    def test_two_servers_on_one_data_folder(
        self, start_server: Callable[..., Server], refuse: Callable[..., str]
    ) -> None:
        server = start_server()
        sentence = refuse("--data", server.data)
        assert "Another strongroom server" in sentence
        assert server.api.get("/readyz").gives(200)["status"] == "ready"

    def test_the_folder_is_free_again_after_a_stop(self, start_server: Callable[..., Server]) -> None:
        first = start_server()
        path = first.api.create({"n": 1})
        assert first.stop() == 0
        second = start_server(data=first.data, credential=first.credential)
        assert second.api.plain(path) == {"n": 1}
        assert second.stop() == 0

    def test_a_port_that_is_taken(self, server: Server, refuse: Callable[..., str], data: Path) -> None:
        address = server.url.removeprefix("http://")
        assert address in refuse("--listen", address, "--data", data)

    @pytest.mark.parametrize("address", ["0.0.0.0", "[::]"])  # noqa: S104 - the point of the test
    def test_another_address_without_tls(
        self, refuse: Callable[..., str], data: Path, free_port: Callable[[], int], address: str
    ) -> None:
        sentence_lines = refuse("--listen", f"{address}:{free_port()}", "--data", data)
        assert "TLS" in sentence_lines
        assert "insecure_http" in sentence_lines

    def test_another_address_without_tls_if_somebody_says_so(
        self, start_server: Callable[..., Server]
    ) -> None:
        server = start_server(
            host="0.0.0.0",  # noqa: S104 - the point of the test
            environment={"STRONGROOM_SERVER__INSECURE_HTTP": "true"},
        )
        server.api.get("/v1/collections/users").gives(200)
        assert server.stop() == 0

    def test_the_environment_overrides_the_file(
        self, free_port: Callable[[], int], strongroom: Run, tmp_path: Path, server: Server
    ) -> None:
        config = tmp_path / "strongroom.toml"
        config.write_text(f'[server]\nlisten = "127.0.0.1:{free_port()}"\n')
        taken = server.url.removeprefix("http://")
        done = strongroom("init", "--config", config)
        assert done.returncode == 0, done.stderr
        environment = {"STRONGROOM_SERVER__LISTEN": taken}
        done = strongroom("serve", "--config", config, environment=environment)
        assert taken in _sentence(done)


class TestConfiguration:
    """Nothing is guessed, nothing is ignored."""

    @pytest.mark.parametrize(
        ("text", "named"),
        [
            ("[server]\nlistne = '127.0.0.1:8420'\n", "server.listne"),
            ("[sever]\nlisten = '127.0.0.1:8420'\n", "sever"),
            ("[server\n", "TOML"),
        ],
    )
    def test_a_file_that_says_something_unknown(
        self, strongroom: Run, tmp_path: Path, text: str, named: str
    ) -> None:
        config = tmp_path / "strongroom.toml"
        config.write_text(text)
        assert named in _few_lines(strongroom("serve", "--config", config))
        assert [each.name for each in tmp_path.iterdir()] == ["strongroom.toml"]

    def test_an_option_that_the_provider_does_not_know(self, strongroom: Run, tmp_path: Path) -> None:
        config = tmp_path / "strongroom.toml"
        config.write_text("[providers.disk]\ntype = 'file'\npath = 'k.json'\npaht = 'x'\n")
        assert "paht" in _few_lines(strongroom("init", "--config", config))
        assert [each.name for each in tmp_path.iterdir()] == ["strongroom.toml"]

    @pytest.mark.parametrize(
        ("variable", "named"),
        [
            ("STRONGROOM_SERVER__LISTNE", "server.listne"),
            ("STRONGROOM_SEVER__LISTEN", "STRONGROOM_SEVER__LISTEN"),
        ],
    )
    def test_a_variable_that_maps_to_nothing(
        self, strongroom: Run, tmp_path: Path, variable: str, named: str
    ) -> None:
        done = strongroom("serve", "--data", tmp_path / "data", environment={variable: "hildegard"})
        lines = _few_lines(done)
        assert named in lines
        assert "hildegard" not in lines
        assert list(tmp_path.iterdir()) == []

    def test_paths_start_where_the_file_lies(
        self, strongroom: Run, start_server: Callable[..., Server], tmp_path: Path
    ) -> None:
        home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
        home.mkdir()
        elsewhere.mkdir()
        (home / "strongroom.toml").write_text(
            "[database]\nurl = 'sqlite:db/vault.db'\n[providers.hand]\ntype = 'file'\npath = 'keys/kek.json'\n"
            "[keyrings.default]\nprovider = 'hand'\nkey = 'main'\n"
        )
        done = strongroom(
            "init", "--config", home / "strongroom.toml", "--credential-file", elsewhere / "c", cwd=elsewhere
        )
        assert done.returncode == 0, done.stderr
        server = start_server(
            data=home, credential=(elsewhere / "c").read_text().strip(), config=home / "strongroom.toml"
        )
        server.api.create({"n": 1})
        assert server.stop() == 0
        assert (home / "keys" / "kek.json").stat().st_mode & 0o777 == 0o600
        assert (home / "db" / "vault.db").stat().st_mode & 0o077 == 0
        assert {each.name for each in elsewhere.iterdir()} == {"c"}


def _few_lines(done: subprocess.CompletedProcess[str]) -> str:
    """The message, which may list several keys."""
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")
    return done.stderr


class TestInit:
    """Making a vault, once."""

    def test_it_shows_the_credential_once_and_the_vault_keeps_only_its_hash(
        self, strongroom: Run, start_server: Callable[..., Server], tmp_path: Path
    ) -> None:
        data = tmp_path / "data"
        done = strongroom("init", "--data", data)
        assert done.returncode == 0, done.stderr
        (credential,) = re.findall(r"strongroom_[A-Za-z0-9_-]{43}", done.stdout)
        assert data.stat().st_mode & 0o777 == 0o700
        for file in data.iterdir():
            assert file.stat().st_mode & 0o077 == 0
            assert credential.encode() not in file.read_bytes()
        server = start_server(data=data, credential=credential)
        assert [each["action"] for each in server.api.audit()] == [
            "collection.define", "credential.create", "vault.init",
        ]  # fmt: skip
        assert server.stop() == 0

    def test_serve_makes_a_vault_at_its_first_start(
        self, start_server: Callable[..., Server], make_api: Callable[..., Api], tmp_path: Path
    ) -> None:
        server = start_server(data=tmp_path / "data")
        (credential,) = re.findall(r"strongroom_[A-Za-z0-9_-]{43}", server.log)
        make_api(server.url, credential).create({"n": 1})
        assert "lie side by side" in server.log
        assert server.stop() == 0

    def test_a_second_time_is_refused(self, strongroom: Run, data: Path, tmp_path: Path) -> None:
        before = _snapshot(data)
        done = strongroom("init", "--data", data, "--credential-file", tmp_path / "credential")
        assert "--new-credential" in _sentence(done)
        assert _snapshot(data) == before
        assert not (tmp_path / "credential").exists()

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_a_credential_file_that_cannot_be_new_stops_it_before_anything_is_made(
        self, strongroom: Run, tmp_path: Path, kind: str
    ) -> None:
        file, data = tmp_path / "credential", tmp_path / "data"
        if kind == "file":
            file.write_text("precious")
        else:
            file.symlink_to(tmp_path / "target")
        done = strongroom("init", "--data", data, "--credential-file", file)
        assert str(file) in _sentence(done)
        assert not data.exists()
        assert kind != "file" or file.read_text() == "precious"
        assert not (tmp_path / "target").exists()

    def test_a_new_credential_for_no_vault(self, strongroom: Run, tmp_path: Path) -> None:
        done = strongroom("init", "--new-credential", "--data", tmp_path / "data")
        assert "strongroom init" in _sentence(done)
        assert not (tmp_path / "data").exists()


def test_an_answer_over_plain_http_on_a_tls_port_is_no_answer(server: Server) -> None:
    pool = urllib3.PoolManager(retries=False, timeout=5)
    with pytest.raises(urllib3.exceptions.HTTPError):
        pool.request("GET", server.url.replace("http:", "https:") + "/healthz")
    pool.clear()
