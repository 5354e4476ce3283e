"""TLS to database servers: certificates that are checked, and what is said of those that will not do."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.certificates import Authority
from tests.servers.databases import SERVERS, server_of
from tests.servers.mariadb import Mariadb, running_mariadb
from tests.servers.postgresql import Postgresql, running_postgresql
from tests.servers.served_vaults import Run, ServedVault, make_vault, sentence_of, write_config
from tests.servers.unprivileged import own_folder
from vault.core.errors import UnavailableError
from vault.storage.opening import open_engine

if TYPE_CHECKING:
    from conftest import Server

pytestmark = [pytest.mark.own_home, pytest.mark.sqlite_only("has servers of its own, whatever is asked for")]

ALONE = {"STRONGROOM_WORKER__WITH_SERVER": "false", "STRONGROOM_SERVER__WORKERS": "1"}
HERE = ("127.0.0.1", "localhost")
NOT_LOOPBACK = "0.0.0.0"  # noqa: S104  # reaches this machine, and is no loopback address by name
CA = 'ca = "ca.pem"'


@dataclass(frozen=True)
class TlsServer:
    """A database server that speaks TLS.

    Attributes:
        server: it.
        authority: vouches for it.
        folder: where its certificate lies.
        vault: a vault on it.
    """

    server: Postgresql | Mariadb
    authority: Authority
    folder: Path
    vault: ServedVault

    def show(self, authority: Authority, *names: str, **options: Any) -> None:
        """Let the server show another certificate from now on."""
        authority.issue(self.folder, *names, **options)
        if isinstance(self.server, Postgresql):
            self.server.reload()
        else:
            self.server.execute("FLUSH SSL")


@pytest.fixture(scope="module", params=SERVERS)
def tls(
    request: pytest.FixtureRequest,
    free_port: Callable[[], int],
    missing: Callable[[str], None],
    strongroom: Run,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TlsServer]:
    authority = Authority("the tests' authority")
    with own_folder("certificates") as folder:
        certificate, key = folder / "server.crt", folder / "server.key"
        authority.issue(folder, *HERE)
        running = (
            running_postgresql(free_port, missing, ssl="on", ssl_cert_file=certificate, ssl_key_file=key)
            if request.param == "postgresql"
            else running_mariadb(free_port, missing, f"--ssl-cert={certificate}", f"--ssl-key={key}")
        )
        with running as server:
            if isinstance(server, Postgresql):
                # What comes without TLS is not let in.
                access = server.folder / "data" / "pg_hba.conf"
                access.write_text(access.read_text().replace("host ", "hostssl "))
                server.reload()
            else:
                server.execute("ALTER USER 'strongroom'@'%' REQUIRE SSL")
            home = tmp_path_factory.mktemp("tls")
            authority.write(home / "ca.pem")
            yield TlsServer(
                server, authority, folder, make_vault(strongroom, home, server.new_database(), more=CA)
            )


@pytest.fixture
def again(tls: TlsServer) -> Iterator[TlsServer]:
    """With the right certificate again, after the test."""
    yield tls
    tls.show(tls.authority, *HERE)


def config_for(tls: TlsServer, folder: Path, *, host: str = "", more: str = CA) -> Path:
    """A configuration that reaches the vault in another way."""
    address = tls.vault.address
    ((here, port),) = address.hosts
    url = f"{address.scheme}://{address.user}@{host or here}:{port}/{address.database}"
    tls.authority.write(folder / "ca.pem")
    return tls.vault.elsewhere(
        folder / "vault", address, url=url, more=more.replace("ca.pem", "../ca.pem")
    ).config


def refusal(strongroom: Run, config: Path) -> str:
    said = sentence_of(strongroom("serve", "--config", config))
    assert "p@ss" not in said
    return said


@pytest.mark.parametrize("host", HERE)
def test_a_vault_over_tls_works(
    tls: TlsServer, start_server: Callable[..., Server], strongroom: Run, tmp_path: Path, host: str
) -> None:
    config = config_for(tls, tmp_path, host=host)
    server = start_server(
        data=tmp_path / "data", credential=tls.vault.credential, config=config, environment=ALONE
    )
    path = server.api.create({"email": f"{host}@example.org"})
    assert server.api.plain(path) == {"email": f"{host}@example.org"}
    assert server.stop() == 0
    assert strongroom("verify", "--config", config).returncode == 0


def test_another_authority_is_refused(tls: TlsServer, strongroom: Run, tmp_path: Path) -> None:
    config = config_for(tls, tmp_path)
    Authority("somebody else").write(tmp_path / "ca.pem")
    said = refusal(strongroom, config)
    assert said.startswith(f"Error: {tls.vault.address.place} cannot be opened. The server's certificate ")
    assert "[database] ca" in said


def test_the_systems_authorities_do_not_vouch_for_it(tls: TlsServer, strongroom: Run, tmp_path: Path) -> None:
    said = refusal(strongroom, config_for(tls, tmp_path, host=NOT_LOOPBACK, more=""))
    assert f"{NOT_LOOPBACK}:" in said
    assert "The server's certificate is not vouched for" in said


def test_another_name_is_refused(again: TlsServer, strongroom: Run, tmp_path: Path) -> None:
    again.show(again.authority, "db.example.org", "192.0.2.1")
    said = refusal(strongroom, config_for(again, tmp_path))
    assert said.startswith(f"Error: {again.vault.address.place} cannot be opened. ")
    assert "The server's certificate is for another name than [database] url has" in said


def test_an_expired_one_is_refused(again: TlsServer, strongroom: Run, tmp_path: Path) -> None:
    again.show(again.authority, *HERE, days_left=-1)
    said = refusal(strongroom, config_for(again, tmp_path))
    assert said.startswith(f"Error: {again.vault.address.place} cannot be opened. ")
    assert "expired" in said


def test_a_server_that_insists_on_tls_is_not_reached_without(
    tls: TlsServer, strongroom: Run, tmp_path: Path
) -> None:
    said = refusal(strongroom, config_for(tls, tmp_path, more=""))
    assert said.startswith(f"Error: {tls.vault.address.place} cannot be opened. ")


def pass_on_until_hello(listener: socket.socket, behind: tuple[str, int]) -> None:
    """Stand before a server, and hang up when the client begins TLS."""
    near, _ = listener.accept()
    with near, socket.create_connection(behind) as far:
        while True:
            (source,), _, _ = select.select([near, far], [], [], 10)
            data = source.recv(65_536)
            # The hello may come in one piece with what asked for TLS.
            if not data or (source is near and b"\x16\x03" in data):
                return
            (far if source is near else near).sendall(data)


def test_a_server_that_goes_away_while_tls_begins_may_be_back_soon(tls: TlsServer, tmp_path: Path) -> None:
    address = tls.vault.address
    ca = tls.authority.write(tmp_path / "ca.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as other:
        other.submit(pass_on_until_hello, listener, address.hosts[0])
        here = replace(address, hosts=(listener.getsockname(),), is_encrypted=True, ca=ca)
        with pytest.raises(UnavailableError, match="cannot be reached just now"):
            open_engine(here)


@pytest.mark.parametrize("engine", SERVERS)
def test_a_server_without_tls(
    request: pytest.FixtureRequest, strongroom: Run, tmp_path: Path, engine: str
) -> None:
    server = server_of(request, engine)
    address = server.new_database()
    ((_, port),) = address.hosts
    far = f"{address.scheme}://{address.user}@{NOT_LOOPBACK}:{port}/{address.database}"
    Authority("some authority").write(tmp_path / "ca.pem")
    # With ca, or to any host but loopback, TLS is required.
    for options in ({"more": CA}, {"url": far}):
        said = sentence_of(strongroom("init", "--config", write_config(tmp_path, address, **options)))
        assert "cannot be opened. The server does not speak TLS" in said
        assert str(port) in said
    make_vault(strongroom, tmp_path, address, url=far, more="insecure_plain = true")
