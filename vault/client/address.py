"""Where a vault is: an address that can be used safely."""

from __future__ import annotations

import ipaddress

from urllib3.exceptions import LocationParseError
from urllib3.util import Url, parse_url

from vault.client.errors import Misconfigured


def server_url(server: str, *, insecure_http: bool) -> Url:
    """Read ``https://host[:port][/prefix]``, or ``http://`` to this machine.

    Args:
        server: the address.
        insecure_http: allow ``http://`` to another machine.

    Raises:
        Misconfigured: another address; the sentence does not repeat what could be a credential.
    """
    try:
        url = parse_url(server)
    except LocationParseError:
        raise Misconfigured("The server's address is not a URL.", code="server-address") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise Misconfigured(
            "The server's address must look like https://vault.example.com or http://127.0.0.1:8420.",
            code="server-address",
        )
    if url.auth or url.query or url.fragment:
        raise Misconfigured(
            "The server's address must hold no user, query or fragment; pass the credential as credential or credential_file.",
            code="server-address",
        )
    if url.scheme == "http" and not insecure_http and not _is_loopback(url.host):
        raise Misconfigured(
            f"http:// to {url.host} would carry the credential and every record in the clear. Use https://, or "
            "allow it with insecure_http if something else encrypts this way.",
            code="insecure-http",
        )
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
