"""The least that the two roles need at a transit server, as policies to write there."""

from __future__ import annotations

import enum
import importlib.resources
import re

from keyproviders.keyset import KEY_NAME

__all__ = ["PolicyKind", "policy"]

_MOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", re.ASCII)


class PolicyKind(enum.StrEnum):
    """Whose policy it is."""

    RUNTIME = "runtime"
    ADMINISTRATION = "administration"


def policy(kind: PolicyKind, mount: str, key: str) -> str:
    """Write the policy of a role for one key, in the language of the server.

    Args:
        kind: whose.
        mount: where the transit engine is, for example ``transit``.
        key: the key's name there. Several keys: one policy each.

    Raises:
        ValueError: the mount or the key is no plain name. What else stood there could widen the policy.
    """
    mount = mount.strip("/")
    if not _MOUNT.fullmatch(mount):
        raise ValueError(f"{mount!r} is no mount: letters, digits, '.', '_', '-', in parts separated by '/'")
    if not KEY_NAME.fullmatch(key):
        raise ValueError(f"{key!r} is no name for a key: 1 to 64 letters, digits, '.', '_' or '-'")
    template = importlib.resources.files("keyproviders") / "policies" / f"transit-{kind.value}.hcl"
    return template.read_text("utf-8").replace("@mount@", mount).replace("@key@", key)
