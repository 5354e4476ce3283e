"""The curl lines that repeat the walk by hand, with the credential in a file and every value on standard input."""

from __future__ import annotations

import os
import secrets
import shlex
from pathlib import Path

HEADERS_NAME = "curl-headers"


def write_headers(data: Path, credential: str) -> Path:
    """Write the credential where curl reads it as a header, for the owner alone.

    Security: an argument ``-H 'Authorization: ...'`` would stand in the process list.
    """
    path = data / HEADERS_NAME
    # A new file: an older one could have been left open to others.
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"Authorization: Bearer {credential}\n")
    return path


def curl_lines(server: str, headers: Path) -> str:
    """Return shell lines that create, find, read, change, list and erase a record."""
    curl = f"curl -s -w '\\n' -H {shlex.quote(f'@{headers}')}"
    records = f"{server}/v1/collections/users/records"
    email = f"grace.{secrets.randbelow(10_000):04}@example.com"

    def send(
        what: str, url: str, body: str, *, media_type: str = "application/json", method: str = ""
    ) -> str:
        option = f"-X {method} " if method else ""
        return (
            f"# {what}\n{curl} {option}-H 'Content-Type: {media_type}' --data @- {url} <<'EOF'\n{body}\nEOF\n"
        )

    parts = [
        send(
            "store, then put the token of the answer into TOKEN",
            records,
            f'{{"data": {{"name": "Grace Example", "email": "{email}"}}}}',
        ),
        "TOKEN=...\n",
        send("find", f"{records}/lookup", f'{{"field": "email", "value": "{email}"}}'),
        f'# read, masked and plain\n{curl} "{records}/$TOKEN"',
        f'{curl} "{records}/$TOKEN?reveal=plain"\n',
        send(
            "change",
            f'"{records}/$TOKEN"',
            '{"city": "Leipzig"}',
            media_type="application/merge-patch+json",
            method="PATCH",
        ),
        send("who did what", f"{server}/v1/audit/search", '{"collection": "users", "limit": 5}'),
        f"# erase\n{curl} -X DELETE -w '%{{http_code}}\\n' \"{records}/$TOKEN\"",
    ]
    return "\n".join(parts)
