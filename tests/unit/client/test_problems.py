from __future__ import annotations

import pickle
from typing import Any

import pytest

import strongroom
from strongroom import Client, StrongroomError

TOKEN = "6f1c0a52-93f4-4c39-9d6d-3f7b1c2d4e5f"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "malformed-body", strongroom.InvalidRequest),
        (401, "not-authenticated", strongroom.NotAuthenticated),
        (403, "not-authorized", strongroom.NotAllowed),
        (404, "record-not-found", strongroom.NotFound),
        (409, "schema-conflict", strongroom.Conflict),
        (409, "duplicate-value", strongroom.Duplicate),
        (410, "record-erased", strongroom.Gone),
        (410, "record-expired", strongroom.Gone),
        (412, "precondition-failed", strongroom.PreconditionFailed),
        (413, "too-large", strongroom.InvalidRequest),
        (415, "unsupported-media-type", strongroom.InvalidRequest),
        (422, "masked-value", strongroom.InvalidRequest),
        (428, "precondition-required", strongroom.InvalidRequest),
        (429, "too-many", strongroom.Unavailable),
        (500, "integrity", strongroom.StrongroomError),
        (503, "keys-unavailable", strongroom.Unavailable),
        (418, "from-the-future", strongroom.StrongroomError),
    ],
)
def test_each_problem_is_the_error_that_people_catch(
    server: Any, client: Client, status: int, code: str, kind: type[StrongroomError]
) -> None:
    server.will_refuse(status, code)
    with pytest.raises(StrongroomError) as caught:
        client.get("users", TOKEN)
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, code)
    assert (caught.value.title, caught.value.detail) == ("A title", "A sentence.")
    assert caught.value.request_id == "req-1"


def test_duplicate_names_the_fields(server: Any, client: Client) -> None:
    errors = [{"pointer": "/email", "code": "duplicate"}, {"pointer": "/a~1b~01", "code": "duplicate"}]
    server.will_refuse(409, "duplicate-value", errors=errors)
    with pytest.raises(strongroom.Duplicate) as caught:
        client.create("users", {})
    assert caught.value.fields == ("email", "a/b~1")
    assert caught.value.errors[0] == strongroom.Violation("/email", "duplicate", "")


def test_the_text_of_an_error_says_where(server: Any, client: Client) -> None:
    errors = [
        {"pointer": "/a", "code": "type", "detail": "Must be a string."},
        {"pointer": "/b", "code": "b"},
    ]
    server.will_refuse(422, "schema-violation", errors=errors)
    with pytest.raises(strongroom.InvalidRequest) as caught:
        client.create("users", {})
    assert str(caught.value) == "A sentence. /a: Must be a string. (schema-violation, request req-1)"
    assert [str(each) for each in caught.value.errors] == ["/a: Must be a string.", "/b: b"]


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7), ("0", 1), ("soon", 1), (None, 1), ("-3", 1), ("²", 1)]
)
def test_unavailable_says_when_to_come_back(
    server: Any, client: Client, header: str | None, seconds: int
) -> None:
    headers = {} if header is None else {"Retry-After": header}
    server.will_refuse(503, "keys-unavailable", headers=headers)
    with pytest.raises(strongroom.Unavailable) as caught:
        client.create("users", {})
    assert caught.value.retry_after_seconds == seconds


def test_a_proxys_503_is_unavailable_too(server: Any, client: Client) -> None:
    server.will_answer({"message": "upstream"}, status=503, headers={"Retry-After": "4"})
    with pytest.raises(strongroom.Unavailable) as caught:
        client.create("users", {})
    assert caught.value.retry_after_seconds == 4


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, b"<html>canary-7</html>"),
        (502, b"<html>canary-7</html>"),
        (502, b'{"message":"canary-7"}'),
        (404, b'["canary-7"]'),
        (302, b""),
        (200, b'{"token":"canary-7"}'),
        (200, b'["canary-7"]'),
        (200, b""),
        (200, b'{"token":"canary-7","token":"x"}'),
        (200, b'{"data":{"a":NaN},"canary-7":1}'),
    ],
)
def test_an_answer_that_strongroom_never_gives_is_named_and_not_repeated(
    server: Any, client: Client, status: int, content: bytes
) -> None:
    server.will_send(content, status=status, headers={"Location": "http://127.0.0.1:1/"})
    with pytest.raises(strongroom.UnexpectedAnswer) as caught:
        client.get("users", TOKEN)
    assert caught.value.status == status
    assert "canary-7" not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r}"
    assert len(server.asked) == 1


def test_errors_survive_a_process_border(server: Any, client: Client) -> None:
    server.will_refuse(503, "store-unavailable", headers={"Retry-After": "9"})
    with pytest.raises(strongroom.Unavailable) as caught:
        client.create("users", {})
    copied = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes
    assert (str(copied), copied.retry_after_seconds) == (str(caught.value), 9)


def test_a_problem_with_odd_members_is_still_a_problem(server: Any, client: Client) -> None:
    server.will_answer({"type": "urn:strongroom:error:x", "errors": ["a", {"pointer": None}]}, status=422)
    with pytest.raises(strongroom.InvalidRequest) as caught:
        client.create("users", {})
    assert caught.value.errors == (strongroom.Violation("", "", ""),)
