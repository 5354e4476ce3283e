"""The main job over real HTTP: store, read, list, change."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api, Server

RECORDS = "/v1/collections/users/records"


def test_create_answers_with_a_token_its_place_and_metadata(api: Api, email: str) -> None:
    before = datetime.now(UTC)
    answer = api.post(RECORDS, {"data": {"email": email}})
    made = answer.gives(201)
    assert made.keys() == {
        "token", "collection", "generation", "schema_version", "created_at", "updated_at", "expires_at",
    }  # fmt: skip
    assert str(uuid.UUID(made["token"])) == made["token"]
    assert answer.headers["Location"] == f"{RECORDS}/{made['token']}"
    assert (made["collection"], made["generation"], made["schema_version"]) == ("users", 1, 1)
    assert made["created_at"] == made["updated_at"]
    assert before <= datetime.fromisoformat(made["created_at"]) <= datetime.now(UTC)
    assert made["created_at"].endswith("Z")
    assert made["expires_at"] is None
    assert api.get(answer.headers["Location"]).etag == answer.etag


def test_a_record_is_masked_unless_plain_is_asked_for(api: Api, email: str) -> None:
    data = {"email": email, "phone": None, "name": "Anna Müller", "address": {"city": "Köln"}}
    path = api.create(data)
    masked = api.get(path).gives(200)
    assert masked["data"] == {"email": "a***@e***.com", "phone": None, "name": "***", "address": "***"}
    assert masked["reveal"] == "masked"
    assert masked["masked"] == ["/email", "/name", "/address"]
    assert api.get(f"{path}?reveal=masked").gives(200) == masked
    plain = api.get(f"{path}?reveal=plain").gives(200)
    assert (plain["data"], plain["reveal"], plain["masked"]) == (data, "plain", [])


def test_fields_choose_what_is_shown(api: Api, email: str) -> None:
    path = api.create({"email": email, "name": "Anna", "city": "Köln"})
    assert api.get(f"{path}?reveal=plain&fields=name,city").gives(200)["data"] == {
        "name": "Anna",
        "city": "Köln",
    }
    shown = api.get(f"{path}?fields=email,unheard_of").gives(200)
    assert (shown["data"], shown["masked"]) == ({"email": "a***@e***.com"}, ["/email"])


def test_nothing_of_a_record_lies_readable_where_it_is_stored(api: Api, server: Server, email: str) -> None:
    path = api.create({"email": email, "name": f"name-{email}"})
    api.lookup("email", email)
    assert server.files_with(uuid.UUID(path.rpartition("/")[2]).bytes) != []
    assert server.files_with(email.split("@", maxsplit=1)[0].encode()) == []


@pytest.mark.parametrize(
    "text",
    [
        "18446744073709551616",
        "-9223372036854775809",
        "123456789012345678901234567890",
        "0.1000",
        "1e5",
        "1.7976931348623157e309",
        "0.1234567890123456789012345678901234567890",
    ],
)
def test_numbers_keep_their_value_to_the_last_digit(api: Api, text: str) -> None:
    body = f'{{"data": {{"number": {text}}}}}'.encode()
    token = api.post(RECORDS, body=body).gives(201)["token"]
    (value,) = api.plain(f"{RECORDS}/{token}").values()
    assert Decimal(value) == Decimal(text)
    assert isinstance(value, int) == text.lstrip("-").isdigit()
    if "." in text and "e" not in text:
        assert f'"number":{text}}}'.encode() in api.get(f"{RECORDS}/{token}?reveal=plain").body


@pytest.mark.parametrize(
    "text",
    ["Ünïcødé", "漢字かな", "👩‍👩‍👧", "\x00\x1f\x7f", "עברית مرحبا", "a\u0301 vs á", '\\"/\u2028\ufffd', ""],
)
def test_text_comes_back_as_it_was_sent(api: Api, text: str) -> None:
    data = {"note": text, "list": [text, {"deep": [None, True, False, text]}], f"name {text}": 1}
    assert api.plain(api.create(data)) == data


def test_a_list_is_paged_oldest_first_and_holds_metadata_only(api: Api, define: Callable[..., str]) -> None:
    name = define()
    tokens = [api.create({"n": n}, name).rpartition("/")[2] for n in range(5)]
    erased = tokens.pop(2)
    api.delete(f"/v1/collections/{name}/records/{erased}").gives(204)
    seen, cursor, pages = [], "", 0
    while cursor is not None:
        page = api.get(f"/v1/collections/{name}/records?limit=3{cursor and '&cursor=' + cursor}").gives(200)
        assert len(page["items"]) <= 3
        assert all("data" not in each and each["collection"] == name for each in page["items"])
        seen += [each["token"] for each in page["items"]]
        cursor, pages = page["next_cursor"], pages + 1
    assert seen == tokens
    assert pages == 2


def test_a_put_replaces_everything(api: Api, email: str) -> None:
    path = api.create({"email": email, "name": "Anna"}, expires_at=_in(hours=1))
    changed = api.put(path, {"data": {"email": email, "city": "Bonn"}}).gives(200)
    assert (changed["generation"], changed["expires_at"]) == (2, None)
    assert changed["created_at"] < changed["updated_at"]
    assert api.plain(path) == {"email": email, "city": "Bonn"}


def test_a_changed_value_is_found_and_the_old_one_is_free_again(api: Api, email: str) -> None:
    path = api.create({"email": email})
    api.patch(path, {"email": "new." + email}).gives(200)
    assert api.lookup("email", email)["items"] == []
    assert api.lookup("email", "new." + email)["items"][0]["token"] == path.rpartition("/")[2]
    api.create({"email": email})


def test_a_patch_merges_as_rfc_7396_says(api: Api) -> None:
    path = api.create({"a": "b", "c": {"d": "e", "f": "g"}, "list": [1, 2]}, expires_at=_in(hours=1))
    changed = api.patch(
        path, {"a": "z", "c": {"f": None}, "list": [3], "new": {"deep": {"null": None, "n": 1}}}
    )
    assert changed.gives(200)["generation"] == 2
    assert changed.json["expires_at"] is not None
    assert api.plain(path) == {"a": "z", "c": {"d": "e"}, "list": [3], "new": {"deep": {"n": 1}}}


def test_a_patch_keeps_the_region_that_the_record_was_written_with(api: Api) -> None:
    digits = f"030 {uuid.uuid4().int % 10**6 + 10**6}"
    path = api.create({"phone": digits}, region="DE")
    api.patch(path, {"name": "Anna"}).gives(200)
    assert api.lookup("phone", "+49" + digits[1:])["items"][0]["generation"] == 2


def test_an_etag_changes_with_every_write_and_never_repeats(api: Api) -> None:
    made = api.post(RECORDS, {"data": {"n": 1}})
    path = made.headers["Location"]
    etags = [made.etag, *(api.put(path, {"data": {"n": 1}}).etag for _ in range(3))]
    assert len(set(etags)) == 4
    assert api.get(path).etag == api.get(path).etag == etags[-1]
    assert all(each.startswith('"') and each.endswith('"') for each in etags)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_change_goes_through_only_on_the_state_that_if_match_names(
    api: Api, unchanged: Callable[..., Any], method: str
) -> None:
    made = api.post(RECORDS, {"data": {"n": 1}})
    path, stale = made.headers["Location"], made.etag
    current = api.patch(path, {"n": 2}).etag
    action = "record.erase" if method == "DELETE" else "record.update"
    # Stale, of no form of ours, weak, empty: none of them names the stored state.
    for header in (stale, "no-quotes", '"zz"', '"0011223344556677"', f"W/{current}", ""):
        with unchanged(action, "precondition-failed"):
            _change(api, method, path, header).refuses(412, "precondition-failed")
    assert api.plain(path) == {"n": 2}
    assert _change(api, method, path, f"{stale}, {current}").status in {200, 204}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_if_match_star_takes_any_state(api: Api, method: str) -> None:
    path = api.create({"n": 1})
    assert _change(api, method, path, "*").status in {200, 204}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_a_collection_can_demand_if_match(
    api: Api, define: Callable[..., str], unchanged: Callable[..., Any], method: str
) -> None:
    path = api.create({"n": 1}, define(if_match_required=True))
    action = "record.erase" if method == "DELETE" else "record.update"
    with unchanged(action, "precondition-required"):
        _change(api, method, path, None).refuses(428, "precondition-required")
    assert _change(api, method, path, api.get(path).etag).status in {200, 204}


def test_head_answers_like_get_without_a_body(api: Api) -> None:
    path = api.create({"n": 1})
    answer = api.request("HEAD", path)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.etag == api.get(path).etag


def _change(api: Api, method: str, path: str, if_match: str | None) -> Any:
    headers = {} if if_match is None else {"If-Match": if_match}
    match method:
        case "PUT":
            return api.put(path, {"data": {"n": 3}}, headers=headers)
        case "PATCH":
            return api.patch(path, {"n": 3}, headers=headers)
        case _:
            return api.delete(path, headers=headers)


def _in(**time: float) -> str:
    return (datetime.now(UTC) + timedelta(**time)).isoformat()
