"""A hundred distinctive values go through every door of the vault, and none is found anywhere it left a byte."""

from __future__ import annotations

import base64
import json
import sqlite3
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.faults.live_server import Caller, LiveServer, children_of, running
from tests.faults.small_vault import SmallVault, make_empty_vault, say

pytestmark = pytest.mark.sqlite_only("looks at SQLite's own files")

USERS = "/v1/collections/users/records"


def canaries() -> dict[str, list[str]]:
    """Values by kind. Each has a core that occurs nowhere else."""
    return {
        "name": [f"Zoë Quiztal{n}Wyrm" for n in range(20)],
        "email": [f"Qanary.{n}.Xylo@Mail{n}.Example.org" for n in range(20)],
        "phone": [f"+4930{7130045 + 7919 * n}" for n in range(20)],
        "login": [f"Loginqx{n}Vorpal" for n in range(20)],
        "free": [f"free/text {n} \u2603 “Jabberwokk{n}”" for n in range(20)],
    }


def forms_of(value: str) -> Iterator[bytes]:
    """Every way in which a value could have been written down."""
    for text in {value, value.lower(), value.upper(), value.casefold(), value.removeprefix("+")}:
        raw = text.encode()
        yield raw
        yield raw.hex().encode()
        yield raw.hex().upper().encode()
        yield text.encode("utf-16-le")
        yield text.encode("utf-16-be")
        yield urllib.parse.quote(text).encode()
        yield urllib.parse.quote_plus(text).encode()
        yield json.dumps(text)[1:-1].encode()
        yield repr(text)[1:-1].encode()
        for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
            for offset in range(3):
                # The characters that depend on neighbouring bytes are cut off.
                encoded = alphabet(b"\0" * offset + raw)
                yield encoded[(0, 2, 3)[offset] : len(encoded) // 4 * 4 - 4]


def places(server: LiveServer | None, folder: Path, *logs: Path) -> dict[str, bytes]:
    """Everything that could hold a value: files, logs, and what other users see of the processes."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found |= {log.name: log.read_bytes() for log in logs}
    if server is not None:
        for pid in (server.pid, *children_of(server.pid)):
            for name in ("cmdline", "environ"):
                found[f"/proc/{pid}/{name}"] = Path(f"/proc/{pid}/{name}").read_bytes()
    return found


def leaks(values: Mapping[str, list[str]], where: Mapping[str, bytes]) -> list[str]:
    needles = {
        form: f"{kind} {value!r}"
        for kind, each in values.items()
        for value in each
        for form in forms_of(value)
    }
    everything = b"\xff\xfe\xff".join(where.values())
    return [
        f"{what} as {form!r} in {[name for name, content in where.items() if form in content]}"
        for form, what in needles.items()
        if form in everything
    ]


@pytest.fixture
def made(tmp_path: Path) -> SmallVault:
    return make_empty_vault(tmp_path / "data")


@pytest.mark.parametrize("kind", ["name", "email", "phone", "login", "free"])
def test_the_scan_finds_what_is_there(kind: str) -> None:
    value = canaries()[kind][7]
    forms = set(forms_of(value))
    assert len(forms) > 10
    assert min(map(len, forms)) >= 8
    for form in forms:
        assert leaks({kind: [value]}, {"a": b"\x01", "file": b"some bytes " + form + b" and more"})


def live_through(caller: Caller, values: dict[str, list[str]]) -> None:
    """Store, find, miss, change, refuse and audit."""
    tokens = []
    for n in range(20):
        document = {kind: each[n] for kind, each in values.items() if kind != "free"}
        document["nested"] = {"list": [values["free"][n], {"deep": values["free"][n]}]}
        # Somebody uses personal values as field names, too.
        document[values["free"][n]] = n
        reply = caller.ask("POST", USERS, {"data": document})
        assert reply.status == 201, reply.body
        tokens.append(reply.json["token"])
        again = caller.ask("POST", USERS, {"data": document})
        assert again.problem == (409, "duplicate-value")
        assert not any(value in again.body.decode() for each in values.values() for value in each)
    for n, token in enumerate(tokens):
        path = f"{USERS}/{token}"
        for field in ("email", "phone", "login"):
            found = caller.ask("POST", f"{USERS}/lookup", {"field": field, "value": values[field][n]})
            assert [item["token"] for item in found.json["items"]] == [token]
        shown = caller.ask("GET", f"{path}?reveal=plain").json["data"]
        assert shown["name"] == values["name"][n]
        masked = caller.ask("GET", path).json["data"]
        changed = shown | {"name": values["name"][-1 - n], "email": values["email"][n].replace("@", "+new@")}
        assert caller.ask("PUT", path, {"data": changed}).status == 200
        assert caller.ask("PUT", path, {"data": changed | {"email": masked["email"]}}).status == 422
        person = {"collection": "users", "field": "login", "value": values["login"][n]}
        assert caller.ask("POST", "/v1/audit/search", {"person": person}).json["items"]
        if n % 4 == 0:
            refuse(caller, path, {kind: each[n] for kind, each in values.items()})
    for token in tokens[::2]:
        assert caller.ask("DELETE", f"{USERS}/{token}").status == 204
    in_batches(caller, values, tokens)


def in_batches(caller: Caller, values: dict[str, list[str]], tokens: list[str]) -> None:
    """The same in batches, and with keys that are values themselves."""
    bulk = f"{USERS}/bulk"
    documents = [{kind: each[n] for kind, each in values.items()} for n in range(0, 20, 2)]
    creates = [{"op": "create", "data": data | {"phone": None}} for data in documents]
    body = {"operations": [*creates, *creates]}
    for members in ({"dry_run": True}, {"atomic": True}):
        caller.ask("POST", bulk, body | members)
    for _ in range(2):
        # Half of them are refused as duplicates, and all come again.
        reply = caller.ask("POST", bulk, body, Idempotency_Key=values["login"][0])
        assert (reply.status, reply.json["failed"]) == (200, 10)
        assert not any(value in reply.body.decode() for each in values.values() for value in each)
    made = [item["token"] for item in reply.json["items"][:10]]
    data = {"name": values["name"][0], "nested": values["free"]}
    for document in (data, data, data | {values["free"][1]: 1}):
        again = caller.ask("POST", USERS, {"data": document}, Idempotency_Key=values["login"][1])
    assert again.problem == (422, "idempotency-mismatch")
    reads = [
        *({"op": "get", "token": token, "fields": ["name", values["free"][2]]} for token in made),
        *({"op": "lookup", "field": "login", "value": value} for value in values["login"]),
        *({"op": "lookup", "field": "email", "value": value} for value in values["name"]),
    ]
    assert caller.ask("POST", bulk, {"operations": reads}).json["failed"] == 20
    changes = [{"op": "update", "token": token, "patch": data} for token in (*made[:5], *tokens)]
    assert caller.ask("POST", bulk, {"operations": changes}, Idempotency_Key=values["login"][2]).status == 200
    erasures = [{"op": "erase", "token": token, "if_match": values["free"][3]} for token in made[:3]]
    erasures += [{"op": "erase", "token": token} for token in made[3:7]]
    assert caller.ask("POST", bulk, {"operations": erasures}).json["failed"] == 3
    in_wrong_batches(caller, {kind: each[5] for kind, each in values.items()})


def in_wrong_batches(caller: Caller, value: dict[str, str]) -> None:
    wrong: list[Any] = [
        value["free"], {"op": value["free"]}, {"op": "create", "data": value["free"]},
        {"op": "create", "data": {"email": value["name"]}}, {"op": "create", "data": {}, value["free"]: 1},
        {"op": "create", "data": {}, "region": value["free"]}, {"op": "get", "token": value["login"]},
        {"op": "create", "data": {}, "expires_at": value["free"]}, {"op": "erase", "token": [value["free"]]},
        {"op": "get", "token": "x", "reveal": value["free"]}, {"op": "update", "token": value["free"]},
        {"op": "lookup", "field": value["name"], "value": value["free"]},
        {"op": "lookup", "field": "phone", "value": value["free"]},
    ]  # fmt: skip
    nowhere = f"/v1/collections/{urllib.parse.quote(value['free'], safe='')}/records/bulk"
    for operations in (*([each] for each in wrong), wrong):
        for path, members in ((f"{USERS}/bulk", {}), (f"{USERS}/bulk", {"atomic": True}), (nowhere, {})):
            reply = caller.ask("POST", path, {"operations": operations} | members)
            assert reply.status >= 400 or reply.json["failed"] == len(operations), (operations, reply.body)
            assert not any(each in reply.body.decode() for each in value.values()), reply.body
    for members in ({value["free"]: 1}, {"atomic": value["free"]}, {"operations": value["free"]}):
        reply = caller.ask("POST", f"{USERS}/bulk", {"operations": wrong} | members)
        assert reply.status == 422
        assert not any(each in reply.body.decode() for each in value.values()), reply.body


def refuse(caller: Caller, path: str, value: dict[str, str]) -> None:
    """Everything that is refused, with a value in the wrong place."""
    quoted = urllib.parse.quote(value["free"], safe="")
    wrong: list[tuple[int, str, str, Any, dict[str, str]]] = [
        (422, "POST", USERS, {"data": {"email": value["name"]}}, {}),
        (422, "POST", USERS, {"data": {"phone": value["free"]}}, {}),
        (422, "POST", USERS, {"data": {"login": {value["login"]: value["free"]}}}, {}),
        (422, "POST", USERS, {"data": value["free"]}, {}),
        (422, "POST", USERS, {"data": {}, "region": value["free"]}, {}),
        (422, "POST", USERS, {"data": {}, value["free"]: 1}, {}),
        (422, "POST", USERS, {"data": {}, "expires_at": value["free"]}, {}),
        (422, "POST", f"{USERS}/lookup", {"field": value["name"], "value": value["free"]}, {}),
        (422, "POST", f"{USERS}/lookup", {"field": "phone", "value": value["free"]}, {}),
        (422, "POST", "/v1/audit/search", {"purpose": [value["free"]]}, {}),
        (404, "GET", f"{USERS}/{quoted}", None, {}),
        (404, "GET", f"/v1/collections/{quoted}/records", None, {}),
        (404, "GET", f"/{quoted}", None, {}),
        (200, "GET", f"{path}?fields={quoted}", None, {}),
        (422, "GET", f"{path}?{quoted}=1", None, {}),
        (422, "GET", f"{path}?reveal={quoted}", None, {}),
        (422, "GET", path, None, {"Strongroom_Purpose": f"for {value['login']}"}),
        (401, "GET", path, None, {"Authorization": f"Bearer {value['login']}"}),
        (401, "GET", path, None, {"Authorization": f"Basic {value['login']}"}),
        (412, "DELETE", path, None, {"If_Match": '"AAAAAAAAAAA"'}),
    ]
    for status, method, where, document, headers in wrong:
        reply = caller.ask(method, where, document, **headers)
        assert reply.status in {status, 400, 422, 404} if status >= 400 else reply.status == status, (
            method,
            where,
            document,
            reply.status,
            reply.body,
        )
        if status != 200:
            text = reply.body.decode()
            assert not any(each in text for each in value.values()), text


def test_no_value_is_found_anywhere(made: SmallVault, tmp_path: Path) -> None:
    values = canaries()
    log = tmp_path / "server.log"
    with running(made.folder, made.credential, log) as server:
        with server.caller() as caller:
            live_through(caller, values)
        while_running = places(server, made.folder, log)
        during = leaks(values, while_running)
    after_the_end = places(None, made.folder, log)

    size = sum(map(len, while_running.values()))
    say(f"{sum(map(len, values.values()))} values scanned for in {len(while_running)} places, {size:,} bytes")
    with closing(sqlite3.connect(made.database)) as connection:
        kept = connection.execute("SELECT status, length(request_hash) FROM idempotency_key").fetchall()
    # Two batches, of 20 and 25 operations, and a create.
    assert len(kept) == 21 + 26 + 1
    assert {length for _, length in kept} == {32}
    # What the vault may write down is there: the scan looked at the right bytes.
    assert any(b"users" in content and b"record.lookup" in content for content in while_running.values())
    assert during == []
    assert leaks(values, after_the_end) == []
    assert made.findings() == []


def test_no_key_and_no_credential_is_found_anywhere(made: SmallVault, tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with running(made.folder, made.credential, log) as server:
        with server.caller() as caller:
            token = caller.ask("POST", USERS, {"data": {"email": "a@example.org"}}).json["token"]
            caller.ask("GET", f"{USERS}/{token}?reveal=plain")
        found = places(server, made.folder, log)
    material = [
        version["material"]
        for key in json.loads(found["keys.json"])["keys"].values()
        for version in key["versions"]
    ]
    assert material
    secret = made.credential.removeprefix("strongroom_")
    secrets = [made.credential.encode(), secret.encode(), base64.urlsafe_b64decode(secret + "=")]
    needles = {*secrets, *(each.hex().encode() for each in secrets), *(each[:20] for each in secrets[1:])}
    keys: set[bytes] = set()
    for text in material:
        key = base64.b64decode(text)
        assert len(key) == 32
        keys |= {key, key[:16], key[16:], key.hex().encode(), text.encode(), base64.urlsafe_b64encode(key)}
    for name, content in found.items():
        assert not [needle for needle in needles if needle in content], f"credential in {name}"
        if name != "keys.json":
            assert not [key for key in keys if key in content], f"key in {name}"
    assert any(text.encode() in found["keys.json"] for text in material)


def test_a_crash_in_the_application_writes_no_value(
    made: SmallVault, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody foresaw has the value in its message; the log and the answer have not."""
    from vault.api.app import create_app

    value = canaries()["free"][0]
    with made.opened() as vault:
        client = create_app(vault.services).test_client()

        def explode(*_: Any, **__: Any) -> None:
            raise RuntimeError(f"cannot store {value}")

        vault.services.records._until_fresh = explode  # type: ignore[assignment]
        vault.stores.records.batch = explode  # type: ignore[assignment]
        path, data = "/v1/collections/people/records", {"note": value}
        headers = {"Authorization": f"Bearer {made.credential}", "Idempotency-Key": "key-1"}
        answers = [
            client.post(path, json={"data": data}, headers=headers),
            client.post(
                f"{path}/bulk", json={"operations": [{"op": "create", "data": data}]}, headers=headers
            ),
        ]

    for answer in answers:
        assert answer.status_code == 500
        assert answer.json is not None
        assert answer.json["type"] == "urn:strongroom:error:internal"
    written = {"answers": b"".join(answer.data for answer in answers), "log": caplog.text.encode()}
    assert b"RuntimeError" in written["log"]
    assert leaks({"free": [value]}, written) == []
