"""Requests that are sent again with their Idempotency-Key: answered, and not carried out twice."""

from __future__ import annotations

import http.client
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.in_process import InProcess
from tests.servers.database_homes import DatabaseHome
from vault.audit.events import Action, AuditEvent, Result
from vault.core.credentials import mint_credential, secret_sha256
from vault.core.policy import Role
from vault.core.rows import CredentialRow, PrincipalRow
from vault.storage.records import SqlRecordStore

if TYPE_CHECKING:
    from conftest import Answer, Api, Server

RECORDS = "/v1/collections/users/records"
BULK = f"{RECORDS}/bulk"
REPLAYED = "Idempotency-Replayed"
SECRET = "hildegard"


@pytest.fixture
def key() -> str:
    return uuid.uuid4().hex


def create(api: Api, key: str, data: Any, path: str = RECORDS, **members: Any) -> Answer:
    return api.post(path, {"data": data} | members, headers={"Idempotency-Key": key})


def batch(api: Api, key: str, *operations: Any, path: str = BULK, **members: Any) -> Answer:
    return api.post(path, {"operations": list(operations)} | members, headers={"Idempotency-Key": key})


def receipts(server: Server, token: str) -> list[tuple[Any, ...]]:
    return server.rows(
        "SELECT position, status, code, body_hash FROM idempotency_key WHERE token = ?",
        (uuid.UUID(token).bytes,),
    )


def record_count(server: Server, collection: str = "users") -> int:
    ((count,),) = server.rows("SELECT count(*) FROM record WHERE collection = ?", (collection,))
    return int(count)


def test_a_create_that_comes_again_is_answered_and_not_repeated(
    api: Api, server: Server, key: str, email: str
) -> None:
    first = create(api, key, {"email": email})
    before = record_count(server)

    for _ in range(3):
        again = create(api, key, {"email": email})
        assert again.gives(201) == first.gives(201)
        assert (again.headers[REPLAYED], again.etag, again.headers["Location"]) == (
            "true",
            first.etag,
            first.headers["Location"],
        )
    assert REPLAYED not in first.headers
    assert record_count(server) == before
    token = first.json["token"]
    entries = [(each["action"], each["result"], each["reason"]) for each in api.audit(token=token)]
    assert entries == [("record.create", "released", "replayed")] * 3 + [("record.create", "done", None)]


@pytest.mark.parametrize("is_atomic", [False, True])
def test_a_batch_that_comes_again_is_answered_and_not_repeated(
    api: Api, server: Server, key: str, email: str, *, is_atomic: bool
) -> None:
    changed, erased = (api.create({"n": n}).rpartition("/")[2] for n in range(2))
    operations = [
        {"op": "create", "data": {"email": email}},
        {"op": "update", "token": changed, "patch": {"n": 5}},
        {"op": "erase", "token": erased},
        {"op": "create", "data": {"email": email.upper()}},
        {"op": "update", "token": str(uuid.uuid4()), "patch": {}},
        {"op": "create", "data": {"email": SECRET}},
        {"op": "create", "data": {"n": 1}},
    ]
    if is_atomic:
        operations = operations[:3]
    first = batch(api, key, *operations, atomic=is_atomic)
    before = record_count(server)

    again = batch(api, key, *operations, atomic=is_atomic)

    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert record_count(server) == before
    assert again.gives(200)["failed"] == first.gives(200)["failed"] == (0 if is_atomic else 3)
    for one, other in zip(first.json["items"], again.json["items"], strict=True):
        if "problem" not in one:
            assert other == one
            continue
        # What was wrong is not kept.
        assert (other["status"], other["problem"]["type"]) == (one["status"], one["problem"]["type"])
        assert "errors" not in other["problem"]
    replayed = [each for each in api.audit(limit=20) if each["request_id"] == again.headers["Request-Id"]]
    assert {each["reason"] for each in replayed} == {"replayed"}
    assert len(replayed) == (3 if is_atomic else 4)


