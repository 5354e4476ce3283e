"""Finding records by a value that stands in no URL."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api

LOOKUP = "/v1/collections/users/records/lookup"


@pytest.mark.parametrize("written", ["{}", " {} ", "{upper}"])
def test_an_email_is_found_however_it_is_written(api: Api, email: str, written: str) -> None:
    path = api.create({"email": email, "name": "Anna"})
    found = api.lookup("email", written.format(email, upper=email.upper()))
    (item,) = found["items"]
    assert found["next_cursor"] is None
    assert item["token"] == path.rpartition("/")[2]
    assert item["data"] == {"email": "a***@e***.com", "name": "***"}
    assert (item["reveal"], item["masked"]) == ("masked", ["/email", "/name"])


def test_a_lookup_shows_what_is_asked_for(api: Api, email: str) -> None:
    api.create({"email": email, "name": "Anna"})
    (item,) = api.lookup("email", email, reveal="plain", fields=["name"])["items"]
    assert (item["data"], item["reveal"]) == ({"name": "Anna"}, "plain")


def test_a_login_is_found_whatever_its_case_and_width(api: Api) -> None:
    tail = uuid.uuid4().hex[:8]
    api.create({"login": f"\N{FULLWIDTH LATIN CAPITAL LETTER A}NNA Straße {tail}"})
    assert len(api.lookup("login", f"anna strasse {tail}")["items"]) == 1


def test_nothing_found_is_an_empty_list(api: Api) -> None:
    assert api.lookup("email", "nobody@example.com") == {"items": [], "next_cursor": None}


def test_many_records_with_one_value_come_in_pages(api: Api, define: Callable[..., str]) -> None:
    name = define({"city": {"type": "string", "x-index": "lookup"}})
    tokens = [api.create({"city": " Köln ", "n": n}, name).rpartition("/")[2] for n in range(5)]
    api.create({"city": "köln"}, name)  # another text: case counts
    seen, cursor, sizes = [], None, []
    while not sizes or cursor is not None:
        page = api.lookup("city", "Köln", name, limit=2, cursor=cursor)
        seen += [each["token"] for each in page["items"]]
        sizes.append(len(page["items"]))
        cursor = page["next_cursor"]
    assert (seen, sizes) == (tokens, [2, 2, 1])


def test_a_national_number_takes_the_request_s_region_before_the_collection_s(
    api: Api, define: Callable[..., str], unchanged: Callable[..., Any]
) -> None:
    phone = {"phone": {"type": "string", "x-index": "unique", "x-normalize": "phone"}}
    german = define(phone, default_region="DE")
    api.create({"phone": "030 1234567"}, german)
    api.create({"phone": "044 668 18 00"}, german, region="CH")
    assert len(api.lookup("phone", "+49 30 1234567", german)["items"]) == 1
    assert len(api.lookup("phone", "030/1234567", german)["items"]) == 1
    assert len(api.lookup("phone", "+41446681800", german)["items"]) == 1
    assert len(api.lookup("phone", "0446681800", german, region="CH")["items"]) == 1
    assert api.lookup("phone", "030 1234567", german, region="NL")["items"] == []
    nowhere = define(phone)
    with unchanged("record.create", "schema-violation"):
        api.post(f"/v1/collections/{nowhere}/records", {"data": {"phone": "030 123456"}}).refuses(
            422, "schema-violation", ("/phone", "x-normalize")
        )
    with unchanged("record.lookup", "lookup-value"):
        api.post(
            f"/v1/collections/{nowhere}/records/lookup", {"field": "phone", "value": "030 123456"}
        ).refuses(422, "lookup-value", ("/value", "region-required"))


@pytest.mark.parametrize(
    ("body", "code", "error"),
    [
        ({"field": "email"}, "body-members", ("/value", "required")),
        ({"value": "x"}, "body-members", ("/field", "required")),
        ({"field": "email", "value": "x", "secret-name": 1}, "body-members", ("/*other", "unknown")),
        ({"field": 5, "value": "x"}, "body-members", ("/field", "type")),
        ({"field": "name", "value": "x"}, "not-indexed", ("/field", "not-indexed")),
        ({"field": "secret-name", "value": "x"}, "not-indexed", ("/field", "not-indexed")),
        ({"field": "email", "value": "secret-value"}, "lookup-value", ("/value", "invalid")),
        ({"field": "email", "value": 5}, "lookup-value", ("/value", "type")),
        ({"field": "email", "value": None}, "lookup-value", ("/value", "type")),
        ({"field": "email", "value": "x" * 1025}, "lookup-value", ("/value", "too-long")),
        ({"field": "login", "value": " "}, "lookup-value", ("/value", "empty")),
        ({"field": "phone", "value": "+49 1"}, "lookup-value", ("/value", "invalid")),
        ({"field": "phone", "value": "030 1", "region": "de"}, "region", ("/region", "region")),
        ({"field": "email", "value": "x", "reveal": "all"}, "body-members", ("/reveal", "enum")),
        ({"field": "email", "value": "x", "fields": [5]}, "body-members", ("/fields", "type")),
        ({"field": "email", "value": "x", "limit": 0}, "body-members", ("/limit", "range")),
        ({"field": "email", "value": "x", "limit": True}, "body-members", ("/limit", "range")),
        ({"field": "email", "value": "x", "cursor": 5}, "body-members", ("/cursor", "cursor")),
        (["secret-value"], "body-members", ("", "type")),
    ],
)
def test_a_lookup_that_cannot_be_carried_out_says_why_without_repeating_anything(
    api: Api, unchanged: Callable[..., Any], body: Any, code: str, error: tuple[str, str]
) -> None:
    with unchanged("record.lookup", code):
        answer = api.post(LOOKUP, body)
    answer.refuses(422, code, error)
    assert b"secret" not in answer.body
