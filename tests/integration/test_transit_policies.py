"""The shipped policies against a real server: enough for the work, and not more."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from keyproviders.interface import SecretBytes, UnwrapItem
from keyproviders.transit_policies import PolicyKind, policy
from tests.servers.openbao import KEY, TransitBench

PLAIN = base64.b64encode(bytes(32)).decode()

# Method, path below the mount, body.
FORBIDDEN_TO_BOTH: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", f"export/encryption-key/{KEY}", None),
    ("GET", f"backup/{KEY}", None),
    ("POST", f"restore/{KEY}", {"backup": "x"}),
    ("DELETE", f"keys/{KEY}", None),
    ("DELETE", f"keys/{KEY}/soft-delete", None),
    ("POST", f"keys/{KEY}/soft-delete-restore", {}),
    ("POST", f"keys/{KEY}/import", {"ciphertext": "x"}),
    ("POST", f"keys/{KEY}/config", {"deletion_allowed": True}),
    ("POST", f"keys/{KEY}/config", {"exportable": True}),
    ("POST", f"keys/{KEY}/config", {"allow_plaintext_backup": True}),
    ("POST", f"keys/{KEY}/config", {"auto_rotate_period": "1h"}),
    ("GET", "keys?list=true", None),
    ("POST", "config/keys", {"disable_upsert": False}),
    ("POST", f"datakey/plaintext/{KEY}", {}),
    ("POST", f"datakey/wrapped/{KEY}", {}),
    ("POST", f"hmac/{KEY}", {"input": PLAIN}),
    ("GET", "keys/another", None),
    ("POST", "keys/another", {"type": "aes256-gcm96"}),
    ("POST", "keys/another/rotate", {}),
    ("POST", "encrypt/another", {"plaintext": PLAIN}),
    ("POST", "decrypt/another", {"ciphertext": "vault:v1:x"}),
    ("POST", f"keys/{KEY}2", {"type": "aes256-gcm96"}),
]
FORBIDDEN_TO_RUNTIME: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", f"keys/{KEY}", {"type": "aes256-gcm96"}),
    ("POST", f"keys/{KEY}/rotate", {}),
    ("POST", f"keys/{KEY}/config", {"min_decryption_version": 1}),
    ("POST", f"keys/{KEY}/config", {"min_encryption_version": 1}),
    ("POST", f"keys/{KEY}/trim", {"min_available_version": 1}),
]
FORBIDDEN_TO_ADMINISTRATION: list[tuple[str, str, dict[str, Any] | None]] = [
    ("POST", f"encrypt/{KEY}", {"plaintext": PLAIN}),
    ("POST", f"decrypt/{KEY}", {"ciphertext": "vault:v1:x"}),
    ("POST", f"rewrap/{KEY}", {"ciphertext": "vault:v1:x"}),
    ("POST", f"keys/{KEY}", {"type": "aes256-gcm96", "exportable": True}),
    ("POST", f"keys/{KEY}", {"type": "aes256-gcm96", "derived": True}),
    ("POST", f"keys/{KEY}", {"type": "rsa-2048"}),
]
FORBIDDEN_ELSEWHERE: list[tuple[str, str, dict[str, Any] | None]] = [
    ("GET", "sys/mounts", None),
    ("PUT", "sys/policies/acl/mine", {"policy": ""}),
    ("POST", "auth/token/create", {}),
    ("POST", "auth/token/lookup", {"token": "x"}),
    ("POST", "auth/approle/role/x", {}),
    ("PUT", "sys/seal", {}),
]


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        (PolicyKind.RUNTIME, FORBIDDEN_TO_BOTH + FORBIDDEN_TO_RUNTIME),
        (PolicyKind.ADMINISTRATION, FORBIDDEN_TO_BOTH + FORBIDDEN_TO_ADMINISTRATION),
    ],
)
def test_a_policy_allows_nothing_else(
    transit: TransitBench, kind: PolicyKind, calls: list[tuple[str, str, dict[str, Any] | None]]
) -> None:
    transit.server.write(f"{transit.mount}/keys/{KEY}", type="aes256-gcm96")
    token = transit.token(policy(kind, transit.mount, KEY))
    allowed = []
    for method, path, body in [
        *((method, f"{transit.mount}/{path}", body) for method, path, body in calls),
        *FORBIDDEN_ELSEWHERE,
    ]:
        status, _ = transit.server.request(method, path, body, token=token)
        if status != 403:
            allowed.append((method, path, body, status))
    assert allowed == []
    assert transit.names() == [KEY]


def test_each_forbidden_call_is_a_real_one(transit: TransitBench) -> None:
    """Root is let through to it: a 403 is the policy's, and not that of a path that is not there."""
    transit.server.write(f"{transit.mount}/keys/{KEY}", type="aes256-gcm96")
    calls = FORBIDDEN_TO_BOTH + FORBIDDEN_TO_RUNTIME + FORBIDDEN_TO_ADMINISTRATION
    for method, path, body in calls:
        if method == "DELETE" and path == f"keys/{KEY}":
            continue
        status, document = transit.server.request(method, f"{transit.mount}/{path}", body)
        assert status != 403, path
        assert "unsupported" not in str(document.get("errors")), path


def test_the_policies_are_enough(transit: TransitBench) -> None:
    administration = transit.administration(transit.role(PolicyKind.ADMINISTRATION))
    provider = transit.provider(transit.role(PolicyKind.RUNTIME))
    assert administration.create(KEY) == 1
    assert administration.rotate(KEY) == 2
    (made,) = provider.generate(KEY, 1, [b""])
    item = UnwrapItem(made.wrapped, b"")  # type: ignore[union-attr]
    (moved,) = provider.rewrap([item], 2)
    administration.retire(KEY, 1)
    administration.destroy(KEY, 1)
    (opened,) = provider.unwrap([UnwrapItem(moved, b"")])  # type: ignore[arg-type]
    assert isinstance(opened, SecretBytes)
    assert [each.version for each in provider.key_info(KEY).versions] == [2]
    described = transit.server.request("GET", f"{transit.mount}/keys/{KEY}")[1]["data"]
    assert not any(
        described[name] for name in ("exportable", "allow_plaintext_backup", "deletion_allowed", "derived")
    )
