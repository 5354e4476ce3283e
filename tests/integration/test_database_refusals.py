"""Database servers that cannot hold a vault, or not for this user: one line says what, where, and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tests.servers.databases import SERVERS, server_of
from tests.servers.mariadb import Mariadb
from tests.servers.postgresql import PASSWORD
from tests.servers.served_vaults import Run, ServedVault, make_vault, sentence_of, write_config
from vault.cli.doctor import command as doctor

if TYPE_CHECKING:
    from conftest import Server

pytestmark = [pytest.mark.own_home, pytest.mark.sqlite_only("has servers of its own, whatever is asked for")]

ALONE = {"STRONGROOM_WORKER__WITH_SERVER": "false", "STRONGROOM_SERVER__WORKERS": "1"}
HIDDEN = "hildegard"
_vaults: dict[str, ServedVault] = {}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> Any:
    return server_of(request, request.param)


@pytest.fixture
def vault(
    server: Any, strongroom: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> ServedVault:
    if server.scheme not in _vaults:
        folder = tmp_path_factory.mktemp(server.scheme)
        _vaults[server.scheme] = make_vault(strongroom, folder, server.new_database())
    template = _vaults[server.scheme]
    return template.elsewhere(tmp_path / "vault", server.copy_database(template.address))


def wrong_password(_server: Any, vault: ServedVault) -> tuple[Path, str]:
    (vault.config.parent / "password").write_text(HIDDEN)
    return vault.config, "The password or the user is wrong"


def unknown_user(_server: Any, vault: ServedVault) -> tuple[Path, str]:
    return write_config(
        vault.config.parent, replace(vault.address, user="nobody")
    ), "password or the user is wrong"


def no_such_database(_server: Any, vault: ServedVault) -> tuple[Path, str]:
    return write_config(vault.config.parent, replace(vault.address, database="elsewhere")), "no such database"


def unfit_text(server: Any, vault: ServedVault) -> tuple[Path, str]:
    if server.scheme == "postgresql":
        made = server.new_database(how="ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        return write_config(
            vault.config.parent, made
        ), "has the encoding LATIN1, which cannot hold every text; make"
    server.execute(
        "ALTER TABLE collection MODIFY name VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL",
        vault.address.database,
    )
    return vault.config, "The column collection.name has the collation utf8mb4_general_ci"


def missing_index(server: Any, vault: ServedVault) -> tuple[Path, str]:
    name = "audit_entry_entry_id"
    where = "" if server.scheme == "postgresql" else " ON audit_entry"
    server.execute(f"DROP INDEX {name}{where}", vault.address.database)
    return vault.config, "The table audit_entry lacks its index over entry_id"


@pytest.mark.parametrize(
    "provoke", [wrong_password, unknown_user, no_such_database, unfit_text, missing_index]
)
def test_a_database_that_is_refused(
    server: Any, vault: ServedVault, strongroom: Run, provoke: Callable[..., tuple[Path, str]]
) -> None:
    config, said = provoke(server, vault)
    found = sentence_of(strongroom("serve", "--config", config))
    assert said in found
    report = CliRunner().invoke(doctor, ["--config", str(config), "--json"], catch_exceptions=False)
    assert report.exit_code == 3
    (error,) = [each for each in json.loads(report.output)["findings"] if each["level"] == "error"]
    assert said in error["sentence"]
    for text in (found, error["sentence"]):
        assert HIDDEN not in text
        assert PASSWORD not in text
        # Where, and once.
        assert text.count("://") <= 1
        assert "collection.name" in text or "audit_entry" in text or "://127.0.0.1:" in text


def test_a_missing_privilege(
    server: Any, vault: ServedVault, strongroom: Run, start_server: Callable[..., Server]
) -> None:
    reader = replace(vault.address, user="looks", password=b"p@ss")
    is_postgresql = server.scheme == "postgresql"
    empty = server.new_database()
    if is_postgresql:
        server.execute("CREATE ROLE looks LOGIN PASSWORD 'p@ss'")
        server.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO looks", vault.address.database)
    else:
        server.execute("CREATE USER 'looks'@'%' IDENTIFIED BY 'p@ss'")
        for name in (vault.address.database, empty.database):
            server.execute(f"GRANT SELECT ON {name}.* TO 'looks'@'%'")
    config = write_config(vault.config.parent, replace(reader, database=empty.database))
    said = sentence_of(strongroom("init", "--config", config))
    words = (
        "The database user lacks a privilege for this; docs/operations/databases.md lists those that it needs"
    )
    assert f"{empty.place}: {words}; nothing was written." in said
    config = write_config(vault.config.parent, reader)
    running = start_server(data=vault.data, credential=vault.credential, config=config, environment=ALONE)
    problem = running.api.post("/v1/collections/users/records", {"data": {"n": 1}}).refuses(
        503, "store-unavailable"
    )
    assert problem["detail"] == f"{words}; nothing was written."
    assert running.stop() == 0


@pytest.mark.parametrize(
    ("scheme", "driver", "extra"),
    [("postgresql", "psycopg", "postgresql"), ("mariadb", "pymysql", "mysql"), ("mysql", "pymysql", "mysql")],
)
@pytest.mark.parametrize("command", ["init", "serve", "doctor"])
def test_a_missing_driver(tmp_path: Path, scheme: str, driver: str, extra: str, command: str) -> None:
    text = f"import sys; sys.modules[{driver!r}] = None; from vault.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", text, command, "--data", tmp_path / "data"],
        env={"STRONGROOM_DATABASE__URL": f"{scheme}://u@127.0.0.1:1/v"},
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    said = f"{scheme}: the driver is not installed; run: pip install 'strongroom[{extra}]'"
    if command == "doctor":
        assert done.returncode == 3
        assert said in " ".join(done.stdout.split())
    else:
        assert sentence_of(done) == f"Error: {said}"


@pytest.mark.parametrize("url", ["oracle://u@h/v", "postgres://u@h/v", f"postgresql://u:{HIDDEN}@h/v"])
@pytest.mark.parametrize("command", ["init", "serve"])
def test_a_url_that_will_not_do(strongroom: Run, tmp_path: Path, command: str, url: str) -> None:
    config = tmp_path / "strongroom.toml"
    config.write_text(f'[database]\nurl = "{url}"\n')
    done = strongroom(command, "--config", config)
    assert done.returncode == 1
    where, what = done.stderr.splitlines()
    assert str(config) in where
    assert what.startswith("  database: url: ")
    assert "known are sqlite:" in what or "take it out" in what
    assert HIDDEN not in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["strongroom.toml"]


@contextmanager
def other_habits(server: Any, database: str) -> Iterator[None]:
    """A server whose sessions begin with another time zone, and with much that would change what is stored."""
    if not isinstance(server, Mariadb):
        for name, value in {
            "timezone": "'Asia/Tokyo'", "standard_conforming_strings": "off", "bytea_output": "'escape'",
            "datestyle": "'SQL, DMY'", "default_transaction_isolation": "'serializable'", "extra_float_digits": "0",
        }.items():  # fmt: skip
            server.execute(f"ALTER DATABASE {database} SET {name} = {value}")
        yield
        return
    begin = "SET sql_mode='ANSI_QUOTES,NO_BACKSLASH_ESCAPES', time_zone='-11:00', autocommit=0, tx_isolation='SERIALIZABLE'"
    server.execute(f'SET GLOBAL init_connect = "{begin}"')
    try:
        yield
    finally:
        server.execute("SET GLOBAL init_connect = ''")


def test_a_server_with_other_habits(
    server: Any, strongroom: Run, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    address = server.new_database()
    document = {"email": "zoë@example.org", "note": "\\' \\\" \0 ☃ %s 100% \x7f\n"}
    with other_habits(server, address.database):
        made = make_vault(strongroom, tmp_path / "made", address)
        running = start_server(data=made.data, credential=made.credential, config=made.config)
        path = running.api.create(document)
        assert running.api.plain(path) == document
        assert [each["token"] for each in running.api.lookup("email", "Zoë@example.org")["items"]] == [
            path.rsplit("/", 1)[1]
        ]
        assert {"record.create", "record.read"} <= {each["action"] for each in running.api.audit()}
        assert running.stop() == 0
        assert strongroom("verify", "--config", made.config).returncode == 0