def test_the_header_has_no_effect_on_what_is_stored(api: Api, server: Server, key: str, email: str) -> None:
    """One key more or less: the record, its index rows and its entry are the same."""
    with_key = create(api, key, {"email": email}).gives(201)["token"]
    without = api.create({"email": f"b.{email}"}).rpartition("/")[2]
    (one,), (other,) = (api.audit(token=token) for token in (with_key, without))
    same = ("action", "result", "reason", "generation", "fields", "principal", "collection")
    assert [one[name] for name in same] == [other[name] for name in same]
    assert receipts(server, without) == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":{"n":1,"s":"\\u00e4/","t":true}}',
        b' {\n\t"data" : { "n": 1 , "s" : "\xc3\xa4\\/", "t": true } }\r\n',
    ],
)
def test_white_space_and_escapes_make_no_other_body(api: Api, key: str, body: bytes) -> None:
    headers = {"Idempotency-Key": key}
    first = api.post(RECORDS, body=b'{"data": {"n": 1, "s": "\xc3\xa4/", "t": true}}', headers=headers)

    again = api.post(RECORDS, body=body, headers=headers)

    assert again.gives(201) == first.gives(201)
    assert again.headers[REPLAYED] == "true"


@pytest.mark.parametrize(
    "body",
    [
        b'{"data": {"n": 2}}',
        b'{"data": {"n": 1.0}}',
        b'{"data": {"n": "1"}}',
        b'{"data": {"n": 1, "m": null}}',
        b'{"data": {"n": 1}, "expires_at": null}',
        b'{"data": {"n": 1}, "region": "DE"}',
        b'{"data": {"n": true}}',
        b'{"data": {}}',
        # None of these could be stored; the key was used for something else all the same.
        b'{"data": {"email": "hildegard"}}',
        b'{"data": {"n": ' + b"[" * 150 + b"]" * 150 + b"}}",
        b'{"data": {"n": ' + b"9" * 4_000 + b"}}",
    ],
)
def test_another_body_under_the_same_key_is_refused(
    api: Api, key: str, unchanged: Callable[..., Any], body: bytes
) -> None:
    headers = {"Idempotency-Key": key}
    first = api.post(RECORDS, body=b'{"data": {"n": 1}}', headers=headers).gives(201)

    with unchanged("record.create", "idempotency-mismatch"):
        answer = api.post(RECORDS, body=body, headers=headers)

    answer.refuses(422, "idempotency-mismatch", ("", "idempotency-key"))
    assert SECRET.encode() not in answer.body
    assert api.post(RECORDS, body=b'{"data": {"n": 1}}', headers=headers).gives(201) == first


def test_another_batch_under_the_same_key_is_refused(
    api: Api, key: str, unchanged: Callable[..., Any]
) -> None:
    one, two = {"op": "create", "data": {"n": 1}}, {"op": "create", "data": {"n": 2}}
    first = batch(api, key, one, two)
    for operations, members in (
        ([one], {}),
        ([one, two, two], {}),
        ([two, one], {}),
        ([one, one], {}),
        ([one, two], {"atomic": True}),
        ([one, {"op": "nonsense"}], {}),
    ):
        with unchanged("request", "idempotency-mismatch"):
            batch(api, key, *operations, **members).refuses(422, "idempotency-mismatch")
    assert batch(api, key, one, two, atomic=False).gives(200) == first.gives(200)
    # A batch is not told from one that says atomic: false.
    assert batch(api, key, one, two).headers[REPLAYED] == "true"


def test_a_key_belongs_to_a_path(api: Api, key: str, define: Callable[..., str], server: Server) -> None:
    other = define({})
    paths = [RECORDS, f"/v1/collections/{other}/records"]
    tokens = [create(api, key, {"n": 1}, path).gives(201)["token"] for path in paths]
    operation = {"op": "create", "data": {"n": 1}}
    items = [batch(api, key, operation, path=f"{path}/bulk").gives(200)["items"] for path in paths]
    tokens += [item["token"] for ((item),) in items]

    assert len(set(tokens)) == 4
    assert record_count(server, other) == 2


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"email": "no address"}, "schema-violation"),
        ({"login": "taken"}, "duplicate-value"),
    ],
)
def test_a_refused_request_leaves_no_key(
    api: Api, key: str, server: Server, wrong: dict[str, str], code: str, email: str
) -> None:
    taken = f"taken-{uuid.uuid4().hex}"
    api.create({"login": taken})
    wrong = {name: taken if value == "taken" else value for name, value in wrong.items()}
    status = 409 if code == "duplicate-value" else 422
    ((before,),) = server.rows("SELECT count(*) FROM idempotency_key")
    for _ in range(2):
        create(api, key, wrong).refuses(status, code)
        batch(api, key, {"op": "create", "data": {}}, {"op": "create", "data": wrong}, atomic=True).refuses(
            status, code
        )
    assert server.rows("SELECT count(*) FROM idempotency_key") == [(before,)]

    mended = create(api, key, {"email": email})

    assert mended.status == 201
    assert REPLAYED not in mended.headers


