"""The options of type transit: what is read, and what is refused with which sentence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from keyproviders import registry
from keyproviders.errors import ProviderMisconfiguredError
from keyproviders.interface import ProviderSettings
from keyproviders.registry import open_administration, open_provider, provider_type
from keyproviders.transit_options import AppRole, StaticToken, read_administration_options, read_options
from keyproviders.transit_policies import PolicyKind, policy
from vault.cli.dev_openbao import write_certificates

SECRET = "s3cret-canary"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.touch(0o600)
    path.write_text(SECRET + "\n")
    return tmp_path


def settings(folder: Path, *, admin: dict[str, Any] | None = None, **options: Any) -> ProviderSettings:
    auth = {"method": "approle", "role_id": "role", "secret_id": {"file": "secret"}}
    table = {"url": "https://bao.example:8200", "auth": auth} | options
    return ProviderSettings(
        "bao", {name: value for name, value in table.items() if value is not None}, folder, admin or {}
    )


def test_defaults(folder: Path) -> None:
    options = read_options(settings(folder))
    assert options.url == "https://bao.example:8200"
    assert (options.mount, options.namespace, options.ca) == ("transit", None, None)
    assert options.timeouts == (1, 2)
    assert options.max_batch == 249
    assert isinstance(options.auth, AppRole)
    assert (options.auth.mount, options.auth.role_id) == ("approle", "role")
    assert options.auth.secret_id().reveal() == SECRET.encode()


def test_everything(folder: Path) -> None:
    write_certificates(folder)
    options = read_options(
        settings(
            folder,
            url="https://[::1]:8200/",
            mount="/kms/transit/",
            namespace="team/a",
            ca="ca.pem",
            client_certificate={"certificate": "server.pem", "key": "server.key"},
            connect_timeout_seconds=0.5,
            read_timeout_seconds=5,
            max_batch=1,
            auth={"method": "token", "token": {"file": "secret"}},
        )
    )
    assert options.url == "https://[::1]:8200"
    assert (options.mount, options.namespace) == ("kms/transit", "team/a")
    assert options.ca == folder / "ca.pem"
    assert options.client_certificate == (folder / "server.pem", folder / "server.key")
    assert options.timeouts == (0.5, 5)
    assert isinstance(options.auth, StaticToken)
    assert SECRET not in repr(options)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8200", "http://localhost:8200", "http://[::1]:8200"])
def test_plain_http_is_for_loopback(folder: Path, url: str) -> None:
    assert read_options(settings(folder, url=url)).url == url


def test_plain_http_elsewhere_has_to_be_wanted(folder: Path) -> None:
    with pytest.raises(ProviderMisconfiguredError, match="use https, or set insecure_http"):
        read_options(settings(folder, url="http://10.0.0.1:8200"))
    url = "http://10.0.0.1:8200"
    assert read_options(settings(folder, url=url, insecure_http=True)).url == url


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": None}, "needs url"),
        ({"url": "bao.example:8200"}, "needs url"),
        ({"url": "ftp://bao.example"}, "needs url"),
        ({"url": "https://"}, "needs url"),
        ({"url": "https://bao.example:port"}, "needs url"),
        ({"url": "https://bao.example/v1"}, "needs url"),
        ({"url": f"https://user:{SECRET}@bao.example"}, "without a user"),
        ({"url": "https://bao.example?x=1"}, "without a user, a query"),
        ({"insecure_http": "yes"}, "insecure_http = true or false"),
        ({"mount": "../sys"}, "mount: letters"),
        ({"mount": "a//b"}, "mount: letters"),
        ({"mount": 1}, "needs mount"),
        ({"namespace": "a?b"}, "namespace: letters"),
        ({"connect_timeout_seconds": 0}, "connect_timeout_seconds"),
        ({"read_timeout_seconds": "2"}, "read_timeout_seconds"),
        ({"max_batch": 0}, "max_batch"),
        ({"ca": "missing.pem"}, "ca: .* is missing"),
        ({"ca": "secret"}, "ca: .* holds no certificates"),
        ({"client_certificate": "x"}, "needs client_certificate"),
        ({"client_certificate": {"certificate": "x"}}, "needs client_certificate"),
        ({"client_certificate": {"certificate": "x", "key": "y"}}, "are missing"),
        ({"token": SECRET}, "unknown options: token"),
        ({"verify": False}, "unknown options: verify"),
        ({"auth": None}, "needs auth"),
        ({"auth": SECRET}, "needs auth"),
        ({"auth": {"method": "ldap"}}, "needs auth"),
        ({"auth": {"method": "approle", "secret_id": {"file": "secret"}}}, "needs role_id"),
        ({"auth": {"method": "approle", "role_id": "r"}}, "needs secret_id"),
        ({"auth": {"method": "approle", "role_id": "r", "secret_id": SECRET}}, "does not stand"),
        ({"auth": {"method": "approle", "role_id": "r", "secret_id": {"file": "none"}}}, "cannot be read"),
        ({"auth": {"method": "token"}}, "needs token"),
        ({"auth": {"method": "token", "token": {"file": "secret"}, "role_id": "r"}}, "unknown options"),
        ({"auth": {"method": "token", "token": {"env": "TRANSIT_TOKEN"}}}, "printable ASCII"),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_shown(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    monkeypatch.setenv("TRANSIT_TOKEN", f"{SECRET}\nX-Other: header")
    with pytest.raises(ProviderMisconfiguredError, match=words) as caught:
        open_provider("transit", settings(folder, **options))
    assert caught.value.provider == "bao"
    assert "[providers.bao" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_key_of_a_client_certificate_is_private(folder: Path) -> None:
    write_certificates(folder)
    (folder / "server.key").chmod(0o644)
    table = {"certificate": "server.pem", "key": "server.key"}
    with pytest.raises(ProviderMisconfiguredError, match="run: chmod 600"):
        read_options(settings(folder, client_certificate=table))


def test_administration_logs_in_by_its_own_table(folder: Path) -> None:
    admin = {"auth": {"method": "token", "token": {"file": "secret"}}}
    assert isinstance(read_administration_options(settings(folder, admin=admin)).auth, StaticToken)
    assert isinstance(read_options(settings(folder, admin=admin)).auth, AppRole)
    for wrong, words in (
        ({}, r"needs admin\.auth"),
        ({"auth": {}, "url": "x"}, "admin has unknown options: url"),
    ):
        with pytest.raises(ProviderMisconfiguredError, match=words):
            open_administration("transit", settings(folder, admin=wrong))


def test_a_missing_extra_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("keyproviders.transit")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "hvac", None)
    monkeypatch.setitem(sys.modules, "hvac.adapters", None)
    with pytest.raises(ProviderMisconfiguredError, match=r"pip install 'strongroom\[transit\]'") as caught:
        provider_type("transit", provider="bao")
    assert caught.value.provider == "bao"


def test_a_bug_of_ours_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "broken", "keyproviders.nothing_of_this_name:Type")
    with pytest.raises(ModuleNotFoundError):
        provider_type("broken")


@pytest.mark.parametrize("kind", list(PolicyKind))
def test_policies_name_mount_and_key(kind: PolicyKind) -> None:
    text = policy(kind, "/team/transit/", "records")
    assert 'path "team/transit/keys/records"' in text
    assert "@" not in text
    assert ("/encrypt/" in text) is (kind is PolicyKind.RUNTIME)


@pytest.mark.parametrize(
    ("mount", "key"),
    [("transit", "*"), ("transit", 'a" {}'), ("", "a"), ("+", "a"), ("transit", "a/b"), ("a\n", "a")],
)
def test_a_name_that_would_widen_a_policy_is_refused(mount: str, key: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        policy(PolicyKind.RUNTIME, mount, key)
