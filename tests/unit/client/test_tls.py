from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

import strongroom
from strongroom import Client

CREDENTIAL = "strongroom_" + "Zx9_-" * 8 + "abc"
PASS_PHRASE = b"canary-pass-phrase"


@dataclass
class Authority:
    """Signs certificates of its own, each in a file with its key in another."""

    folder: Path
    name: str

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        certificate = self._sign(self._issuer, self._key, x509.BasicConstraints(ca=True, path_length=0))
        self.file = self.folder / f"{self.name}.pem"
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, constraints: x509.BasicConstraints
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(hours=1))
            .add_extension(x509.SubjectAlternativeName([address]), critical=False)
            .add_extension(constraints, critical=True)
            .sign(self._key, SHA256())
        )

    def pair(self, name: str, *, pass_phrase: bytes | None = None) -> tuple[Path, Path]:
        """Write a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, x509.BasicConstraints(ca=False, path_length=None))
        cert_file, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        protection: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if pass_phrase is not None:
            protection = serialization.BestAvailableEncryption(pass_phrase)
        key_file.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, protection)
        )
        return cert_file, key_file


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def tls_server(authority: Authority, start_tls_server: Callable[[ssl.SSLContext], Any]) -> Any:
    """Talks to those only who show a certificate of the authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.pair("server"))
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    return start_tls_server(context)


@pytest.mark.parametrize("together", [False, True])
def test_a_server_that_wants_a_certificate_gets_it(
    tls_server: Any, authority: Authority, metadata: dict[str, Any], *, together: bool
) -> None:
    shown: Any = authority.pair("client")
    if together:
        both = authority.folder / "both.pem"
        both.write_bytes(shown[1].read_bytes() + shown[0].read_bytes())
        shown = str(both)
    for _ in range(2):
        tls_server.will_answer(metadata, status=201)
    with Client(tls_server.url, credential=CREDENTIAL, ca=authority.file, client_certificate=shown) as client:
        assert [client.create("users", {"n": n}).generation for n in range(2)] == [2, 2]
    assert tls_server.connections == 1
    assert tls_server.asked[0].headers["Authorization"] == f"Bearer {CREDENTIAL}"


@pytest.mark.parametrize("shown", ["none", "another authority's"])
def test_a_server_that_wants_another_certificate(tls_server: Any, authority: Authority, shown: str) -> None:
    pair = None if shown == "none" else Authority(authority.folder, "other").pair("client")
    with (
        Client(tls_server.url, ca=authority.file, client_certificate=pair, retries=2) as client,
        pytest.raises(strongroom.ConnectionFailed) as caught,
    ):
        client.create("users", {"email": "ada.canary@example.com"})
    assert tls_server.asked == []
    # The server's last word says it; it is lost if the client was still sending when the connection ended.
    assert caught.value.code in {"tls", "connection-lost"}
    assert caught.value.outcome_unknown == ("outcome unknown" in str(caught.value))


def test_a_server_of_another_authority_is_not_talked_to(tls_server: Any, authority: Authority) -> None:
    other = Authority(authority.folder, "other")
    for ca in (None, other.file):
        with (
            Client(tls_server.url, ca=ca, client_certificate=authority.pair("client")) as client,
            pytest.raises(strongroom.ConnectionFailed, match="certificate verify failed") as caught,
        ):
            client.create("users", {})
        assert (caught.value.code, caught.value.attempts) == ("tls", 1)
        assert not caught.value.outcome_unknown
    assert tls_server.asked == []


def test_files_that_cannot_be_used_are_named(authority: Authority) -> None:
    certificate, key = authority.pair("client")
    _, encrypted = authority.pair("encrypted", pass_phrase=PASS_PHRASE)
    _, foreign = authority.pair("foreign")
    empty = authority.folder / "empty.pem"
    empty.write_bytes(b"")
    missing = authority.folder / "missing.pem"
    cases: list[tuple[Any, str]] = [
        ((missing, key), f"{missing} cannot be read: No such file"),
        ((certificate, missing), f"{missing} cannot be read: No such file"),
        ((certificate, authority.folder), f"{authority.folder} cannot be read: Is a directory"),
        (missing, f"{missing} cannot be read: No such file"),
        ((certificate, encrypted), f"key in {encrypted} is encrypted.*openssl pkey"),
        ((certificate, foreign), f"key in {foreign} is not that of the certificate in {certificate}"),
        ((empty, key), f"No certificate in {empty}"),
        ((certificate, empty), f"its key in {empty}"),
        ((key, certificate), "both are PEM files"),
        (certificate, "both are PEM files"),
    ]
    for shown, sentence in cases:
        with pytest.raises(strongroom.Misconfigured, match=sentence) as caught:
            Client("https://127.0.0.1:1", client_certificate=shown)
        assert caught.value.code == "client-certificate"
        assert "BEGIN PRIVATE" not in f"{caught.value!r}{caught.value.__cause__!r}"


def test_the_clear_way_shows_no_certificate(authority: Authority) -> None:
    with pytest.raises(strongroom.Misconfigured, match="over https://") as caught:
        Client("http://127.0.0.1:1", client_certificate=authority.pair("client"))
    assert caught.value.code == "client-certificate"