def test_a_create_refused_before_goes_through_once_nothing_is_in_its_way(
    api: Api, key: str, email: str
) -> None:
    holder = api.create({"email": email})
    create(api, key, {"email": email}).refuses(409, "duplicate-value")
    api.delete(holder).gives(204)
    first = create(api, key, {"email": email})
    assert REPLAYED not in first.headers
    assert create(api, key, {"email": email}).gives(201) == first.gives(201)


def test_a_replay_shows_the_record_as_it_is_now(api: Api, key: str, email: str) -> None:
    first = create(api, key, {"email": email})
    path = first.headers["Location"]
    api.put(path, {"data": {"email": f"new.{email}"}, "expires_at": "2999-01-01T00:00:00Z"}).gives(200)

    again = create(api, key, {"email": email})

    assert again.gives(201) == {k: v for k, v in api.get(path).json.items() if k in again.json}
    assert (again.json["generation"], again.headers[REPLAYED]) == (2, "true")
    assert again.headers["Location"] == path
    # The answer would tell a state that this request did not make.
    assert "ETag" not in again.headers
    (item,) = batch(api, f"b{key}", {"op": "create", "data": {"n": 1}}).gives(200)["items"]
    api.patch(f"{RECORDS}/{item['token']}", {"n": 2}).gives(200)
    (changed,) = batch(api, f"b{key}", {"op": "create", "data": {"n": 1}}).gives(200)["items"]
    assert (changed["status"], changed["generation"], changed["etag"]) == (201, 2, None)


def test_a_replay_after_the_erasure_stores_nobody_again(
    api: Api, server: Server, key: str, email: str
) -> None:
    token = create(api, key, {"email": email}).gives(201)["token"]
    ((_, _, _, body_hash),) = receipts(server, token)
    assert len(body_hash) == 32
    api.delete(f"{RECORDS}/{token}").gives(204)

    # No record has the body any more, and nothing that was made of it is left to compare another with.
    for data in ({"email": email}, {"email": f"other.{email}"}):
        create(api, key, data).refuses(410, "record-erased")
    assert api.lookup("email", email)["items"] == []
    assert receipts(server, token) == [(0, 201, None, None)]


def test_a_replayed_batch_says_which_of_its_records_are_gone(
    api: Api, server: Server, key: str, email: str
) -> None:
    changed = api.create({"n": 1}).rpartition("/")[2]
    operations = [
        {"op": "create", "data": {"email": email}},
        {"op": "create", "data": {"n": 1}},
        {"op": "update", "token": changed, "patch": {"email": f"b.{email}"}},
    ]
    gone, kept, _ = batch(api, key, *operations).gives(200)["items"]
    # Erased singly and in a batch.
    api.delete(f"{RECORDS}/{gone['token']}").gives(204)
    api.post(BULK, {"operations": [{"op": "erase", "token": changed}]}).gives(200)

    answered = batch(api, key, *operations).gives(200)

    assert answered["failed"] == 2
    assert [item["status"] for item in answered["items"]] == [410, 201, 410]
    assert answered["items"][0]["problem"]["type"] == "urn:strongroom:error:record-erased"
    assert answered["items"][1] == kept
    assert api.lookup("email", email)["items"] == []
    assert [each[3] for each in receipts(server, gone["token"])] == [None]
    assert [each[3] for each in receipts(server, changed)] == [None]
    assert [each[3] is None for each in receipts(server, kept["token"])] == [False]


def test_a_replay_of_an_expired_record_shows_nothing_of_it(api: Api, key: str) -> None:
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    operations = [{"op": "create", "data": {"n": 1}, "expires_at": soon}, {"op": "create", "data": {"n": 2}}]
    first = create(api, key, {"n": 1}, expires_at=soon).gives(201)
    token = batch(api, key, *operations).gives(200)["items"][0]["token"]
    time.sleep(1.1)

    refused = create(api, key, {"n": 1}, expires_at=soon)
    answered = batch(api, key, *operations).gives(200)

    refused.refuses(410, "record-expired")
    assert [item["status"] for item in answered["items"]] == [410, 201]
    assert answered["items"][0]["problem"]["type"] == "urn:strongroom:error:record-expired"
    for text in (refused.body.decode(), json.dumps(answered["items"][0])):
        assert token not in text
        assert first["token"] not in text


def test_an_erase_that_comes_again_is_done(api: Api, key: str, unchanged: Callable[..., Any]) -> None:
    token = api.create({"n": 1}).rpartition("/")[2]
    first = batch(api, key, {"op": "erase", "token": token})
    with unchanged("record.erase", "replayed", "released"):
        again = batch(api, key, {"op": "erase", "token": token})
    assert again.gives(200) == first.gives(200) == {"items": [{"status": 204, "token": token}], "failed": 0}
    # Without the key it is another request.
    api.delete(f"{RECORDS}/{token}").refuses(410, "record-erased")


