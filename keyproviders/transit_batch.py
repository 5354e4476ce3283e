"""Batches of the transit engine: split to what the server takes, one answer per item whatever it answered.

The engine says that an item failed in four ways: status 200 with an ``error`` in the item (always for rewrap), 400 with
the good results beside the bad ones (encrypt and decrypt), 400 for the whole request, and a list of another length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

from keyproviders.errors import ProviderMisconfiguredError, ProviderUnavailableError
from keyproviders.transit_session import TransitSession
from keyproviders.transit_wire import Answer

__all__ = ["ItemAnswer", "TransitBatches"]

T = TypeVar("T")
_TOO_MUCH = ("complexity", "too large", "exceeded maximum", "exceeds maximum")


@dataclass(frozen=True, slots=True)
class ItemAnswer:
    """What the engine answered to one item.

    Attributes:
        result: the item's members, where it succeeded. They may hold key material.
        complaint: what the engine calls wrong, in lower case; None if nothing. Never shown.
    """

    result: Mapping[str, Any] = field(repr=False)
    complaint: str | None = field(repr=False)


class TransitBatches:
    """Sends items in batches, and remembers how many the server takes.

    Args:
        session: how to send.
    """

    def __init__(self, session: TransitSession) -> None:
        self._session = session
        self._most = session.options.max_batch

    @property
    def most(self) -> int:
        """How many items one request carries, as far as the server has let us know."""
        return self._most

    def run(self, path: str, items: Sequence[T], to_json: Callable[[T], dict[str, Any]]) -> list[ItemAnswer]:
        """Send all items and return an answer for each, in order.

        Args:
            path: below ``/v1/``.
            items: at least one.
            to_json: makes an item's members.

        Raises:
            ProviderMisconfiguredError: there is no engine at the path.
            KeyProviderError: the call could not be carried out.
        """
        answers: list[ItemAnswer] = []
        while len(answers) < len(items):
            part = items[len(answers) : len(answers) + self._most]
            answer = self._session.call("POST", path, {"batch_input": [to_json(each) for each in part]})
            if len(part) > 1 and _is_too_much(answer):
                self._most = min(self._most, len(part) // 2)
                continue
            answers += self._per_item(answer, len(part))
        return answers

    def _per_item(self, answer: Answer, count: int) -> list[ItemAnswer]:
        provider = self._session.options.provider
        if answer.status in {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED}:
            raise ProviderMisconfiguredError(
                f"provider {provider!r} finds no transit engine at its mount; check mount and namespace",
                provider=provider,
            )
        results = answer.data.get("batch_results")
        if results is None and answer.status != HTTPStatus.OK:
            return [ItemAnswer({}, answer.complaint)] * count
        if (
            not isinstance(results, list)
            or len(results) != count
            or not all(isinstance(each, Mapping) for each in results)
        ):
            raise ProviderUnavailableError(
                f"the transit server of provider {provider!r} did not answer each item of a batch",
                provider=provider,
            )
        return [_of_item(each) for each in results]


def _of_item(result: Mapping[str, Any]) -> ItemAnswer:
    error = result.get("error")
    return ItemAnswer(result, None) if not error else ItemAnswer({}, str(error).lower())


def _is_too_much(answer: Answer) -> bool:
    if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return True
    return answer.status == HTTPStatus.BAD_REQUEST and any(sign in answer.complaint for sign in _TOO_MUCH)
