"""What a caller says with every request, and what it makes of the answers: one result, or a list page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ParamSpec, Self, TypeVar
from urllib.parse import urlencode

from vault.client.documents import encode
from vault.client.errors import UnexpectedAnswer
from vault.client.results import Json
from vault.client.transport import KEY_HEADER, Answer, Request, Transport

PURPOSE_HEADER = "Strongroom-Purpose"

_Result = TypeVar("_Result")
_Arguments = ParamSpec("_Arguments")


class Session:
    """Sends requests over a transport with one caller's headers.

    Args:
        transport: shared with the sessions that are made of this one.
        headers: credential and purpose, already checked.
    """

    def __init__(self, transport: Transport, headers: Mapping[str, str]) -> None:
        self._transport = transport
        self._headers = dict(headers)

    @property
    def server(self) -> str:
        """The address of the server."""
        return self._transport.server

    def close(self) -> None:
        """Close the connections, those of all sessions that share them."""
        self._transport.close()

    def for_purpose(self, purpose: str) -> Self:
        """Return a session for another purpose over the same connections."""
        return type(self)(self._transport, {**self._headers, PURPOSE_HEADER: purpose})

    def send(  # noqa: PLR0913 - what a request is made of
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: Any = None,
        content: bytes | None = None,
        media_type: str = "application/json",
        if_match: str | None = None,
        idempotency_key: str | None = None,
        reads: bool | None = None,
        waits: bool = True,
    ) -> Answer:
        """Send one request and return its successful answer; see ``Transport.exchange``.

        Args:
            method: the HTTP method.
            path: starts with ``/``; its segments are safe as they stand.
            query: parameters; those that are None are left out. Never personal values: URLs end in logs.
            body: a document to send as JSON, or None.
            content: the same, as JSON already.
            media_type: of the body.
            if_match: an ETag.
            idempotency_key: already checked.
            reads: the request changes nothing; None: if it is a GET.
            waits: False if a pause before another try is of no use.

        Raises:
            StrongroomError: every other outcome.
        """
        headers = dict(self._headers)
        if body is not None:
            content = encode(body)
        if content is not None:
            headers["Content-Type"] = media_type
        if if_match is not None:
            headers["If-Match"] = if_match
        if idempotency_key is not None:
            headers[KEY_HEADER] = idempotency_key
        named = {name: value for name, value in (query or {}).items() if value is not None}
        return self._transport.exchange(
            Request(
                method=method,
                path=path + (f"?{urlencode(named)}" if named else ""),
                headers=headers,
                content=content,
                reads=method == "GET" if reads is None else reads,
                waits=waits,
            )
        )

    def pages(
        self, page: Callable[[str | None], Answer], read: Callable[[Json], _Result]
    ) -> Iterator[_Result]:
        """Walk through a list, asking for the next page when the last one is used up.

        Args:
            page: asks for the page at a cursor; None for the first.
            read: makes a result of one item.

        Raises:
            UnexpectedAnswer: something else than a list came, or one that does not advance.
        """
        cursor: str | None = None
        while True:
            answer = page(cursor)
            items, following = read_answer(answer, _page, answer.document)
            for item in items:
                yield read_answer(answer, read, item)
            if following is None:
                return
            if following == cursor:
                # Asking again would give the same page for ever.
                raise UnexpectedAnswer(
                    "The server's list does not advance.", status=answer.status, code="unexpected-answer"
                )
            cursor = following


def _page(document: Json) -> tuple[list[Json], str | None]:
    return document["items"], document["next_cursor"]


def read_answer(
    answer: Answer,
    reader: Callable[_Arguments, _Result],
    *args: _Arguments.args,
    **kwargs: _Arguments.kwargs,
) -> _Result:
    """Return what the reader makes of an answer.

    Raises:
        UnexpectedAnswer: the answer has not the form that the reader knows.
    """
    try:
        return reader(*args, **kwargs)
    except (KeyError, TypeError, ValueError, AttributeError):
        # The original error can quote the answer, and the answer is personal.
        raise UnexpectedAnswer(
            "The answer is not in the form that this client knows: are client and server of one release?",
            status=answer.status,
            code="unexpected-answer",
        ) from None