MALFORMED = ["", " ", "a b", "x" * 129, "\u00fc", "caf\u00e9", "a\tb", "a\u00a0b"]


def raw(server: Server, method: str, path: str, key: bytes, document: Any) -> tuple[int, str]:
    """Ask with a header as these very bytes; return status and problem code."""
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(document).encode()
    with closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
        connection.putrequest(method, path)
        connection.putheader("Authorization", f"Bearer {server.credential}")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.putheader("Idempotency-Key", key)
        connection.endheaders(body)
        response = connection.getresponse()
        text = response.read()
    code = json.loads(text)["type"] if text[:1] == b"{" and response.status >= 400 else ""
    return response.status, code.removeprefix("urn:strongroom:error:")


@pytest.mark.parametrize("path", [RECORDS, BULK])
@pytest.mark.parametrize("text", MALFORMED)
def test_a_key_of_another_form_is_refused(
    server: Server, unchanged: Callable[..., Any], text: str, path: str
) -> None:
    document = {"data": {}} if path == RECORDS else {"operations": [{"op": "create", "data": {}}]}
    action = "record.create" if path == RECORDS else "request"
    for encoding in ("utf-8", "latin-1"):
        with unchanged(action, "idempotency-key"):
            assert raw(server, "POST", path, text.encode(encoding), document) == (422, "idempotency-key")


@pytest.mark.parametrize("control", [b"a\x00b", b"a\x01b", b"\x7f"])
def test_a_key_with_control_characters_never_gets_in(server: Server, control: bytes) -> None:
    """The HTTP layer ends such a connection, or we refuse it."""
    before = record_count(server)
    try:
        status, _ = raw(server, "POST", RECORDS, control, {"data": {}})
    except (http.client.HTTPException, OSError):
        status = 400
    assert status in {400, 422}
    assert record_count(server) == before


def test_a_key_of_128_characters_is_taken(api: Api) -> None:
    longest = uuid.uuid4().hex + "~" * 96
    token = create(api, longest, {"n": 1}).gives(201)["token"]
    assert create(api, longest, {"n": 1}).gives(201)["token"] == token


def test_a_key_is_refused_where_it_would_have_no_effect(
    api: Api, server: Server, key: str, unchanged: Callable[..., Any]
) -> None:
    path = api.create({"n": 1})
    token = path.rpartition("/")[2]
    get, lookup = {"op": "get", "token": token}, {"op": "lookup", "field": "login", "value": "x"}
    new = {"op": "create", "data": {}}
    schema = {"schema": {"type": "object"}}
    headers = {"Idempotency-Key": key}
    for action, send in (
        ("record.read", lambda: api.get(path, headers=headers)),
        ("record.read", lambda: api.request("HEAD", path, headers=headers)),
        ("record.list", lambda: api.get(RECORDS, headers=headers)),
        ("record.lookup", lambda: api.post(f"{RECORDS}/lookup", lookup, headers=headers)),
        ("record.update", lambda: api.put(path, {"data": {}}, headers=headers)),
        ("record.update", lambda: api.patch(path, {"n": 2}, headers=headers)),
        ("record.erase", lambda: api.delete(path, headers=headers)),
        ("erasure.read", lambda: api.get(f"{path}/erasure", headers=headers)),
        ("collection.define", lambda: api.put("/v1/collections/new_one", schema, headers=headers)),
        ("collection.read", lambda: api.get("/v1/collections/users", headers=headers)),
        ("keyring.read", lambda: api.get("/v1/keyrings", headers=headers)),
        ("audit.search", lambda: api.post("/v1/audit/search", {}, headers=headers)),
        ("request", lambda: batch(api, key, new, get)),
        ("request", lambda: batch(api, key, lookup, new)),
        ("request", lambda: batch(api, key, new, dry_run=True)),
        ("request", lambda: batch(api, key, get, dry_run=True)),
    ):
        with unchanged(action, "idempotency-key"):
            answer = send()
        assert answer.status == 422, action
        if answer.body:
            answer.refuses(422, "idempotency-key", ("", "idempotency-key"))
    ((found,),) = server.rows(
        "SELECT count(*) FROM idempotency_key WHERE token = ?", (uuid.UUID(token).bytes,)
    )
    assert found == 0


