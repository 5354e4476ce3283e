"""Erasure, expiry and history."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api, Server


def test_an_erased_record_is_gone_and_says_so(
    api: Api, server: Server, email: str, unchanged: Callable[..., Any]
) -> None:
    path = api.create({"email": email})
    answer = api.delete(path)
    answer.gives(204)
    assert answer.body == b""
    assert "Content-Type" not in answer.headers
    with unchanged("record.read", "record-erased"):
        api.get(path).refuses(410, "record-erased")
    with unchanged("record.erase", "record-erased"):
        api.delete(path).refuses(410, "record-erased")
    with unchanged("record.update", "record-erased"):
        api.put(path, {"data": {}}).refuses(410, "record-erased")
    with unchanged("record.update", "record-erased"):
        api.patch(path, {}).refuses(410, "record-erased")
    assert api.lookup("email", email)["items"] == []
    token = bytes.fromhex(path.rpartition("/")[2].replace("-", ""))
    ((wrapped, sealed),) = server.rows(
        "SELECT wrapped_dek, sealed_document FROM record WHERE token = ?", (token,)
    )
    assert (wrapped, sealed) == (None, None)
    assert server.rows("SELECT * FROM index_entry WHERE token = ?", (token,)) == []
    api.create({"email": email})


def test_the_state_of_an_erasure_says_what_a_backup_could_still_open(
    api: Api, unchanged: Callable[..., Any]
) -> None:
    path = api.create({"n": 1})
    with unchanged("erasure.read", "not-erased"):
        api.get(f"{path}/erasure").refuses(409, "not-erased")
    api.delete(path).gives(204)
    state = api.get(f"{path}/erasure").gives(200)
    assert state.keys() == {"token", "collection", "state", "erased_at", "final_at", "key_versions"}
    assert (state["state"], state["final_at"]) == ("done", None)
    assert state["key_versions"] == [{"keyring": "default", "version": 1}]
    assert datetime.fromisoformat(state["erased_at"]) <= datetime.now(UTC)


def test_an_expired_record_is_gone_at_that_very_moment(
    api: Api, define: Callable[..., str], unchanged: Callable[..., Any]
) -> None:
    name = define({"email": {"type": "string", "x-index": "lookup", "x-normalize": "email"}})
    expires_at = datetime.now(UTC) + timedelta(seconds=0.5)
    path = api.create({"email": "anna@example.com"}, name, expires_at=expires_at.isoformat())
    kept = api.create({"email": "anna@example.com"}, name)
    assert api.get(path).gives(200)["expires_at"].startswith(expires_at.strftime("%Y-%m-%dT%H:%M:%S.%f"))
    assert len(api.lookup("email", "anna@example.com", name)["items"]) == 2
    while datetime.now(UTC) < expires_at:
        time.sleep(0.01)
    for ask, action in (
        (lambda: api.get(path), "record.read"),
        (lambda: api.put(path, {"data": {"email": "b@example.com"}}), "record.update"),
        (lambda: api.patch(path, {}), "record.update"),
    ):
        with unchanged(action, "record-expired"):
            ask().refuses(410, "record-expired")
    found = api.lookup("email", "anna@example.com", name)["items"]
    listed = api.get(f"/v1/collections/{name}/records").gives(200)["items"]
    assert (
        [each["token"] for each in found] == [each["token"] for each in listed] == [kept.rpartition("/")[2]]
    )
    api.delete(path).gives(204)


@pytest.mark.parametrize(
    ("expires_at", "code", "error"),
    [
        ("2020-01-01T00:00:00Z", "expires-at", ("/expires_at", "past")),
        ("tomorrow", "body-members", ("/expires_at", "time")),
        ("2999-01-01", "body-members", ("/expires_at", "time")),
        ("2999-01-01T00:00:00", "body-members", ("/expires_at", "time")),
        ("9999-12-31T23:59:59-23:59", "body-members", ("/expires_at", "time")),
        (32503680000, "body-members", ("/expires_at", "type")),
    ],
)
def test_an_expiry_that_makes_no_sense_is_refused(
    api: Api, unchanged: Callable[..., Any], expires_at: Any, code: str, error: tuple[str, str]
) -> None:
    path = api.create({"n": 1})
    with unchanged("record.create", code):
        api.post("/v1/collections/users/records", {"data": {}, "expires_at": expires_at}).refuses(
            422, code, error
        )
    with unchanged("record.update", code):
        api.put(path, {"data": {}, "expires_at": expires_at}).refuses(422, code, error)


def test_earlier_generations_are_kept_as_the_collection_says(
    api: Api, define: Callable[..., str], unchanged: Callable[..., Any]
) -> None:
    path = api.create({"n": 1}, define(history=2))
    for n in (2, 3, 4):
        api.put(path, {"data": {"n": n}}).gives(200)
    for generation in (2, 3, 4):
        shown = api.get(f"{path}?generation={generation}&reveal=plain").gives(200)
        assert (shown["generation"], shown["data"]) == (generation, {"n": generation})
    for generation in (1, 5, 999_999_999_999_999_999):
        with unchanged("record.read", "record-not-found"):
            api.get(f"{path}?generation={generation}").refuses(404, "record-not-found")
    for text in ("0", "-1", "x", "", "1.0", "9" * 19, "٣"):
        with unchanged("record.read", "query"):
            api.get(f"{path}?generation={text}").refuses(422, "query", ("/generation", "range"))


def test_an_erasure_takes_the_history_with_it(api: Api, server: Server, define: Callable[..., str]) -> None:
    path = api.create({"n": 1}, define(history=5))
    api.put(path, {"data": {"n": 2}}).gives(200)
    token = bytes.fromhex(path.rpartition("/")[2].replace("-", ""))
    kept = "SELECT count(*) FROM record_history WHERE token = ?"
    assert server.rows(kept, (token,)) == [(1,)]
    api.delete(path).gives(204)
    assert server.rows(kept, (token,)) == [(0,)]
    api.get(f"{path}?generation=1").refuses(410, "record-erased")


def test_without_history_only_the_current_generation_can_be_read(api: Api) -> None:
    path = api.create({"n": 1})
    api.put(path, {"data": {"n": 2}}).gives(200)
    api.get(f"{path}?generation=1").refuses(404, "record-not-found")
    assert api.get(f"{path}?generation=2").gives(200)["generation"] == 2
