"""Who may come in, and what somebody learns who may not."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Answer, Api, Server

pytestmark = pytest.mark.own_home

RECORDS = "/v1/collections/users/records"


def _unknown_credential() -> str:
    return "strongroom_" + base64.urlsafe_b64encode(os.urandom(32)).rstrip(b"=").decode()


def _tally(server: Server) -> dict[str, int]:
    """Counts by reason: in the running minute's tally, and in entries made of earlier ones."""
    found: dict[str, int] = {}
    for reason, count in server.rows("SELECT reason, count FROM refusal_tally"):
        found[reason] = found.get(reason, 0) + count
    for (canonical,) in server.rows(
        "SELECT canonical FROM audit_entry WHERE principal IS NULL AND action = 'request'"
    ):
        entry = json.loads(canonical)
        found[entry["reason"]] = found.get(entry["reason"], 0) + entry["count"]
    return found


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "missing"),
        ("", "missing"),
        ("Basic YWRtaW46YWRtaW4=", "malformed"),
        ("Bearer", "malformed"),
        ("Bearer ", "malformed"),
        ("Bearer secret", "malformed"),
        ("Bearer strongroom_" + "A" * 42, "malformed"),
        ("Bearer strongroom_" + "A" * 44, "malformed"),
        ("Bearer " + "x" * 5_000, "malformed"),
        # granian hands over a header that is not ASCII as an empty one.
        ("Bearer strongroom_" + "ä".encode().decode("latin-1") * 43, "missing"),
        ("Bearer strongroom_" + "A" * 43, "invalid"),
        ("{credential}", "malformed"),
        ("Bearer {credential} x", "malformed"),
        ("Bearer {credential},{credential}", "malformed"),
    ],
    ids=lambda value: "" if value is None or "." in str(value) else str(value)[:28],
)
@pytest.mark.parametrize("call", ["read", "create", "unknown url", "unknown method"])
def test_nobody_comes_in_without_a_credential(
    make_api: Callable[..., Api],
    server: Server,
    unchanged: Callable[..., Any],
    header: str | None,
    reason: str,
    call: str,
) -> None:
    stranger = make_api(server.url)
    headers = {} if header is None else {"Authorization": header.format(credential=server.credential)}
    before = _tally(server)
    with unchanged():
        answer = {
            "read": lambda: stranger.get(RECORDS, headers=headers),
            "create": lambda: stranger.post(RECORDS, body=b"{broken", headers=headers),
            "unknown url": lambda: stranger.get("/v1/nothing", headers=headers),
            "unknown method": lambda: stranger.request("BREW", RECORDS, headers=headers),
        }[call]()
    answer.refuses(401, "not-authenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="strongroom"'
    assert _tally(server) == before | {reason: before.get(reason, 0) + 1}


def test_the_scheme_s_case_does_not_matter(make_api: Callable[..., Api], server: Server) -> None:
    make_api(server.url).get(RECORDS, headers={"Authorization": f"bearer {server.credential}"}).gives(200)


def test_a_new_credential_ends_the_old_one_and_nobody_can_tell_it_ever_was(
    start_server: Callable[..., Server],
    make_api: Callable[..., Api],
    strongroom: Callable[..., Any],
    tmp_path: Path,
) -> None:
    server = start_server()
    old, new_file = server.api, tmp_path / "new"
    path = old.create({"n": 1})
    done = strongroom("init", "--new-credential", "--data", server.data, "--credential-file", new_file)
    assert done.returncode == 0, done.stderr
    assert new_file.stat().st_mode & 0o777 == 0o600
    credential = new_file.read_text().strip()
    assert credential not in done.stdout + done.stderr
    assert server.credential not in done.stdout + done.stderr

    def seen(answer: Answer) -> Any:
        problem = answer.refuses(401, "not-authenticated")
        headers = {
            name: value
            for name, value in answer.headers.items()
            if name.lower() not in {"request-id", "date"}
        }
        return {name: value for name, value in problem.items() if name != "request_id"}, headers

    assert seen(old.get(path)) == seen(make_api(server.url, _unknown_credential()).get(path))
    new = make_api(server.url, credential)
    assert new.plain(path) == {"n": 1}
    (entry,) = new.audit(action="credential.create", limit=1)
    assert entry["result"] == "done"
    revoked = "SELECT count(*), count(revoked_at) FROM credential"
    assert server.rows(revoked) == [(2, 1)]
    assert server.stop() == 0
    assert credential not in server.log
    assert server.credential not in server.log
    assert strongroom("verify", "--data", server.data).returncode == 0


@pytest.mark.parametrize("purpose", ["a", "x" * 64, "support:ticket-5.1_a"])
def test_a_purpose_is_recorded(api: Api, purpose: str) -> None:
    answer = api.post(RECORDS, {"data": {}}, headers={"Strongroom-Purpose": purpose})
    token = answer.gives(201)["token"]
    api.get(f"{RECORDS}/{token}")
    (entry,) = api.audit(token=token, purpose=purpose)
    assert (entry["purpose"], entry["action"]) == (purpose, "record.create")


@pytest.mark.parametrize("purpose", ["", "x" * 65, "Support", "a b", "ä".encode().decode("latin-1"), "a/b"])
def test_a_purpose_of_another_form_is_refused(api: Api, unchanged: Callable[..., Any], purpose: str) -> None:
    with unchanged("record.create", "purpose"):
        api.post(RECORDS, {"data": {}}, headers={"Strongroom-Purpose": purpose}).refuses(
            422, "purpose", ("", "purpose")
        )


def test_a_collection_can_demand_a_purpose_of_every_access(
    api: Api, define: Callable[..., str], unchanged: Callable[..., Any]
) -> None:
    name = define({"email": {"type": "string", "x-index": "lookup"}}, purpose_required=True)
    records, why = f"/v1/collections/{name}/records", {"Strongroom-Purpose": "billing"}
    path = api.post(records, {"data": {"email": "a"}}, headers=why).headers["Location"]
    for action, send in (
        ("record.create", lambda headers: api.post(records, {"data": {}}, headers=headers)),
        ("record.list", lambda headers: api.get(records, headers=headers)),
        (
            "record.lookup",
            lambda headers: api.post(f"{records}/lookup", {"field": "email", "value": "a"}, headers=headers),
        ),
        ("record.read", lambda headers: api.get(path, headers=headers)),
        ("record.update", lambda headers: api.put(path, {"data": {"email": "b"}}, headers=headers)),
        ("record.update", lambda headers: api.patch(path, {"email": "c"}, headers=headers)),
        ("record.erase", lambda headers: api.delete(path, headers=headers)),
    ):
        with unchanged(action, "purpose-required"):
            send({}).refuses(422, "purpose-required", ("", "purpose-required"))
        assert send(why).status < 300
    entries = api.audit(collection=name, purpose="billing")
    assert len(entries) == 8
