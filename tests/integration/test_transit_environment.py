"""Nothing in the environment reaches the transit provider: no address, token, certificate, proxy or key log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers.openbao import KEY, TransitBench
from vault.cli.dev_openbao import write_certificates

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from pathlib import Path
from keyproviders.errors import KeyProviderError
from keyproviders.interface import ProviderSettings, UnwrapItem
from keyproviders.registry import open_provider

options = json.loads(sys.argv[1])
provider = open_provider("transit", ProviderSettings("bao", options, Path(sys.argv[2])))
try:
    (made,) = provider.generate("records", 1, [b""])
    (opened,) = provider.unwrap([UnwrapItem(made.wrapped, b"")])
    print("same" if opened.reveal() == made.plaintext.reveal() else "other")
except KeyProviderError as error:
    print(type(error).__name__)
provider.close()
"""


def said(bench: TransitBench, options: dict[str, Any], environment: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, json.dumps(options), str(bench.folder)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def hostile(folder: Path, url: str) -> dict[str, str]:
    """Values that would each break a round trip, if anybody listened to them."""
    (folder / ".vault-token").write_text("s.hostile")
    (folder / ".bao-token").write_text("s.hostile")
    (folder / ".netrc").write_text("machine 127.0.0.1 login hostile password hostile\n")
    (folder / "empty").mkdir(exist_ok=True)
    names = {
        "ADDR": "https://127.0.0.1:9",
        "TOKEN": "s.hostile",
        "NAMESPACE": "hostile",
        "CACERT": str(folder / "no.pem"),
        "CAPATH": str(folder / "empty"),
        "CLIENT_CERT": str(folder / "no.pem"),
        "CLIENT_KEY": str(folder / "no.pem"),
        "CLIENT_TIMEOUT": "0",
        "SKIP_VERIFY": "true",
        "PROXY_ADDR": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "TLS_SERVER_NAME": "hostile",
        "WRAP_TTL": "60",
        "AGENT_ADDR": "https://127.0.0.1:9",
        "RATE_LIMIT": "0.001",
    }
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
    certificates = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    return {
        **{f"{prefix}_{name}": value for prefix in ("VAULT", "BAO") for name, value in names.items()},
        **dict.fromkeys(proxies, "http://127.0.0.1:9"),
        **dict.fromkeys(certificates, str(folder / "no.pem")),
        "SSL_CERT_DIR": str(folder / "empty"),
        "SSLKEYLOGFILE": str(folder / "keys.log"),
        "NETRC": str(folder / ".netrc"),
        "HOME": str(folder),
        "NO_PROXY": "",
        "HOSTILE_URL": url,
    }


@pytest.fixture
def bench(transit: TransitBench) -> TransitBench:
    transit.server.write(f"{transit.mount}/keys/{KEY}", type="aes256-gcm96")
    return transit


def test_hostile_values_change_nothing(bench: TransitBench, tmp_path: Path) -> None:
    environment = hostile(tmp_path, bench.server.url)
    assert said(bench, dict(bench.settings().options), environment) == "same"
    assert not (tmp_path / "keys.log").exists()


def test_helpful_values_help_nobody(bench: TransitBench, tmp_path: Path) -> None:
    """A right token and a right CA in the environment must not stand in for wrong ones in the configuration."""
    (tmp_path / ".vault-token").write_text(bench.server.root_token)
    (tmp_path / ".bao-token").write_text(bench.server.root_token)
    ca = str(bench.server.ca)
    helpful = {
        "HOME": str(tmp_path),
        **{f"{prefix}_TOKEN": bench.server.root_token for prefix in ("VAULT", "BAO")},
        **{f"{prefix}_CACERT": ca for prefix in ("VAULT", "BAO")},
        **{f"{prefix}_SKIP_VERIFY": "true" for prefix in ("VAULT", "BAO")},
        **dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"), ca),
    }
    wrong_token = {"method": "token", "token": bench.secret("s.wrong")}
    assert said(bench, dict(bench.settings(wrong_token).options), helpful) == "ProviderCredentialError"
    (tmp_path / "other").mkdir()
    write_certificates(tmp_path / "other")
    for ca_option in (str(tmp_path / "other" / "ca.pem"), None):
        options = {**bench.settings().options, "ca": ca_option}
        if ca_option is None:
            del options["ca"]
        assert said(bench, options, helpful) == "ProviderMisconfiguredError"
