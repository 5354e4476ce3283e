"""Bodies that cannot be read: answered clearly, nothing changed, nothing repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Api

RECORDS = "/v1/collections/users/records"
SECRET = "Hildegard"

MALFORMED = {
    "empty": (b"", "unexpected-end"),
    "cut short": (b'{"data": {"name": "Hildegard', "unexpected-end"),
    "no JSON": (b"name=Hildegard", "invalid-json"),
    "single quotes": (b"{'data': {'name': 'Hildegard'}}", "invalid-json"),
    "comment": (b'{"data": {} /* Hildegard */}', "invalid-json"),
    "trailing comma": (b'{"data": {"name": "Hildegard",}}', "invalid-json"),
    "trailing data": (b'{"data": {}} {"Hildegard": 1}', "trailing-data"),
    "duplicate name": (b'{"data": {"Hildegard": 1, "Hildegard": 2}}', "duplicate-key"),
    "duplicate name, escaped": (b'{"data": {"Hildegard": 1, "\\u0048ildegard": 2}}', "duplicate-key"),
    "duplicate member": (b'{"data": {}, "data": {"name": "Hildegard"}}', "duplicate-key"),
    "NaN": (b'{"data": {"Hildegard": NaN}}', "invalid-number"),
    "Infinity": (b'{"data": {"Hildegard": Infinity}}', "invalid-number"),
    "-Infinity": (b'{"data": {"Hildegard": -Infinity}}', "invalid-number"),
    "leading zero": (b'{"data": {"Hildegard": 01}}', "invalid-number"),
    "5,000 digits": (b'{"data": {"Hildegard": ' + b"9" * 5000 + b"}}", "invalid-number"),
    "UTF-8 cut": (b'{"data": {"Hildegard": "\xc3"}}', "invalid-unicode"),
    "UTF-16": ('{"data": {"name": "Hildegard"}}'.encode("utf-16"), "invalid-json"),
    "lone surrogate": (b'{"data": {"Hildegard": "\\ud800"}}', "invalid-unicode"),
    "byte order mark": (b'\xef\xbb\xbf{"data": {"name": "Hildegard"}}', "byte-order-mark"),
    "10,000 arrays": (b'{"data": {"Hildegard": ' + b"[" * 10_000 + b"]" * 10_000 + b"}}", "nesting"),
    "10,000 objects": (b'{"data": ' + b'{"Hildegard":' * 10_000 + b"1" + b"}" * 10_001, "nesting"),
}


@pytest.fixture(params=MALFORMED)
def malformed(request: pytest.FixtureRequest) -> tuple[bytes, str]:
    return MALFORMED[request.param]


@pytest.mark.parametrize("call", ["create", "replace", "patch", "lookup", "define", "search"])
def test_json_that_cannot_be_read_is_refused(
    api: Api, unchanged: Callable[..., Any], malformed: tuple[bytes, str], call: str
) -> None:
    body, code = malformed
    path = api.create({"n": 1}) if call in {"replace", "patch"} else ""
    send, action = {
        "create": (lambda: api.post(RECORDS, body=body), "record.create"),
        "replace": (lambda: api.put(path, body=body), "record.update"),
        "patch": (lambda: api.patch(path, body=body), "record.update"),
        "lookup": (lambda: api.post(f"{RECORDS}/lookup", body=body), "record.lookup"),
        "define": (lambda: api.put("/v1/collections/new_one", body=body), "collection.define"),
        "search": (lambda: api.post("/v1/audit/search", body=body), "audit.search"),
    }[call]
    with unchanged(action, "malformed-body"):
        answer = send()
    answer.refuses(400, "malformed-body", ("", code))
    assert SECRET.encode() not in answer.body


def test_the_place_of_the_mistake_is_named(api: Api) -> None:
    problem = api.post(RECORDS, body=b'{\n  "data": {"a": 1, "a": 2}}').refuses(400, "malformed-body")
    assert "line 2" in problem["detail"]


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/merge-patch+json",
        "application/jsonx",
        "json",
    ],
)
def test_another_content_type_is_refused(
    api: Api, unchanged: Callable[..., Any], content_type: str | None
) -> None:
    with unchanged("record.create", "unsupported-media-type"):
        problem = api.post(RECORDS, body=b'{"data": {}}', content_type=content_type).refuses(
            415, "unsupported-media-type"
        )
    assert "application/json" in problem["detail"]


def test_a_content_type_with_a_character_set_is_taken(api: Api) -> None:
    api.post(RECORDS, body=b'{"data": {}}', content_type="Application/JSON; charset=utf-8").gives(201)


def test_a_patch_needs_the_content_type_of_a_merge_patch(api: Api, unchanged: Callable[..., Any]) -> None:
    path = api.create({"n": 1})
    with unchanged("record.update", "unsupported-media-type"):
        api.patch(path, {"n": 2}, content_type="application/json").refuses(415, "unsupported-media-type")


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate, gzip"])
def test_a_content_encoding_is_refused(api: Api, unchanged: Callable[..., Any], encoding: str) -> None:
    with unchanged("record.create", "unsupported-media-type"):
        api.post(RECORDS, {"data": {}}, headers={"Content-Encoding": encoding}).refuses(
            415, "unsupported-media-type"
        )


@pytest.mark.parametrize("body", [b"null", b"5", b'"Hildegard"', b"[]", b"true"])
def test_a_body_that_is_no_object_is_refused(api: Api, unchanged: Callable[..., Any], body: bytes) -> None:
    for path, send in ((RECORDS, api.post), ("/v1/collections/new_one", api.put)):
        action = "record.create" if path == RECORDS else "collection.define"
        with unchanged(action, "body-members"):
            send(path, body=body).refuses(422, "body-members", ("", "type"))


def test_members_that_the_call_does_not_know_are_refused_without_their_names(
    api: Api, unchanged: Callable[..., Any]
) -> None:
    with unchanged("record.create", "body-members"):
        answer = api.post(RECORDS, {"date": {}, SECRET: 1})
    answer.refuses(422, "body-members")
    assert ("/*other", "unknown") in [(each["pointer"], each["code"]) for each in answer.json["errors"]]
    assert ("/data", "required") in [(each["pointer"], each["code"]) for each in answer.json["errors"]]
    assert SECRET.encode() not in answer.body


def test_many_unknown_members_make_no_long_answer(api: Api) -> None:
    many = {f"n{number}": 1 for number in range(5_000)}
    for answer, code in (
        (api.post(RECORDS, many), "body-members"),
        (api.put("/v1/collections/new_one", {"schema": {}, "settings": many}), "invalid-settings"),
    ):
        assert len(answer.refuses(422, code)["errors"]) <= 50


@pytest.mark.parametrize("data", [None, 5, "Hildegard", [], True])
def test_a_document_that_is_no_object_is_refused(api: Api, unchanged: Callable[..., Any], data: Any) -> None:
    path = api.create({"n": 1})
    with unchanged("record.create", "schema-violation"):
        api.post(RECORDS, {"data": data}).refuses(422, "schema-violation", ("", "type"))
    with unchanged("record.update", "schema-violation"):
        api.put(path, {"data": data}).refuses(422, "schema-violation", ("", "type"))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("patch", [5, "Hildegard", [{"n": 2}], True])
def test_a_patch_that_would_leave_no_object_is_refused(
    api: Api, define: Callable[..., str], unchanged: Callable[..., Any], patch: Any, *, strict: bool
) -> None:
    path = api.create({"n": 1}, define({"n": {}}, strict=strict))
    with unchanged("record.update", "schema-violation"):
        api.patch(path, patch).refuses(422, "schema-violation", ("", "type"))
    assert api.plain(path) == {"n": 1}


@pytest.mark.parametrize("region", ["de", "DEU", "XX", "", "Hildegard"])
def test_a_region_that_does_not_exist_is_refused(
    api: Api, unchanged: Callable[..., Any], region: str
) -> None:
    with unchanged("record.create", "region"):
        answer = api.post(RECORDS, {"data": {}, "region": region})
    answer.refuses(422, "region", ("/region", "region"))
    assert SECRET.encode() not in answer.body


class TestSize:
    """At most 1 MiB of document, and 64 KiB around it."""

    LIMIT = 1_048_576

    def _document(self, size: int) -> bytes:
        return b'{"note":"' + b"x" * (size - len('{"note":""}')) + b'"}'

    def test_a_document_of_exactly_one_mebibyte_is_stored(self, api: Api) -> None:
        document = self._document(self.LIMIT)
        assert len(document) == self.LIMIT
        token = api.post(RECORDS, body=b'{"data": ' + document + b', "region": "DE"}').gives(201)["token"]
        assert len(api.plain(f"{RECORDS}/{token}")["note"]) == self.LIMIT - 11

    def test_a_byte_more_is_refused(self, api: Api, unchanged: Callable[..., Any]) -> None:
        body = b'{"data": ' + self._document(self.LIMIT + 1) + b"}"
        with unchanged("record.create", "too-large"):
            api.post(RECORDS, body=body).refuses(413, "too-large")

    def test_a_patch_may_not_grow_a_document_over_the_limit(
        self, api: Api, unchanged: Callable[..., Any]
    ) -> None:
        path = api.create({"first": "x" * 600_000})
        with unchanged("record.update", "too-large"):
            api.patch(path, {"second": "x" * 600_000}).refuses(413, "too-large")

    @pytest.mark.parametrize("size", [1_048_576 + 65_536 + 1, 2 * 1_048_576, 8 * 1_048_576])
    @pytest.mark.parametrize("is_chunked", [False, True])
    def test_a_longer_body_is_refused_however_it_is_sent(
        self, api: Api, unchanged: Callable[..., Any], size: int, *, is_chunked: bool
    ) -> None:
        with unchanged("record.create", "too-large"):
            body = _chunks(size) if is_chunked else b" " * size
            api.post(RECORDS, body=body, chunked=is_chunked).refuses(413, "too-large")
        api.get("/healthz").gives(200)

    def test_a_body_without_content_length_is_read_whole(self, api: Api) -> None:
        token = api.post(RECORDS, body=iter([b'{"data": ', b'{"n": 1}', b"}"]), chunked=True).gives(201)[
            "token"
        ]
        assert api.plain(f"{RECORDS}/{token}") == {"n": 1}


def _chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 65_536):
        yield b" " * 65_536
    yield b" " * (size % 65_536 or 1)