def test_nothing_of_key_or_body_stands_in_the_database_or_the_log(api: Api, server: Server) -> None:
    key = f"key-{uuid.uuid4().hex}"
    value = f"{SECRET}{uuid.uuid4().hex}"
    create(api, key, {"login": value})
    batch(api, key, {"op": "create", "data": {"name": value}}, {"op": "create", "data": {"login": value}})
    create(api, key, {"login": value, "n": 1}).refuses(422, "idempotency-mismatch")
    rows = server.rows("SELECT * FROM idempotency_key ORDER BY id DESC LIMIT 4")
    for column in (column for row in rows for column in row):
        text = column if isinstance(column, str) else repr(column)
        assert key not in text
        assert value not in text
    assert server.files_with(value.encode()) == []
    assert server.files_with(key.encode()) == []


@pytest.fixture
def vault(database_home: DatabaseHome, tmp_path: Path) -> Iterator[InProcess]:
    assert database_home
    made = InProcess.create(tmp_path / "data")
    yield made
    assert made.findings() == []
    made.close()


def test_a_key_belongs_to_a_principal(vault: InProcess) -> None:
    sign = vault.vault.keyrings.authenticator("default").sign
    other = mint_credential()
    now = vault.clock()
    principal = PrincipalRow(tenant="default", name="other", role=Role.ADMINISTRATOR.value, created_at=now)
    credential = CredentialRow(
        tenant="default",
        credential_id=other.credential_id,
        principal="other",
        secret_sha256=secret_sha256(other.text),
        created_at=now,
    )
    event = AuditEvent(action=Action.CREDENTIAL_CREATE, result=Result.DONE, tenant="default")
    vault.vault.stores.credentials.create(
        sign(principal), sign(credential), vault.vault.services.trail.entry(event)
    )
    theirs = InProcess(vault.folder, other.text)
    body = {"data": {"n": 1}}
    mine = [vault.post(RECORDS, body, Idempotency_Key="k").gives(201)["token"] for _ in range(2)]
    others = [theirs.post(RECORDS, body, Idempotency_Key="k").gives(201)["token"] for _ in range(2)]
    theirs.close()
    assert mine[0] == mine[1]
    assert others[0] == others[1] != mine[0]


def test_a_batch_whose_twin_is_at_work_is_told_to_wait(
    vault: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deterministically: the first stands still in the middle of its work until the second has its answer."""
    whole, is_at_work, may_go_on = SqlRecordStore.batch, threading.Event(), threading.Event()

    def slow(self: SqlRecordStore, plan: Any) -> Any:
        is_at_work.set()
        assert may_go_on.wait(30)
        return whole(self, plan)

    monkeypatch.setattr(SqlRecordStore, "batch", slow)
    body = {"operations": [{"op": "create", "data": {"n": 1}}]}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(vault.post, BULK, body, Idempotency_Key="k")
        assert is_at_work.wait(30)
        try:
            answers = [vault.post(BULK, body, Idempotency_Key="k") for _ in range(2)]
        finally:
            may_go_on.set()
        done = first.result(30)

    for answer in answers:
        answer.refuses(409, "idempotency-in-flight")
        assert answer.headers["Retry-After"] == "1"
    again = vault.post(BULK, body, Idempotency_Key="k")
    assert again.gives(200) == done.gives(200)
    assert again.headers[REPLAYED] == "true"
    assert vault.rows("SELECT count(*) FROM record") == [(1,)]
    reasons = vault.rows("SELECT result, reason FROM audit_entry ORDER BY id DESC LIMIT 4")
    assert sorted(reasons, key=str) == [
        ("done", None),
        ("refused", "idempotency-in-flight"),
        ("refused", "idempotency-in-flight"),
        ("released", "replayed"),
    ]


def test_a_key_is_free_again_after_a_request_that_failed(
    vault: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"operations": [{"op": "create", "data": {"n": 1}}]}
    with monkeypatch.context() as broken:

        def fails(*_: Any) -> Any:
            raise ZeroDivisionError

        broken.setattr(SqlRecordStore, "batch", fails)
        broken.setattr(SqlRecordStore, "create", fails)
        vault.post(BULK, body, Idempotency_Key="k").refuses(500, "internal")
        vault.post(RECORDS, {"data": {}}, Idempotency_Key="k").refuses(500, "internal")

    for answer in (
        vault.post(BULK, body, Idempotency_Key="k"),
        vault.post(RECORDS, {"data": {}}, Idempotency_Key="k"),
    ):
        assert answer.status in {200, 201}
        assert REPLAYED not in answer.headers
