"""TLS with a certificate of the test's own making."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from conftest import Server

pytestmark = pytest.mark.own_home


def _write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "strongroom test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    (folder / "server.key").chmod(0o600)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    _write_certificate(tmp_path)
    (tmp_path / "strongroom.toml").write_text(
        "[server.tls]\ncertificate = 'server.pem'\nkey = 'server.key'\n"
    )
    return tmp_path


def test_a_server_with_tls_listens_to_the_world_and_is_verified(
    start_server: Callable[..., Server], strongroom: Callable[..., Any], home: Path
) -> None:
    config, ca, credential_file = home / "strongroom.toml", home / "server.pem", home / "credential"
    assert strongroom("init", "--config", config, "--credential-file", credential_file).returncode == 0
    credential = credential_file.read_text().strip()
    server = start_server(
        data=home,
        credential=credential,
        config=config,
        ca=ca,
        host="0.0.0.0",  # noqa: S104 - TLS is what allows it
    )
    assert server.api.plain(server.api.create({"n": 1})) == {"n": 1}
    with urllib3.PoolManager(retries=False, timeout=5) as strangers:
        with pytest.raises(urllib3.exceptions.SSLError, match="certificate verify failed"):
            strangers.request("GET", f"{server.url}/healthz")
        with pytest.raises(urllib3.exceptions.HTTPError):
            strangers.request("GET", f"{server.url.replace('https:', 'http:')}/healthz")
    options = ("--server", server.url, "--credential-file", credential_file)
    listed = strongroom("keys", "list", *options, "--ca", ca)
    assert listed.returncode == 0, listed.stderr
    refused = strongroom("keys", "list", *options)
    assert refused.returncode == 1
    assert "--ca" in refused.stderr
    assert server.stop() == 0


@pytest.mark.parametrize(
    "wrong", ["certificate missing", "key missing", "certificate damaged", "key of another"]
)
def test_a_certificate_that_does_not_work_stops_the_start(
    strongroom: Callable[..., Any], free_port: Callable[[], int], home: Path, tmp_path_factory: pytest.TempPathFactory,
    wrong: str,
) -> None:  # fmt: skip
    assert strongroom("init", "--config", home / "strongroom.toml").returncode == 0
    match wrong:
        case "certificate missing":
            (home / "server.pem").unlink()
        case "key missing":
            (home / "server.key").unlink()
        case "certificate damaged":
            (home / "server.pem").write_text("no certificate")
        case _:
            other = tmp_path_factory.mktemp("other")
            _write_certificate(other)
            (home / "server.key").write_bytes((other / "server.key").read_bytes())
    done = strongroom("serve", "--config", home / "strongroom.toml", "--listen", f"127.0.0.1:{free_port()}")
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert done.stderr.startswith("Error: "), done.stderr
    assert "Traceback" not in done.stderr
    assert str(home / ("server.key" if wrong.startswith("key") else "server.pem")) in done.stderr
