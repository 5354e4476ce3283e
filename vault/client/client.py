"""The client: one method per thing a vault does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from vault.client.address import server_url
from vault.client.arguments import checked_purpose
from vault.client.batches import BatchCalls
from vault.client.credential import checked, read_credential
from vault.client.errors import Misconfigured, Unavailable
from vault.client.keys import KeyCalls
from vault.client.oversight import OversightCalls
from vault.client.records import RecordCalls
from vault.client.retrying import RetryPolicy
from vault.client.session import PURPOSE_HEADER, Session
from vault.client.tls import ClientCertificate, tls_context
from vault.client.transport import Exchange, Transport

DEFAULT_SERVER = "http://127.0.0.1:8420"


class Client(RecordCalls, BatchCalls, OversightCalls, KeyCalls):
    """A connection to a vault; use it as a context manager or close it.

    It is safe to share between threads, and to make before a process forks: each process has connections of its own.

    Every method raises ``StrongroomError`` (see ``vault.client.errors``) when the vault says no, and ``ValueError``
    for an argument that must not be sent. Personal values travel in bodies only, never in a URL.

    What fails for a moment is tried again if that cannot do a thing twice: reads, whatever the vault has said it did
    not do, and, by an ``Idempotency-Key``, creations and batches of writes. docs/client.md has the whole table.

    Args:
        server: ``https://host[:port]``, or ``http://`` to this machine.
        credential: ``strongroom_...``.
        credential_file: a file that holds it in its first line, with mode 0600; give this or ``credential``.
        purpose: what the calls are for, ``[a-z0-9._:-]{1,64}``; the vault records it with each of them.
        timeout_seconds: for connecting, and for each wait on an answer.
        retries: the most further tries of one request, up to 1,000; 0 for none.
        retry_seconds: after this time no further try starts.
        ca: PEM file of the authorities to trust instead of the system's.
        client_certificate: PEM file with a certificate and its key, or a pair of files, for a server that wants one.
        insecure_http: allow ``http://`` to another machine, which sends everything in the clear.
        exact_numbers: give fractions in ``data`` as ``Decimal`` instead of ``float``; integers are always exact.
        observer: called after each exchange with method, path, status, time and the number of the try.

    Raises:
        Misconfigured: the settings do not allow a safe call.
    """

    def __init__(  # noqa: PLR0913 - the settings of a client, each with its default
        self,
        server: str = DEFAULT_SERVER,
        *,
        credential: str | None = None,
        credential_file: str | Path | None = None,
        purpose: str | None = None,
        timeout_seconds: float = 10.0,
        retries: int = 4,
        retry_seconds: float = 30.0,
        ca: str | Path | None = None,
        client_certificate: ClientCertificate | None = None,
        insecure_http: bool = False,
        exact_numbers: bool = False,
        observer: Callable[[Exchange], None] | None = None,
    ) -> None:
        if credential is not None and credential_file is not None:
            raise Misconfigured("Give credential or credential_file, not both.", code="credential-twice")
        if credential_file is not None:
            credential = read_credential(Path(credential_file))
        headers: dict[str, str] = {}
        if credential is not None:
            headers["Authorization"] = f"Bearer {checked(credential)}"
        if purpose is not None:
            headers[PURPOSE_HEADER] = checked_purpose(purpose)
        url = server_url(server, insecure_http=insecure_http)
        tls = None
        if url.scheme == "https":
            tls = tls_context(ca=None if ca is None else Path(ca), client_certificate=client_certificate)
        elif client_certificate is not None:
            raise Misconfigured(
                "A client certificate is shown over https:// only.", code="client-certificate"
            )
        transport = Transport(
            url,
            tls=tls,
            timeout_seconds=timeout_seconds,
            exact_numbers=exact_numbers,
            retrying=RetryPolicy(retries, retry_seconds),
            observer=observer,
        )
        self._session = Session(transport, headers)

    def __repr__(self) -> str:
        return f"Client({self._session.server!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A client holds a credential and is not pickled: make one in each process.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A closed client raises ``ConnectionFailed``."""
        self._session.close()

    def for_purpose(self, purpose: str) -> Self:
        """Return a client for another purpose that shares this one's connections (and their end)."""
        other = type(self).__new__(type(self))
        other.__dict__ |= self.__dict__
        other._session = self._session.for_purpose(checked_purpose(purpose))  # noqa: SLF001 - a copy of this class
        return other

    def ready(self) -> bool:
        """Tell whether the vault can serve just now; needs no credential, and does not wait until it can.

        Raises:
            ConnectionFailed: nobody answers at all.
        """
        try:
            self._session.send("GET", "/readyz", waits=False)
        except Unavailable:
            return False
        return True
