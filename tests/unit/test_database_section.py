from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from vault.bootstrap.databases import database_address
from vault.config import load_configuration
from vault.core.errors import MisconfiguredError
from vault.storage import opening
from vault.storage.address import ServerAddress
from vault.storage.opening import open_engine


def address(url: str, **options: Any) -> ServerAddress:
    made = database_address(load_configuration(None, Path("data"), {"database": {"url": url, **options}}))
    assert isinstance(made, ServerAddress)
    return made


def test_an_address_is_what_the_url_says() -> None:
    made = address("postgresql://some%40one@db1,db2:5433,[::1]:5434/vault%2D1", ca="ca.pem", pool_size=3)
    assert made.hosts == (("db1", 5432), ("db2", 5433), ("::1", 5434))
    assert (made.user, made.database, made.pool_size) == ("some@one", "vault-1", 3)
    assert made.target_session_attrs == "read-write"
    assert made.is_encrypted
    assert made.ca == Path("data").resolve() / "ca.pem"
    assert made.place == "postgresql://db1:5432,db2:5433,[::1]:5434/vault-1"
    socket = address("mariadb://u@/v?socket=/run/mysqld/mysqld.sock")
    assert (socket.hosts, socket.socket) == ((), "/run/mysqld/mysqld.sock")
    assert address("mysql://u@localhost/v").hosts == (("localhost", 3306),)
    assert address("postgresql://u@a,b/v?target_session_attrs=any").target_session_attrs == "any"


@pytest.mark.parametrize(
    ("url", "options", "is_encrypted"),
    [
        ("postgresql://u@127.0.0.1/v", {}, False),
        ("postgresql://u@localhost/v", {}, False),
        ("postgresql://u@127.0.0.1,db2/v", {}, True),
        ("mysql://u@db/v", {}, True),
        ("mysql://u@db/v", {"insecure_plain": True}, False),
        ("mysql://u@127.0.0.1/v", {"ca": "ca.pem"}, True),
        ("mysql://u@db/v", {"insecure_plain": True, "ca": "ca.pem"}, True),
    ],
)
def test_only_what_stays_on_the_machine_is_plain(
    url: str, options: dict[str, Any], *, is_encrypted: bool
) -> None:
    assert address(url, **options).is_encrypted is is_encrypted


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("oracle://u@h/hildegard", {}, "no known scheme"),
        ("postgres://u@h/hildegard", {}, "no known scheme"),
        ("postgresql://u:hildegard@h/v", {}, "a password does not stand in the configuration"),
        ("postgresql://u:@h/hildegard", {}, "a password does not stand in the configuration"),
        ("postgresql://h/hildegard", {}, "postgresql://USER@HOST:PORT/NAME is needed"),
        ("postgresql://u@h", {}, "postgresql://USER@HOST:PORT/NAME is needed"),
        ("postgresql://u@h/v/hildegard", {}, "postgresql://USER@HOST:PORT/NAME is needed"),
        ("postgresql://u@h/v?sslmode=hildegard", {}, "unknown after the question mark: sslmode"),
        ("postgresql://u@h/v?target_session_attrs=hildegard", {}, "target_session_attrs is for PostgreSQL"),
        ("mysql://u@h/v?target_session_attrs=any", {}, "target_session_attrs is for PostgreSQL"),
        ("mysql://u@h1,h2/hildegard", {}, "several hosts are for PostgreSQL"),
        ("mysql://u@h:99999/hildegard", {}, "a host is a name or an address and a port"),
        ("mysql://u@hil degard/v", {}, "a host is a name or an address and a port"),
        ("mysql://u@/hildegard", {}, "either hosts, or"),
        ("mysql://u@h/v?socket=/hildegard", {}, "either hosts, or"),
        ("mysql://u@h/v", {"password": "hildegard"}, "a secret does not stand in the configuration"),
        ("mysql://u@h/v", {"password": {}}, "one of the two"),
        ("mysql://u@h/v", {"password": {"file": "a", "env": "b"}}, "one of the two"),
        ("sqlite:hildegard", {"password": {"file": "a"}}, "are for database servers"),
        ("mysql://u@h/v", {"pool_size": 0}, "pool_size"),
    ],
)
def test_what_is_wrong_is_named_without_its_value(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(MisconfiguredError) as caught:
        address(url, **options)
    assert said in caught.value.detail
    assert "hildegard" not in caught.value.detail


def test_a_replica_is_reached_like_the_database_at_its_own_url() -> None:
    settings = {
        "url": "postgresql://u@db1/v",
        "replica_url": "postgresql://u@r1,r2:5433/v",
        "ca": "ca.pem",
        "pool_size": 3,
    }
    section = load_configuration(None, Path("data"), {"database": settings}).settings.database.replica
    assert section is not None
    assert (section.hosts, section.pool_size) == ((("r1", 5432), ("r2", 5433)), 3)
    assert (section.ca, section.is_encrypted, section.replica) == (Path("ca.pem"), True, None)


@pytest.mark.parametrize(
    ("url", "replica", "said"),
    [
        ("sqlite:a.db", "postgresql://u@r/v", "replica_url are for database servers"),
        ("postgresql://u@db/v", "mariadb://u@r/v", "replica_url: a replica of postgresql"),
        ("postgresql://u@db/v", "postgresql://u:hidden@r/v", "replica_url: a password"),
        ("postgresql://u@db/v", "elsewhere", "replica_url: no known scheme"),
    ],
)
def test_a_replica_that_cannot_be_one_is_refused(url: str, replica: str, said: str) -> None:
    with pytest.raises(MisconfiguredError) as refused:
        address(url, replica_url=replica)
    assert said in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_a_password_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("hilde gard/%40\n")
    made = address("mysql://u@h/v", password={"file": str(secret)})
    assert made.password == b"hilde gard/%40"
    assert "hilde" not in repr(made)
    monkeypatch.setenv("DATABASE_PASSWORD", "hildegard")
    assert address("mysql://u@h/v", password={"env": "DATABASE_PASSWORD"}).password == b"hildegard"
    secret.chmod(0o644)
    with pytest.raises(MisconfiguredError, match=r"^\[database\] password: others may read "):
        address("mysql://u@h/v", password={"file": str(secret)})
    with pytest.raises(
        MisconfiguredError, match=r"^\[database\] password: there is no environment variable NOT_THERE$"
    ):
        address("mysql://u@h/v", password={"env": "NOT_THERE"})


@pytest.mark.parametrize(
    ("scheme", "module", "driver", "extra"),
    [
        ("postgresql", "postgresql", "psycopg", "postgresql"),
        ("mysql", "mariadb", "pymysql", "mysql"),
        ("mariadb", "mariadb", "pymysql", "mysql"),
    ],
)
def test_a_missing_driver_names_its_extra(
    monkeypatch: pytest.MonkeyPatch, scheme: str, module: str, driver: str, extra: str
) -> None:
    monkeypatch.delitem(sys.modules, f"vault.storage.{module}", raising=False)
    monkeypatch.setitem(sys.modules, driver, None)
    with pytest.raises(MisconfiguredError) as caught:
        open_engine(address(f"{scheme}://u@127.0.0.1/v"))
    assert f"pip install 'strongroom[{extra}]'" in caught.value.detail
    assert scheme in opening._SERVERS
